"""Snapshots of a replica: whole, lazy, and refused without harm when they are damaged."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.replica.fakes import CLIENT, Bench, Counter, call, submit
from tests.replica.test_replicated_state import Copy, Holders
from viewstamp.core.effects import Apply, Capture, Entry
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.events import SnapshotToken
from viewstamp.core.ids import ORIGIN, Seqno, View, Viewstamp
from viewstamp.core.messages import NO_SESSION, OpenSession
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.replica import snapshot_body
from viewstamp.replica.batches import encode_batch
from viewstamp.replica.events import Save
from viewstamp.replica.versions import NewerCodeNeeded


def _filled(sessions: int = 3) -> Copy:
    copy = Copy()
    for client in range(CLIENT, CLIENT + sessions):
        session = copy.open(client)
        copy.apply(submit(session, (1, call("add", 5, "x")), client=client))
    return copy


def test_everything_comes_back_when_a_snapshot_is_restored() -> None:
    copy = _filled()
    copy.now = 77
    copy.apply(OpenSession(CLIENT))
    again = copy.restored()
    assert again.state.applied == copy.state.applied
    assert again.state.log_time == 77
    assert again.state.chain.position == copy.state.chain.position
    assert again.value == copy.value == 15
    assert again.snapshot().body == copy.snapshot().body


def test_more_sessions_than_fit_a_chunk_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_body, "SESSIONS_PER_CHUNK", 2)
    copy = _filled(5)
    assert [s.client for s in copy.restored().state.sessions] == list(range(CLIENT, CLIENT + 5))


class Merging(StateMachine):
    """Its `restore` adds to what is there, as the lock service's: it is made for a machine that is new."""

    names: list[str] = []  # noqa: RUF012  copied for each instance

    @command
    def add(self, name: str) -> int:
        self.names.append(name)
        return len(self.names)

    def snapshot(self) -> bytes:
        return ",".join(self.names).encode()

    def restore(self, snapshot: bytes) -> None:
        self.names += snapshot.decode().split(",")


def test_nothing_of_before_is_left_when_a_snapshot_is_restored() -> None:
    theirs, ours = Copy(Merging), Copy(Merging)
    adding = MachineDefinition.of(Merging).methods["add"]
    theirs.apply(submit(NO_SESSION, (1, adding.encode_call(("theirs",), {}))))
    ours.apply(submit(NO_SESSION, (1, adding.encode_call(("ours",), {}))))
    restored = snapshot_body.restore(theirs.snapshot(), ours.state)
    assert vars(restored.runner.machine)["names"] == ["theirs"]
    assert vars(ours.state.runner.machine)["names"] == ["ours"], "the old state is as it was"


def test_a_snapshot_is_refused_by_name_when_it_is_of_another_machine() -> None:
    body = _filled().snapshot()
    with pytest.raises(snapshot_body.SnapshotUnreadable, match="of 'Counter', not of Holders"):
        snapshot_body.restore(body, Copy(Holders).state)


def test_the_bytes_of_a_body_are_pinned() -> None:
    copy = Copy()
    copy.apply(OpenSession(CLIENT))
    assert copy.snapshot().body.hex(" ") == (
        "00 00 00 00 00 00 00 10"  # length of the preface
        # [format, level, machine version, class, time, digest, interface]
        " 98 01 01 01 a7 43 6f 75 6e 74 65 72 00 00 c0 80"
        " 00 00 00 00 00 00 00 18"  # length of the only chunk of sessions
        " 91 97 cd 10 92 ce 00 10 00 00 00 00 90 00 a9 61 6e 6f 6e 79 6d 6f 75 73"
        " 00 00 00 00 00 00 00 00"  # no further chunk
        " 92 92 a5 76 61 6c 75 65 00 92 a3 6c 6f 67 90"  # the machine's own snapshot
    )


@pytest.mark.parametrize(
    ("version", "why"),
    [((2, 0, 0), "format 2; this version reads 1"), ((1, 3, 0), "level 3")],
)
def test_a_body_of_another_version_is_refused_by_name(version: tuple[int, int, int], why: str) -> None:
    copy = Copy()
    preface = msgspec.msgpack.encode((*version, "Counter", 0, 0))
    body = len(preface).to_bytes(8, "big") + preface
    with pytest.raises(snapshot_body.SnapshotUnreadable, match=why):
        snapshot_body.restore(BytesSnapshot(ORIGIN, b"", body), copy.state)


