"""I23: the lock oracle fires on each way in which two could hold one lock, and on nothing else."""

from collections.abc import Callable

import pytest

from viewstamp.core.judge import InvariantViolated
from viewstamp.sim.judge.invariants.locks import Inside, LockOracle


def task(client: int, token: int, *, number: int = 1, sure: bool = True) -> Inside:
    return Inside(client, number, token, lambda: sure)


def two_at_once(oracle: LockOracle) -> None:
    oracle.entered("a", task(1, 10))
    oracle.entered("a", task(2, 11))


def two_tasks_of_one_client_at_once(oracle: LockOracle) -> None:
    oracle.entered("a", task(1, 10, number=1))
    oracle.entered("a", task(1, 10, number=2))


def older_token_later(oracle: LockOracle) -> None:
    oracle.entered("a", first := task(1, 10))
    oracle.left("a", first)
    oracle.entered("a", task(2, 9))


def same_token_for_another(oracle: LockOracle) -> None:
    oracle.entered("a", first := task(1, 10))
    oracle.left("a", first)
    oracle.entered("a", task(2, 10))


def holder_that_is_sure_and_was_overtaken(oracle: LockOracle) -> None:
    believes = [False]
    first = Inside(1, 1, 10, lambda: believes[0])
    oracle.entered("a", first)
    oracle.entered("a", task(2, 11))
    believes[0] = True
    oracle.left("a", first)


@pytest.mark.parametrize(
    "plant",
    [
        two_at_once,
        two_tasks_of_one_client_at_once,
        older_token_later,
        same_token_for_another,
        holder_that_is_sure_and_was_overtaken,
    ],
)
def test_oracle_fires_when_it_is_violated(plant: Callable[[LockOracle], None]) -> None:
    with pytest.raises(InvariantViolated, match="I23 Fencing"):
        plant(LockOracle())


def test_oracle_keeps_quiet_when_locks_are_held_in_turn() -> None:
    oracle = LockOracle()
    for token, client in enumerate((1, 2, 1, 3), start=10):
        oracle.entered("a", one := task(client, token))
        oracle.entered("b", other := task(client, token))
        oracle.left("a", one)
        oracle.left("b", other)
        oracle.entered("a", again := task(client, token, number=2))
        oracle.left("a", again)
    assert (oracle.entries, oracle.unsure) == (12, 0)


def test_oracle_keeps_quiet_when_the_one_inside_knows_that_it_may_not_be_alone() -> None:
    oracle = LockOracle()
    oracle.entered("a", lost := task(1, 10, sure=False))
    oracle.entered("a", holder := task(2, 11))
    oracle.left("a", lost)
    oracle.left("a", holder)
    assert oracle.unsure == 1
