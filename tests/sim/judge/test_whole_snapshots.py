"""I33: a class whose snapshot does not hold the whole state is named, with the attribute."""

from collections.abc import Iterator
from typing import Any

import pytest

from viewstamp.core.events import SnapshotToken
from viewstamp.core.ids import NodeId, Seqno, View, Viewstamp
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.snapshots import NEWEST
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine, command, compose, running_at
from viewstamp.replica import snapshot_body
from viewstamp.replica.events import Save
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.locks import LockService
from viewstamp.sim.judge.whole_snapshots import check_whole

AT = Viewstamp(View(1), Seqno(1))


class Tallied:
    """A helper without an equality of its own."""

    def __init__(self, number: int) -> None:
        self.number = number


class Whole(StateMachine):
    """Saves two attributes, and derives a third that it does not declare."""

    total: int = 0
    last: Tallied

    def __init__(self) -> None:
        self.last = Tallied(0)
        self.cached = 0

    @command
    def add(self, amount: int) -> None:
        self.total += amount
        self.last = Tallied(amount)
        self.cached += 1

    def snapshot(self) -> bytes:
        return b"%d,%d" % (self.total, self.last.number)

    def restore(self, snapshot: bytes) -> None:
        total, number = map(int, snapshot.split(b","))
        self.total, self.last = total, Tallied(number)


class ForgetsInSnapshot(Whole):
    """Leaves a declared attribute out."""

    def snapshot(self) -> bytes:
        return b"0,%d" % self.last.number


class ForgetsInRestore(Whole):
    """Does not take a helper's attribute back."""

    def restore(self, snapshot: bytes) -> None:
        super().restore(snapshot)
        self.last.number = 0


class Grows(Whole):
    """Takes a snapshot that says more each time: what it hides is in no attribute that it declares."""

    def snapshot(self) -> bytes:
        return super().snapshot() + b" " * self.cached


class Refuses(Whole):
    """Cannot read what it wrote."""

    def restore(self, snapshot: bytes) -> None:
        if snapshot != b"0,0":
            raise ValueError("no")


class LosesAttribute(Whole):
    """Has an attribute that only a command makes."""

    extra: int

    @command
    def add(self, amount: int) -> None:
        super().add(amount)
        self.extra = amount


def check_of(cls: type[StateMachine]) -> None:
    """Check a snapshot of a machine to which 5 was added."""
    state = ReplicatedState(MachineDefinition.of(cls), SessionLimits())
    machine = state.runner.machine
    part: Any = vars(machine)["machines"]["inner"] if machine.parts else machine
    with running_at(machine):
        part.add(5)
    machine.bind_context(state.runner.context)
    check_state(state)


def check_state(state: ReplicatedState) -> None:
    state.move_to(AT)
    state.versions = NEWEST  # as the first entry of a log says it
    body = b"".join(snapshot_body.capture(state))
    save = Save(SnapshotToken(1), AT, b"", snapshot_body.capture(state))
    check_whole(NodeId(7), state, save, body)


def test_snapshot_is_whole_when_everything_comes_back() -> None:
    check_of(Whole)
    check_of(compose(inner=Whole))


@pytest.mark.parametrize(
    ("cls", "told"),
    [
        (ForgetsInSnapshot, r"ForgetsInSnapshot.total is not what it was .*: 5 became 0"),
        (ForgetsInRestore, r"ForgetsInRestore.last is not what it was"),
        (compose(inner=ForgetsInRestore), r"ForgetsInRestore.last is not what it was"),
        (Grows, r"Grows: taken again of what `restore` made, it has other bytes"),
        (Refuses, r"Refuses.restore: no"),
        (LosesAttribute, r"LosesAttribute.extra is missing after `restore`"),
    ],
)
def test_class_is_named_when_its_snapshot_is_not_whole(cls: type[StateMachine], told: str) -> None:
    with pytest.raises(InvariantViolated, match=rf"node 7, snapshot of 1\.1: .*{told}") as caught:
        check_of(cls)
    assert caught.value.name == "I33 SnapshotWhole"


def stores() -> Iterator[ReplicatedState]:
    """Yield a store and a lock service that hold something."""
    store = ReplicatedState(MachineDefinition.of(KeyValueStore), SessionLimits())
    kept = store.runner.machine
    assert isinstance(kept, KeyValueStore)
    for key in ("b", "a"):
        kept.set(key, b"v")
    kept.delete("b")
    yield store
    service = ReplicatedState(MachineDefinition.of(LockService), SessionLimits())
    locks = service.runner.machine
    assert isinstance(locks, LockService)
    with running_at(locks, client=1, session=1):
        locks.acquire("x", 1)
    with running_at(locks, client=2, session=2, seqno=2):
        locks.acquire("x", 1)
    locks.bind_context(service.runner.context)
    yield service


def test_every_attribute_of_a_stock_service_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    for state in stores():
        check_state(state)
    restore = KeyValueStore.restore

    def forgetful(store: KeyValueStore, snapshot: bytes) -> None:
        restore(store, bytes(8) + snapshot[8:])

    monkeypatch.setattr(KeyValueStore, "restore", forgetful)
    with pytest.raises(InvariantViolated, match=r"KeyValueStore._floor is not what it was .*: 1 became 0"):
        check_state(next(stores()))
