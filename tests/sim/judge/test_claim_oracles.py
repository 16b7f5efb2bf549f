"""I41: the oracles of the recipes fire where something is held twice, done twice or lost."""

from collections.abc import Callable

import pytest

from viewstamp.core.judge import InvariantViolated
from viewstamp.sim.judge.invariants.claims import ClaimOracle, Holder, QueueOracle


def holder(client: int, token: int, weight: int = 1, *, sure: bool = True) -> Holder:
    return Holder(client, 1, token, weight, lambda: sure)


def over_granted(oracle: ClaimOracle) -> None:
    oracle.entered("a", holder(1, 10, 2))
    oracle.entered("a", holder(2, 11, 2))


def older_token_later(oracle: ClaimOracle) -> None:
    first = holder(1, 10, 3)
    oracle.entered("a", first)
    oracle.left("a", first)
    oracle.entered("a", holder(2, 10))


def certain_though_overtaken(oracle: ClaimOracle) -> None:
    believes = [False]
    first = Holder(1, 1, 10, 3, lambda: believes[0])
    oracle.entered("a", first)
    oracle.entered("a", holder(2, 11, 3))
    believes[0] = True
    oracle.left("a", first)


@pytest.mark.parametrize("plant", [over_granted, older_token_later, certain_though_overtaken])
def test_what_does_not_fit_together_is_noticed(plant: Callable[[ClaimOracle], None]) -> None:
    with pytest.raises(InvariantViolated, match="I41 Claims"):
        plant(ClaimOracle(3))


def test_one_that_is_not_certain_may_be_overtaken() -> None:
    oracle = ClaimOracle(3)
    first = holder(1, 10, 3, sure=False)
    oracle.entered("a", first)
    oracle.entered("a", holder(2, 11, 2))
    oracle.entered("a", holder(3, 11, 1))
    oracle.left("a", first)
    assert (oracle.entries, oracle.unsure) == (3, 2)


def taken_twice(oracle: QueueOracle) -> None:
    oracle.entered("q", 1, holder(1, 10))
    oracle.entered("q", 1, holder(2, 11))


def taken_under_an_old_token(oracle: QueueOracle) -> None:
    oracle.entered("q", 1, holder(1, 10, sure=False))
    oracle.entered("q", 1, holder(2, 10))


def done_twice(oracle: QueueOracle) -> None:
    oracle.entered("q", 1, holder(1, 10))
    for _ in range(2):
        oracle.acknowledged("q", 1, holder(1, 10))


def done_by_one_that_was_overtaken(oracle: QueueOracle) -> None:
    oracle.entered("q", 1, holder(1, 10, sure=False))
    oracle.entered("q", 1, holder(2, 11))
    oracle.acknowledged("q", 1, holder(1, 10))


def taken_when_done(oracle: QueueOracle) -> None:
    oracle.entered("q", 1, first := holder(1, 10))
    oracle.acknowledged("q", 1, first)
    oracle.left("q", 1, first)
    oracle.entered("q", 1, holder(2, 11))


def lost(oracle: QueueOracle) -> None:
    oracle.put.add(("q", 1))
    oracle.ended(set())


def back(oracle: QueueOracle) -> None:
    oracle.put.add(("q", 1))
    oracle.entered("q", 1, holder(1, 10))
    oracle.acknowledged("q", 1, holder(1, 10))
    oracle.ended({("q", 1)})


@pytest.mark.parametrize(
    "plant",
    [
        taken_twice,
        taken_under_an_old_token,
        done_twice,
        done_by_one_that_was_overtaken,
        taken_when_done,
        lost,
        back,
    ],
)
def test_an_item_that_is_lost_or_done_twice_is_noticed(plant: Callable[[QueueOracle], None]) -> None:
    with pytest.raises(InvariantViolated, match="I41 Claims"):
        plant(QueueOracle())


def test_an_item_may_be_there_or_done_where_nobody_knows() -> None:
    oracle = QueueOracle()
    oracle.put.add(("q", 1))
    oracle.perhaps["q", 1] += 1
    oracle.ended(set())
    oracle.ended({("q", 1)})
