"""How many seeds each test of the suites runs with."""

import os

import pytest

SEEDS = range(1, 1 + int(os.environ.get("VIEWSTAMP_SUITE_SEEDS", "1")))
"""`VIEWSTAMP_SUITE_SEEDS=100 pytest tests/sim/suites` repeats every test with a hundred seeds."""

every_seed = pytest.mark.parametrize("seed", SEEDS)
