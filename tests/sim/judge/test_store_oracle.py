"""I42: the oracle of the store fires where a watch is told anything but the truth."""

from collections.abc import Callable

import pytest

from viewstamp.core.judge import InvariantViolated
from viewstamp.services.store.types import Event, KeyValue
from viewstamp.services.store.watching import Changes, Progress, Resync, Told
from viewstamp.sim.judge.invariants.store import StoreOracle, WatchJudge


def item(key: bytes, value: bytes) -> KeyValue:
    return KeyValue(key, value, 1, 1, 1)


def put(key: bytes, value: bytes) -> Event:
    return Event(key, item(key, value))


def oracle() -> StoreOracle:
    one = StoreOracle()
    one.executed(1, [(b"k1", b"a"), (b"k2", b"b")])
    one.executed(2, [(b"other", b"c")])
    one.executed(3, [(b"k1", None)])
    return one


WHOLE = Changes(1, [put(b"k1", b"a"), put(b"k2", b"b")])
GONE = Changes(3, [Event(b"k1", None)])

RIGHT: list[list[Told]] = [
    [WHOLE, GONE],
    [Changes(1, [put(b"k1", b"a")], more=True), Changes(1, [put(b"k2", b"b")]), Progress(2), GONE],
    [WHOLE, Progress(2), GONE, Progress(9)],
    [Resync(2, [item(b"k1", b"a"), item(b"k2", b"b")]), GONE],
    [Resync(3, [item(b"k2", b"b")])],
]
WRONG: dict[str, list[Told]] = {
    "left out": [WHOLE, Progress(3)],
    "progress before the events": [Progress(1)],
    "twice": [WHOLE, WHOLE],
    "split": [Changes(1, [put(b"k1", b"a")]), Changes(1, [put(b"k2", b"b")])],
    "out of order": [Changes(1, [put(b"k2", b"b"), put(b"k1", b"a")])],
    "back in time": [WHOLE, GONE, Changes(2, [])],
    "not filtered": [WHOLE, Changes(2, [put(b"other", b"c")])],
    "of another value": [Changes(1, [put(b"k1", b"x"), put(b"k2", b"b")])],
    "a fragment without its rest": [Changes(1, [put(b"k1", b"a")], more=True), Progress(2)],
    "a list of another state": [Resync(3, [item(b"k1", b"a"), item(b"k2", b"b")])],
    "a list from before": [WHOLE, GONE, Resync(2, [item(b"k1", b"a"), item(b"k2", b"b")])],
}


def follow(told: list[Told]) -> None:
    judge = WatchJudge("watch", oracle(), lambda key: key.startswith(b"k"), 0)
    for each in told:
        judge.told(each)


@pytest.mark.parametrize("told", RIGHT)
def test_the_truth_passes(told: list[Told]) -> None:
    follow(told)


@pytest.mark.parametrize("how", WRONG)
def test_anything_else_is_named(how: str) -> None:
    with pytest.raises(InvariantViolated, match="I42 Store"):
        follow(WRONG[how])


@pytest.mark.parametrize(
    "execute",
    [
        lambda one: one.executed(3, [(b"k1", b"x")]),
        lambda one: one.executed(2, [(b"new", b"n")]),
        lambda one: one.executed(4, [(b"k3", b"a")]),
        lambda one: one.executed(4, [(b"t/a", b"n")]),
        lambda one: one.executed(4, [(b"t/a", b"n"), (b"t/b", b"m")]),
        lambda one: one.ended(7),
    ],
)
def test_what_replicas_execute_is_one_history(execute: Callable[[StoreOracle], None]) -> None:
    one = oracle()
    one.granted(7, lambda: True)
    one.granted(8, lambda: False)
    one.ended(8)
    one.executed(3, [(b"k1", None)])
    with pytest.raises(InvariantViolated, match="I42 Store"):
        execute(one)
