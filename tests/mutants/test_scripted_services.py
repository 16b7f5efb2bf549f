"""Scripts of reads, handing over and snapshots, one for each mutation that seeds find late."""

from typing import Any

from tests.mutants.lone import BOOTSTRAP, ME, Lone, entry
from tests.protocols.raft.harness import Cluster, propose_all
from viewstamp.core.events import (
    Staged,
    TransferLeadership,
)
from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.protocols.raft import RaftOptions
from viewstamp.protocols.raft.messages import (
    AppendResponse,
    SnapshotAck,
    SnapshotChunk,
)
from viewstamp.protocols.raft.state import Role
from viewstamp.protocols.replication.configuration import encode_configuration


def test_read_waits_for_an_entry_of_the_own_term() -> None:
    node = Lone([1])
    node.append(2, (1, 1), committed=1)
    node.lead()
    node.cluster.query(1, 5)
    node.acknowledge(2, 1, node.core.replication.round)
    assert node.cluster.nodes[ME].answered == []
    node.acknowledge(2, 2)
    node.acknowledge(2, 2, node.core.replication.round)
    assert node.cluster.nodes[ME].answered == [5]


def test_read_is_confirmed_by_a_round_that_began_after_it() -> None:
    node = Lone([1])
    node.lead()
    node.acknowledge(2, 2)
    node.cluster.query(1, 5)
    first = node.core.replication.round
    node.cluster.query(1, 6)
    node.acknowledge(2, 2, first)
    assert node.cluster.nodes[ME].answered == [5]
    assert node.core.replication.round > first
    node.acknowledge(2, 2, node.core.replication.round)
    assert node.cluster.nodes[ME].answered == [5, 6]


def test_read_waits_until_its_index_is_applied() -> None:
    node = Lone([1] * 10, options=RaftOptions(applies_per_step_max=2))
    node.lead()
    node.acknowledge(2, 11)
    assert node.state.applied < 11
    node.cluster.query(1, 5)
    node.acknowledge(2, 11, node.core.replication.round)
    assert node.cluster.nodes[ME].answered == []
    while node.state.applied < 11:
        node.wait()
    assert node.cluster.nodes[ME].answered == [5]


def test_nothing_is_accepted_during_a_transfer() -> None:
    node = Lone([1])
    node.lead()
    node.acknowledge(2, 2)
    assert node.core.accepting
    node.cluster.direct(1, 9, TransferLeadership(NodeId(2)))
    assert not node.core.accepting


def test_transfer_is_given_up_when_it_does_not_come_about() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    target = next(member for member in cluster.members if member != leader)
    cluster.blocked = lambda letter: type(letter.message).__name__ == "TimeoutNow"
    cluster.direct(leader, 9, TransferLeadership(NodeId(target)))
    cluster.run(1_000)
    assert list(cluster.nodes[NodeId(leader)].settled) == [9]
    assert cluster.core(leader).accepting


def snapshot_of(seqno: int, term: int = 2, size: int = 10) -> BytesSnapshot:
    return BytesSnapshot(
        Viewstamp(View(term), Seqno(seqno)), encode_configuration(BOOTSTRAP), bytes(range(size))
    )


def chunk(snapshot: BytesSnapshot, offset: int, length: int, term: int) -> SnapshotChunk:
    return SnapshotChunk(
        term=term, to=Incarnation(100), meta=snapshot.meta, offset=offset, data=snapshot.read(offset, length)
    )


def install(node: Lone, snapshot: BytesSnapshot, term: int) -> list[Any]:
    node.cluster.history[snapshot.meta.viewstamp.seqno] = (
        snapshot.meta.viewstamp.view,
        int.from_bytes(snapshot.read(0, 8), "big"),
    )
    return node.receive(2, chunk(snapshot, 0, 100, term))


def test_suffix_that_agrees_stays_when_a_snapshot_is_installed() -> None:
    node = Lone([2, 2, 2])
    install(node, snapshot_of(2), term=2)
    assert (node.state.log.base_seqno, node.state.log.last_seqno) == (2, 3)


