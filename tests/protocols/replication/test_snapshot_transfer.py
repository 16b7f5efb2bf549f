"""Snapshots on the wire: windows, gaps, and what a follower says."""

from typing import NamedTuple

import pytest

from tests.mutants.lone import Lone
from viewstamp.core.effects import Restore, Stage
from viewstamp.core.events import SnapshotToken
from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import BytesSnapshot, Snapshot, SnapshotMeta
from viewstamp.protocols.raft import RaftOptions
from viewstamp.protocols.raft.messages import SnapshotAck, SnapshotChunk
from viewstamp.protocols.raft.state import State
from viewstamp.protocols.replication.configuration import encode_configuration
from viewstamp.protocols.replication.sender import Progress, SnapshotSender
from viewstamp.protocols.replication.snapshot_transfer import SnapshotReceiver, SnapshotTokens

LEADER, ME = NodeId(2), Incarnation(100)
HERE = Viewstamp(View(1), Seqno(9))
SNAPSHOT = BytesSnapshot(HERE, b"", bytes(range(10)))


class Said(NamedTuple):
    """What a follower says of a snapshot."""

    offset: int
    gap: bool


class Listener:
    """What a receiver says to its leader."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.acknowledged: list[int] = []
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1

    def acknowledge(self, leader: NodeId, reached: int) -> None:
        self.acknowledged.append(reached)

    def acknowledge_snapshot(self, leader: NodeId, meta: SnapshotMeta, offset: int, *, gap: bool) -> None:
        self.said.append(Said(offset, gap))


def new_state() -> State:
    state: State = Lone([1], options=RaftOptions(snapshot_chunk_bytes=2, snapshot_window_chunks=3)).state
    state.outbox.take()
    return state


def ack(offset: int, *, gap: bool = False, digest: int | None = None) -> SnapshotAck:
    return SnapshotAck(
        term=1,
        incarnation=Incarnation(200),
        view=1,
        seqno=9,
        digest=SNAPSHOT.meta.digest if digest is None else digest,
        offset=offset,
        gap=gap,
    )


class TestSender:
    """The leader's side, with a follower that needs the snapshot."""

    @pytest.fixture(autouse=True)
    def begin(self) -> None:
        self.sent: list[int] = []
        self.sender = SnapshotSender(
            new_state(), lambda progress, meta, offset, data: self.sent.append(offset)
        )
        self.progress = Progress(LEADER, Incarnation(200), 1)
        self.progress.send_snapshot(SNAPSHOT)
        self.sender.pump(self.progress)

    def test_one_chunk_is_under_way_until_the_follower_has_answered(self) -> None:
        assert self.sent == [0]
        self.sender.pump(self.progress)
        assert self.sent == [0]

    def test_window_opens_when_the_follower_answers(self) -> None:
        self.sender.on_ack(self.progress, ack(2))
        assert self.sent == [0, 2, 4, 6], "three chunks beyond what is acknowledged"
        self.sender.on_ack(self.progress, ack(6))
        assert self.sent[4:] == [8]

    def test_sender_goes_back_once_when_chunks_were_lost(self) -> None:
        self.sender.on_ack(self.progress, ack(2))
        self.sender.on_ack(self.progress, ack(2, gap=True))
        self.sender.on_ack(self.progress, ack(2, gap=True))
        assert self.sent[4:] == [2], "the second says nothing new"

    def test_answer_when_it_is_about_another_snapshot_is_dropped(self) -> None:
        self.sender.on_ack(self.progress, ack(2, digest=SNAPSHOT.meta.digest + 1))
        self.sender.on_ack(self.progress, ack(11))
        assert self.sent == [0]


class TestReceiver:
    """The follower's side."""

    @pytest.fixture(autouse=True)
    def begin(self) -> None:
        self.state = new_state()
        self.listener = Listener()
        self.receiver = SnapshotReceiver(self.state, self.listener, SnapshotTokens().new)
        header = encode_configuration(self.state.membership.current)
        self.snapshot = BytesSnapshot(HERE, header, SNAPSHOT.read(0, 10))
        self.state.leader = LEADER

    def receive(self, offset: int, length: int, snapshot: Snapshot | None = None) -> None:
        sent = snapshot or self.snapshot
        chunk = SnapshotChunk(term=1, to=ME, meta=sent.meta, offset=offset, data=sent.read(offset, length))
        self.receiver.on_chunk(LEADER, chunk, 1)

    def test_chunks_are_staged_in_order_and_each_once(self) -> None:
        for offset in (0, 0, 4, 2):
            self.receive(offset, 2)
        staged = [effect.offset for effect in self.state.outbox.take() if isinstance(effect, Stage)]
        assert staged == [0, 2]
        assert self.listener.said == [Said(2, False), Said(2, False), Said(2, True), Said(4, False)]

    def test_another_snapshot_when_it_comes_begins_at_once(self) -> None:
        self.receive(0, 2)
        later = BytesSnapshot(Viewstamp(View(1), Seqno(12)), self.snapshot.meta.header, b"later")
        self.receive(0, 5, later)
        assert self.listener.said[-1] == Said(5, False)

    def test_snapshot_when_it_is_durable_replaces_log_and_machine(self) -> None:
        self.receive(0, 10)
        self.receiver.on_staged(SnapshotToken(1), self.snapshot)
        assert (self.state.log.base, self.state.applied, self.state.committed) == (HERE, 9, 9)
        assert any(isinstance(effect, Restore) for effect in self.state.outbox.take())
        assert (self.listener.acknowledged, self.listener.begun) == ([9], 1)

    def test_snapshot_when_it_is_of_what_is_committed_never_takes_the_node_back(self) -> None:
        self.receive(0, 10)
        self.state.committed = self.state.applied = 9
        self.receiver.on_staged(SnapshotToken(1), self.snapshot)
        assert self.state.log.base_seqno == 0
        assert not any(isinstance(effect, Restore) for effect in self.state.outbox.take())

    def test_snapshot_when_its_digest_is_wrong_begins_again(self) -> None:
        self.receive(0, 10)
        self.receiver.on_staged(SnapshotToken(1), None)
        assert self.state.counters["snapshot with a wrong digest"] == 1
        self.receive(5, 5)
        assert self.listener.said[-1] == Said(0, True)