def test_a_body_is_refused_when_a_session_was_used_later_than_it_was_taken() -> None:
    copy = Copy()
    pieces = [msgspec.msgpack.encode(piece) for piece in ([1, 0, 0, "Counter", 5, 0], [[7, 1, 6, 0, []]])]
    machine = b"".join(copy.state.runner.pieces())
    body = b"".join(len(piece).to_bytes(8, "big") + piece for piece in (*pieces, b"")) + machine
    with pytest.raises(snapshot_body.SnapshotUnreadable, match="used after its log time"):
        snapshot_body.restore(BytesSnapshot(ORIGIN, b"", body), copy.state)


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_snapshot_is_refused_or_harmless_and_never_half_restored(data: st.DataObject) -> None:
    copy = _filled()
    body = bytearray(copy.snapshot().body)
    where = data.draw(st.integers(0, len(body) - 1))
    if data.draw(st.booleans()):
        body[where] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del body[where:]
    target = _filled(1)
    before = target.snapshot().body
    with suppress(snapshot_body.SnapshotUnreadable, NewerCodeNeeded):
        snapshot_body.restore(BytesSnapshot(copy.state.applied, b"", bytes(body)), target.state)
    assert target.snapshot().body == before


def test_the_parts_must_be_drained_when_the_machine_goes_on() -> None:
    bench = Bench()
    session = bench.open()
    effects = bench.feed(Capture(SnapshotToken(1), bench.replica.applied, b""))
    (saving,) = [effect for effect in effects if isinstance(effect, Save)]
    bench.do(submit(session, (1, call("add", 5))))
    with pytest.raises(AssertionError, match="drain"):
        b"".join(saving.parts)


class Unkept(StateMachine):
    """What it puts into its state cannot be saved."""

    names: dict[str, str] = {}  # noqa: RUF012  copied for each instance

    @command
    def add(self, name: str) -> int:
        self.names[name] = None  # type: ignore[assignment]
        return len(self.names)


def test_the_node_goes_on_when_a_snapshot_cannot_be_made_and_more_is_applied_in_the_same_step() -> None:
    bench = Bench(Unkept)
    session = bench.open()
    bench.do(submit(session, (1, call("add", "a"))))
    at = bench.replica.applied
    effects = bench.feed(
        Capture(SnapshotToken(1), at, b"h"), Apply(Entry(Viewstamp(View(9), Seqno(at.seqno + 1)), b""))
    )
    assert bench.replica.applied.seqno == at.seqno + 1
    (saving,) = [effect for effect in effects if isinstance(effect, Save)]
    with pytest.raises(TypeError, match=r"Unkept\.names cannot be saved"):
        list(saving.parts)


def test_a_snapshot_is_of_its_moment_when_more_is_applied_in_the_same_step() -> None:
    bench = Bench()
    bench.open()
    before = bench.save().body
    data = encode_batch(0, (0, 0), [])
    later = [Apply(Entry(Viewstamp(View(1), Seqno(n)), data)) for n in (2, 3)]
    taken = Capture(SnapshotToken(2), bench.replica.applied, b"h")
    effects = bench.feed(taken, *later)
    (saving,) = [effect for effect in effects if isinstance(effect, Save)]
    assert (saving.viewstamp.seqno, saving.header) == (1, b"h")
    assert b"".join(saving.parts) == before
    assert bench.replica.applied.seqno == 3


def test_a_replica_starts_from_the_snapshot_on_its_disk() -> None:
    bench = Bench()
    session = bench.open()
    bench.do(submit(session, (1, call("add", 5))))
    again = Bench(snapshot=bench.save())
    assert isinstance(again.replica.machine, Counter)
    assert again.replica.machine.value == 5
    assert again.replica.applied == bench.replica.applied
    assert again.replica.digest == bench.replica.digest


def test_the_state_is_replaced_when_a_snapshot_is_installed_later() -> None:
    bench, other = Bench(), Bench()
    session = bench.open()
    bench.do(submit(session, (1, call("add", 5, "x"))))
    other.open(99)
    other.install(bench.save())
    assert isinstance(other.replica.machine, Counter)
    assert (other.replica.machine.value, other.replica.machine.log) == (5, ["x"])
    assert other.replica.state.sessions.of_client(99) is None


def test_a_replica_halts_when_a_snapshot_cannot_be_restored() -> None:
    bench = Bench()
    bench.open()
    damaged = BytesSnapshot(Viewstamp(View(1), Seqno(9)), b"", b"\x00" * 20)
    bench.install(damaged)
    assert bench.replica.halted is not None
    assert "snapshot" in bench.replica.halted


def test_a_replica_does_not_start_when_the_snapshot_on_its_disk_is_not_its_own() -> None:
    bench = Bench()
    bench.open()
    with pytest.raises(ConfigurationError, match="start this node with the class that wrote it"):
        Bench(Holders, snapshot=bench.save())


def test_a_snapshot_replaces_the_state_again_when_more_was_applied_since_it_was_installed() -> None:
    bench = Bench()
    session = bench.open()
    taken = bench.save()
    bench.install(taken)
    bench.do(submit(session, (1, call("add", 5))))
    bench.install(taken)
    assert bench.replica.applied == taken.meta.viewstamp
    assert isinstance(bench.replica.machine, Counter)
    assert bench.replica.machine.value == 0


def test_nothing_is_read_again_when_the_state_is_that_of_the_snapshot_already() -> None:
    bench = Bench()
    bench.open()
    taken = bench.save()
    bench.install(taken)
    state = bench.replica.state
    bench.install(taken)
    assert bench.replica.state is state
