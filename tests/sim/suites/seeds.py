"""How many seeds each test of the suites runs with."""

import os
from collections.abc import Iterable

import pytest

_WANTED = int(os.environ.get("VIEWSTAMP_SUITE_SEEDS", "0"))
"""`VIEWSTAMP_SUITE_SEEDS=100 pytest tests/sim/suites` repeats every test with a hundred seeds."""
SEEDS = range(1, 1 + (_WANTED or 3))
FEW_SEEDS = range(1, 1 + (_WANTED or 1))

every_seed = pytest.mark.parametrize("seed", SEEDS)
few_seeds = pytest.mark.parametrize("seed", FEW_SEEDS)
"""For tests that take seconds."""


def with_seeds(names: Iterable[str]) -> pytest.MarkDecorator:
    """Let a test have each name with several seeds where the network is unreliable, and else with one."""
    chosen = [(name, seed) for name in names for seed in (SEEDS if "unreliable" in name else FEW_SEEDS)]
    return pytest.mark.parametrize(("name", "seed"), chosen)
