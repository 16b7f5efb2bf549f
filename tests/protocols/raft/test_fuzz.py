"""Live cores against well-typed messages of arbitrary values: nothing raises, nothing breaks.

See docs/faults.md#fuzzing.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest

from tests.protocols.raft.harness import Cluster
from viewstamp.core.events import Received
from viewstamp.core.ids import ORIGIN, Incarnation, Instant, NodeId, Seqno, View, Viewstamp
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.snapshots import BytesSnapshot, SnapshotMeta
from viewstamp.protocols.raft import RaftMessage
from viewstamp.protocols.raft import messages as m
from viewstamp.protocols.raft.judge.invariants import check_node
from viewstamp.protocols.raft.judge.oracle import RaftOracle
from viewstamp.protocols.replication.configuration import Configuration, encode_configuration
from viewstamp.protocols.replication.log import EntryRecord, encode_record
from viewstamp.protocols.replication.node_state import NUMBER_MAX

_ODD = (-(2**63), -2, -1, 0, 0, 1, 1, 2, 2, 3, 4, 5, 7, 11, 50, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**64 - 1)
_DECODER = msgspec.msgpack.Decoder(RaftMessage)
_ENCODER = msgspec.msgpack.Encoder()


class Arbitrary:
    """Draws messages: the numbers odd, or near those of the node that gets them."""

    def __init__(self, seed: int, cluster: Cluster) -> None:
        self.random = Random(seed)
        self.cluster = cluster
        self.target = 1

    def number(self) -> int:
        state = self.cluster.core(self.target).state
        near = (state.term, state.term + 1, state.log.last_seqno, state.committed, state.log.base_seqno)
        return self.random.choice((*_ODD, *near, *near, *near))

    def incarnation(self) -> Incarnation:
        state = self.cluster.core(self.target).state
        return Incarnation(self.random.choice((100, 200, 300, state.incarnation, self.number())))

    def flag(self) -> bool:
        return self.random.random() < 0.5

    def entry(self) -> bytes:
        if self.random.random() < 0.1:
            return self.random.randbytes(self.random.randrange(12))
        seqno = self.random.choice((self.number(), self.cluster.core(self.target).state.log.last_seqno + 1))
        data = self.random.choice((b"", b"x", encode_configuration(self.configuration())))
        return encode_record(EntryRecord(self.number(), seqno, self.random.choice((0, 1, 1, 2, 3, -1)), data))

    def entries(self) -> list[bytes]:
        return [self.entry() for _ in range(self.random.randrange(4))]

    def configuration(self) -> Configuration:
        members = tuple(
            (NodeId(self.random.choice((1, 2, 3, -1, 9))), self.incarnation())
            for _ in range(self.random.randrange(4))
        )
        return Configuration(members, members[:1] if self.flag() else (), (NodeId(1),) if self.flag() else ())

    def meta(self) -> SnapshotMeta:
        viewstamp = Viewstamp(View(self.number()), Seqno(self.number()))
        header = self.random.choice((b"", b"?", encode_configuration(Configuration())))
        return SnapshotMeta(viewstamp, header, self.number(), self.number())

    def message(self) -> Any:
        return self.random.choice((*self._of_elections(), *self._of_logs()))()

    def _of_elections(self) -> tuple[Callable[[], Any], ...]:
        n, r = self.number, self.random
        return (
            lambda: m.RequestVote(
                term=n(),
                pre=self.flag(),
                transfer=self.flag(),
                campaign=n(),
                last_log_term=n(),
                last_log_index=n(),
            ),
            lambda: m.VoteResponse(
                term=n(),
                incarnation=self.incarnation(),
                candidate=NodeId(n()),
                election=n(),
                pre=self.flag(),
                granted=self.flag(),
                campaign=n(),
            ),
            lambda: m.AppendEntries(
                term=n(),
                to=self.incarnation(),
                previous_view=n(),
                previous_seqno=n(),
                entries=[self.entry() for _ in range(r.randrange(4))],
                committed=n(),
                round=n(),
                attempt=n(),
            ),
            lambda: m.AppendResponse(
                term=n(),
                incarnation=self.incarnation(),
                matched_view=n(),
                matched_seqno=n(),
                round=n(),
                reached=n(),
            ),
            lambda: m.AppendRejected(
                term=n(),
                incarnation=self.incarnation(),
                refused_seqno=n(),
                hint_view=n(),
                hint_seqno=n(),
                round=n(),
                attempt=n(),
            ),
            lambda: m.SnapshotChunk(
                term=n(),
                to=self.incarnation(),
                meta=self.meta(),
                offset=n(),
                data=r.randbytes(r.randrange(9)),
            ),
        )

    def _of_logs(self) -> tuple[Callable[[], Any], ...]:
        n, r = self.number, self.random
        return (
            lambda: m.SnapshotAck(
                term=n(),
                incarnation=self.incarnation(),
                view=n(),
                seqno=n(),
                digest=n(),
                offset=n(),
                gap=self.flag(),
            ),
            lambda: m.ReadIndex(term=n(), request=n()),
            lambda: m.ReadIndexAnswer(term=n(), request=n(), index=r.choice((None, n()))),
            lambda: m.TimeoutNow(term=n(), to=self.incarnation()),
            lambda: m.Introduce(
                incarnation=self.incarnation(),
                bootstrapped=self.flag(),
                known=self.configuration().voters,
            ),
            lambda: m.Recognize(n(), self.configuration()),
            lambda: m.StaleTerm(n()),
        )


def _sane(message: Any) -> bool:
    """Leave out what ratchets terms to the end of their range: there elections stop, and the fuzz too."""
    return getattr(message, "term", 0) < 1_000


@pytest.mark.parametrize("seed", range(12))
def test_step_when_messages_hold_arbitrary_values(seed: int) -> None:
    cluster = Cluster(3, seed=seed)
    if seed % 4:
        cluster.elect()
        for number in range(5):
            cluster.propose(cluster.leader or 1, b"%d" % number)
            cluster.settle()
    cluster.letters.clear()
    arbitrary = Arbitrary(seed, cluster)
    oracle = RaftOracle(cluster.members)
    for _ in range(1_500):
        arbitrary.target = arbitrary.random.choice((1, 2, 3))
        message = arbitrary.message()
        if not _sane(message):
            continue
        decoded = _DECODER.decode(_ENCODER.encode(message))
        core = cluster.core(arbitrary.target)
        source = NodeId(arbitrary.random.choice((1, 2, 3, 4, -1)))
        cluster.now = Instant(cluster.now + arbitrary.random.randrange(20_000))
        core.step(Received(source, decoded), cluster.now)
        check_node(core)
        assert core.state.outbox.durable >= 0
        assert core.status(cluster.now).node == arbitrary.target
        oracle.describe(message)
    assert sum(cluster.core(1).state.counters.values()) > 50


@pytest.mark.parametrize("seed", range(3))
def test_step_when_terms_are_at_the_end_of_their_range(seed: int) -> None:
    cluster = Cluster(3, seed=seed)
    cluster.elect()
    arbitrary = Arbitrary(seed, cluster)
    for _ in range(300):
        arbitrary.target = 1
        core = cluster.core(1)
        core.step(Received(NodeId(2), arbitrary.message()), cluster.now)
        check_node(core)
        assert core.state.term <= NUMBER_MAX


def test_node_when_it_was_fed_rubbish_still_serves() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    arbitrary = Arbitrary(1, cluster)
    for _ in range(2_000):
        arbitrary.target = leader
        message = arbitrary.message()
        if isinstance(
            message, m.AppendResponse | m.AppendEntries | m.SnapshotChunk | m.VoteResponse
        ) or not _sane(message):
            continue  # a liar among the voters may break safety: only crashes are tolerated
        cluster.feed(leader, Received(NodeId(2 if leader != 2 else 3), message))
    cluster.letters.clear()
    cluster.run(2_000)
    cluster.propose(cluster.elect(), b"still here")
    cluster.run(300)
    assert all(cluster.commands(node)[-1] == b"still here" for node in (1, 2, 3))


def test_invariant_when_it_is_broken_is_named() -> None:
    cluster = Cluster(3)
    core = cluster.core(cluster.elect())
    core.state.committed = core.state.log.last_seqno + 1
    with pytest.raises(InvariantViolated, match="Ordering"):
        check_node(core)
    assert BytesSnapshot(ORIGIN, b"", b"").meta.size_bytes == 0
