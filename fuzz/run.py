"""Fuzz one target: `python -m fuzz.run TARGET [libFuzzer's options and folders]`. Needs atheris."""

import sys
from itertools import islice
from random import Random
from typing import Final

import atheris

with atheris.instrument_imports(include=["viewstamp", "fuzz.targets"]):
    from fuzz.targets import SEEDS, TARGETS, Target

GRAMMAR_ONE_IN: Final = 24
"""How many mutations are libFuzzer's own for each input that the grammar makes."""
_KEPT: Final = 512


class Mutator:
    """Mixes inputs of the grammar into those that libFuzzer makes."""

    def __init__(self, target: Target) -> None:
        self._inputs = [data for seed in range(SEEDS) for data in islice(target.seeds(seed), _KEPT // SEEDS)]

    def __call__(self, data: bytes, max_size: int, seed: int) -> bytes:
        """Return another input (libFuzzer's custom mutator)."""
        rng = Random(seed)
        choice = rng.randrange(GRAMMAR_ONE_IN)
        if choice > 1:
            return bytes(atheris.Mutate(data, min(max_size, len(data) + 64)))
        made = rng.choice(self._inputs)[:max_size]
        if choice:
            return made
        cut = rng.randrange(len(data) + 1)
        return (data[:cut] + made[rng.randrange(len(made) + 1) :])[:max_size]


def main() -> None:
    """Run until libFuzzer ends."""
    target = TARGETS[sys.argv[1]]
    arguments = [sys.argv[0], *sys.argv[2:]]
    atheris.Setup(arguments, target.run, custom_mutator=Mutator(target))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