def test_unsynced_suffix_that_agrees_stays_when_a_snapshot_is_installed() -> None:
    node = Lone([2])
    node.disk.held = True
    node.append(2, (2, 1), entry(2, 2), entry(2, 3))
    install(node, snapshot_of(2), term=2)
    assert (node.state.log.base_seqno, node.state.log.last_seqno) == (2, 3)


def test_suffix_that_contradicts_goes_when_a_snapshot_is_installed() -> None:
    node = Lone([1, 1, 1])
    install(node, snapshot_of(2), term=2)
    assert (node.state.log.base_seqno, node.state.log.last_seqno) == (2, 2)


def test_snapshot_is_not_installed_when_the_log_has_passed_it() -> None:
    node = Lone([1])
    snapshot = snapshot_of(2)
    node.receive(2, chunk(snapshot, 0, 5, 2))
    node.append(2, (1, 1), entry(2, 2), entry(2, 3), committed=3)
    assert node.state.applied == 3
    token = node.core.receiver._token
    node.cluster.feed(1, Staged(token, snapshot))
    assert node.state.applied == 3
    assert node.state.log.last_seqno == 3


def test_candidate_installs_no_snapshot() -> None:
    node = Lone([1])
    snapshot = snapshot_of(4)
    node.receive(2, chunk(snapshot, 0, 5, 2))
    token = node.core.receiver._token
    node.campaign()
    assert node.state.role is Role.CANDIDATE
    node.cluster.feed(1, Staged(token, snapshot))
    assert (node.state.applied, node.state.log.last_seqno) == (0, 1)


def test_snapshot_is_acknowledged_when_its_base_is_durable() -> None:
    node = Lone([1])
    node.append(2, (1, 1), term=2)
    node.disk.held = True
    sent = install(node, snapshot_of(4), term=2)
    assert "AppendResponse" not in [type(message).__name__ for message in sent]
    node.append(2, (0, 0), term=2)
    node.cluster.sync(ME)
    assert 4 in [message.matched_seqno for message in node.sent_of(AppendResponse)]


def test_piece_of_a_snapshot_is_staged_only_in_its_place() -> None:
    node = Lone([1])
    snapshot = snapshot_of(4)
    (wanted,) = node.receive(2, chunk(snapshot, 5, 5, 2))
    assert isinstance(wanted, SnapshotAck)
    assert (wanted.offset, wanted.gap) == (0, True)


def test_lagging_follower_gets_a_snapshot() -> None:
    cluster = Cluster(3, options=RaftOptions(log_bytes_max=400))
    leader = cluster.elect()
    behind = next(member for member in cluster.members if member != leader)
    cluster.isolate(behind)
    propose_all(cluster, [b"%d" % number * 40 for number in range(30)])
    assert cluster.core(leader).state.log.base_seqno > 5
    cluster.heal()
    cluster.run(3_000)
    assert cluster.core(behind).state.applied == cluster.core(leader).state.applied
    assert cluster.nodes[NodeId(behind)].disk.snapshot is not None


def test_snapshot_is_labelled_with_what_is_applied() -> None:
    node = Lone(options=RaftOptions(log_bytes_max=64, applies_per_step_max=2))
    node.cluster.nodes[ME].hold_captures = True
    node.append(2, (0, 0), *[entry(1, seqno, b"x" * 30) for seqno in range(1, 7)], committed=6)
    (capture,) = node.cluster.nodes[ME].captures
    assert capture.viewstamp.seqno == 2


def test_journal_forgets_when_the_new_base_is_durable() -> None:
    node = Lone(options=RaftOptions(log_bytes_max=64))
    node.cluster.nodes[ME].hold_captures = True
    node.append(2, (0, 0), *[entry(1, seqno, b"x" * 30) for seqno in range(1, 7)], committed=6)
    node.disk.held = True
    node.cluster.finish_captures(1)
    assert node.disk.released == 0
    node.cluster.sync(ME)
    assert node.disk.released > 0
