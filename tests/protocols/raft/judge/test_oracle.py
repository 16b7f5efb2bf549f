import pytest

from tests.protocols.raft.harness import Cluster, propose_all
from tests.protocols.raft.narrator import history
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.raft.journal import HardState, Replay
from viewstamp.protocols.raft.judge.oracle import RaftImage, RaftOracle
from viewstamp.protocols.raft.messages import AppendEntries, AppendResponse, RequestVote, VoteResponse
from viewstamp.protocols.replication.judge.disk_image import DiskImage
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, Truncation, encode_record

MEMBERS = tuple((node, 100 * node) for node in (1, 2, 3))


def image(terms: str = "112", *, term: int = 3, vote: int | None = 2) -> RaftImage:
    disk = DiskImage(Replay())
    disk.write(PersistSeq(1), history(MEMBERS, terms, term=term, vote=vote))
    return disk


def at(view: int, seqno: int) -> Viewstamp:
    return Viewstamp(View(view), Seqno(seqno))


def broken(message: object, disk: RaftImage, source: int = 1) -> str | None:
    return RaftOracle((NodeId(1),)).broken_promise(NodeId(source), message, disk)


def test_image_when_it_was_written_tells_what_a_restart_finds() -> None:
    disk = image()
    assert (disk.view, disk.promises, disk.base, disk.last) == (3, {"vote": 2}, at(0, 0), at(2, 3))
    assert disk.holds(at(1, 2))
    assert not disk.holds(at(2, 2))
    assert not disk.holds(at(2, 4))
    assert disk.data(Seqno(1)) == b"1a"
    assert disk.data(Seqno(4)) is None
    disk.write(PersistSeq(2), [encode_record(Truncation(1)), encode_record(EntryRecord(3, 2, COMMAND, b"z"))])
    assert (disk.last, disk.data(Seqno(2))) == (at(3, 2), b"z")


def test_image_when_a_snapshot_is_newer_than_the_log() -> None:
    disk = image()
    disk.snapshot(SnapshotMeta(at(1, 2), b"", 0, 0))
    assert (disk.base, disk.last) == (at(0, 0), at(2, 3)), "it is in the log: the log stays"
    disk.snapshot(SnapshotMeta(at(4, 9), b"", 0, 0))
    assert (disk.base, disk.last) == (at(4, 9), at(4, 9))
    assert disk.holds(at(2, 7))


def test_vote_when_it_is_not_on_disk_is_a_broken_promise() -> None:
    vote = VoteResponse(
        term=3,
        incarnation=Incarnation(100),
        candidate=NodeId(2),
        election=3,
        pre=False,
        granted=True,
        campaign=1,
    )
    assert broken(vote, image(vote=2)) is None
    assert broken(vote, image(term=4, vote=None)) is None
    assert "vote for node 2" in (broken(vote, image(vote=None)) or "")
    assert "vote for node 2" in (broken(vote, image(vote=1)) or "")
    assert broken(vote, image(term=2, vote=2)) is not None
    assert (
        broken(
            VoteResponse(
                term=3,
                incarnation=Incarnation(100),
                candidate=NodeId(2),
                election=9,
                pre=True,
                granted=True,
                campaign=1,
            ),
            image(vote=None),
        )
        is None
    )
    request = RequestVote(term=3, pre=False, transfer=False, campaign=1, last_log_term=2, last_log_index=3)
    assert broken(request, image(vote=1)) is None
    assert broken(request, image(vote=2)) is not None
    assert (
        broken(
            RequestVote(term=9, pre=True, transfer=False, campaign=1, last_log_term=2, last_log_index=3),
            image(),
        )
        is None
    )


def test_acknowledgement_when_the_entry_is_not_on_disk_is_a_broken_promise() -> None:
    def acknowledged(view: int, seqno: int) -> str | None:
        return broken(
            AppendResponse(
                term=3,
                incarnation=Incarnation(100),
                matched_view=view,
                matched_seqno=seqno,
                round=0,
                reached=0,
            ),
            image(),
        )

    assert acknowledged(2, 3) is None
    assert acknowledged(0, 0) is None
    assert "entry 2.4" in (acknowledged(2, 4) or "")
    assert "entry 1.3" in (acknowledged(1, 3) or "")
    assert "term 4" in (
        broken(
            AppendResponse(
                term=4, incarnation=Incarnation(100), matched_view=2, matched_seqno=3, round=0, reached=0
            ),
            image(),
        )
        or ""
    )
    assert (
        broken(
            AppendEntries(
                term=4,
                to=Incarnation(100),
                previous_view=0,
                previous_seqno=0,
                entries=[],
                committed=0,
                round=0,
                attempt=0,
            ),
            image(),
        )
        is not None
    )


def test_commitment_when_a_majority_of_the_voters_holds_the_entry() -> None:
    oracle = RaftOracle((NodeId(1), NodeId(2), NodeId(3)))
    images = {NodeId(1): image("112"), NodeId(2): image("11"), NodeId(3): image("1")}
    assert oracle.committed_by(at(1, 2), images)
    assert not oracle.committed_by(at(2, 3), images)


def test_step_when_something_goes_back_names_it() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    propose_all(cluster, [b"a", b"b"])
    core = cluster.core(leader)
    oracle = RaftOracle(cluster.members)
    oracle.check_step(NodeId(leader), core)
    core.state.committed = 2
    with pytest.raises(InvariantViolated, match=r"Monotonic: .* committed went from 3 to 2"):
        oracle.check_step(NodeId(leader), core)
    oracle.forget(NodeId(leader))
    oracle.check_step(NodeId(leader), core)
    core.state.vote = NodeId(9)
    with pytest.raises(InvariantViolated, match="VoteOnce"):
        oracle.check_step(NodeId(leader), core)


def test_step_when_an_older_term_is_committed_by_counting_names_it() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    propose_all(cluster, [b"a"])
    core = cluster.core(leader)
    core.state.committed = 1
    core.state.term = 5
    oracle = RaftOracle(cluster.members)
    oracle.check_step(NodeId(leader), core)
    core.state.committed = 2
    with pytest.raises(InvariantViolated, match="I10 NoPriorTermCommit"):
        oracle.check_step(NodeId(leader), core)


def test_step_when_what_a_follower_has_matched_goes_back_names_it() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    propose_all(cluster, [b"a"])
    core = cluster.core(leader)
    oracle = RaftOracle(cluster.members)
    oracle.check_step(NodeId(leader), core)
    core.replication.progress[NodeId(cluster.followers()[0])].matched -= 1
    with pytest.raises(InvariantViolated, match="matched went back"):
        oracle.check_step(NodeId(leader), core)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("applied", "I9 Ordering"),
        ("committed", "I9 Ordering"),
        ("leader", "I1 ElectionSafety"),
        ("vote", "I1 ElectionSafety"),
        ("progress", "I9 Ordering"),
    ],
)
def test_node_when_an_ordering_is_broken_names_it(field: str, name: str) -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    core = cluster.core(leader)
    if field == "applied":
        core.state.applied += 5
    elif field == "committed":
        core.state.committed = 0
    elif field == "leader":
        core.state.leader = None
    elif field == "vote":
        core.state.vote = None
    else:
        core.replication.progress[NodeId(cluster.followers()[0])].next = 99
    with pytest.raises(InvariantViolated, match=name):
        RaftOracle(cluster.members).check_node(core)


def test_disk_when_it_holds_a_term_tells_it() -> None:
    disk = DiskImage(Replay())
    disk.write(PersistSeq(1), [encode_record(HardState(7, None))])
    assert disk.view == 7
