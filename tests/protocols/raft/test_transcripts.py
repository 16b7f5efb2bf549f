from collections.abc import Callable

from tests.protocols.raft.harness import Letter
from tests.protocols.raft.narrator import Story, history
from viewstamp.core.events import TransferLeadership
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq
from viewstamp.protocols.raft import RaftOptions
from viewstamp.protocols.raft.messages import AppendEntries, RequestVote, VoteResponse
from viewstamp.protocols.raft.state import Role


def prepared(size: int, logs: dict[int, tuple[str, int]]) -> Story:
    """A cluster whose nodes have been through terms: {node: (terms of its entries, current term)}."""
    story = Story(size, start=False)
    members = tuple((node, 100 * node) for node in story.members)
    for node, (terms, term) in logs.items():
        disk = story.nodes[NodeId(node)].disk
        disk.writes = [(PersistSeq(1), tuple(history(members, terms, term=term)))]
        disk.written = PersistSeq(1)
        disk.crash()
        story.start(node)
    return story


def between(*numbers: int) -> Callable[[Letter], bool]:
    return lambda letter: letter.source in numbers and letter.to in numbers


def test_founding_and_first_election() -> None:
    story = Story(3)
    story.say("each node introduces itself; when all have heard the same, the cluster is bootstrapped")
    story.settle()
    story.say("the least patient node campaigns")
    story.wake_up(1)
    story.settle()
    assert story.leader == 1
    story.say("a command")
    story.propose(1, b"x")
    story.settle()
    story.wake_up(1)
    story.settle()
    assert [story.commands(node) for node in (1, 2, 3)] == [[b"x"]] * 3
    story.compare("bootstrap")


def test_election_when_the_vote_is_split() -> None:
    story = prepared(4, dict.fromkeys((1, 2, 3, 4), ("1", 1)))
    story.say("two nodes win their pre-votes at the same time")
    story.wake_up(1)
    story.wake_up(2)
    is_pre = lambda letter: getattr(letter.message, "pre", False)  # noqa: E731
    while story.deliver_next(is_pre):
        pass
    assert [story.core(node).state.role for node in (1, 2)] == [Role.CANDIDATE] * 2
    story.say("each gets the vote of one other")
    story.deliver_next(between(1, 3))
    story.deliver_next(between(2, 4))
    story.settle()
    assert [story.core(node).state.vote for node in (1, 2, 3, 4)] == [1, 2, 1, 2]
    story.say("the next to lose patience wins the next term")
    story.wake_up(3)
    story.settle()
    assert story.core(3).state.role is Role.LEADER
    assert story.core(3).state.term == 3
    story.compare("split_vote")


def test_logs_when_they_differ_as_in_figure_7() -> None:
    logs = {
        1: ("1114455666", 7),
        2: ("111445566", 6),
        3: ("1114", 4),
        4: ("11144556666", 6),
        5: ("111445566677", 7),
        6: ("1114444", 4),
        7: ("11122233333", 3),
    }
    story = prepared(7, logs)
    story.say("the leader of figure 7 is elected for term 8; (a) to (f) are nodes 2 to 7")
    story.wake_up(1)
    story.settle()
    assert story.leader == 1
    last = story.core(1).state.log.last_seqno
    story.wake_up(1)
    story.settle()
    for node in story.members:
        log = story.core(node).state.log
        assert [log.view_at(seqno) for seqno in range(1, last + 1)] == [*map(int, "1114455666"), 8]
    story.compare("figure_7")


def test_commitment_when_an_older_term_is_on_a_majority_as_in_figure_8() -> None:
    story = prepared(5, {1: ("12", 3), 2: ("12", 2), 3: ("1", 2), 4: ("1", 2)})
    story.say("(c) node 1 leads term 4 and brings entry 2 of term 2 to a majority")
    story.isolate(1, 2, 3)
    story.wake_up(1)
    while story.deliver_next(lambda letter: isinstance(letter.message, RequestVote | VoteResponse)):
        pass
    assert story.core(1).state.role is Role.LEADER
    story.say("the entry of term 4 does not get through, that of term 2 does")
    log = story.core(1).state.log
    old = AppendEntries(
        term=4,
        to=Incarnation(300),
        previous_view=1,
        previous_seqno=1,
        entries=log.records(2, entries_max=1, bytes_max=1000),
        committed=0,
        round=0,
        attempt=0,
    )
    story.lose_all()
    story.deliver(Letter(NodeId(1), NodeId(3), old))
    story.settle()
    assert [story.core(node).state.log.view_at(2) for node in (1, 2, 3)] == [2, 2, 2]
    assert [story.core(node).state.committed for node in (1, 2, 3)] == [0, 0, 0]
    story.say("(e) once an entry of term 4 is on a majority, both are committed")
    story.wake_up(1)
    story.settle()
    assert story.core(1).state.committed == 3
    story.compare("figure_8")


def test_follower_when_it_lags_behind_the_log() -> None:
    story = Story(3, options=RaftOptions(log_bytes_max=260, snapshot_chunk_bytes=64))
    story.padding = 150
    story.settle()
    story.wake_up(1)
    story.settle()
    story.say("node 3 is away while the log is compacted")
    story.isolate(3)
    for number in range(12):
        story.propose(1, b"command %d" % number)
        story.settle()
    assert story.core(1).state.log.base_seqno > 2
    story.say("it comes back: what it needs is gone, so it gets a snapshot, chunk by chunk")
    story.heal()
    story.wake_up(1)
    story.settle()
    story.wake_up(1)
    story.settle()
    assert story.nodes[NodeId(3)].machine == story.nodes[NodeId(1)].machine
    story.compare("snapshot")


def test_read_index_when_the_leader_changes() -> None:
    story = prepared(3, dict.fromkeys((1, 2, 3), ("1", 1)))
    story.say("node 1 leads, and is cut off without noticing")
    story.wake_up(1)
    story.settle()
    story.isolate(1)
    story.say("node 2 leads the next term and commits a write")
    story.pass_ms(400)
    story.wake_up(2)
    story.settle()
    story.propose(2, b"new")
    story.settle()
    story.say("a read at the old leader cannot be confirmed; one at a follower of the new leader can")
    story.query(1, 1)
    story.query(3, 2)
    story.settle()
    assert story.nodes[NodeId(1)].answered == []
    assert story.nodes[NodeId(3)].answered == [2]
    assert story.commands(3)[-1] == b"new"
    story.say("the old leader hears of the new one: the read is refused, and asked again")
    story.heal()
    story.wake_up(2)
    story.settle()
    assert story.nodes[NodeId(1)].refused == [1]
    story.query(1, 3)
    story.settle()
    assert story.nodes[NodeId(1)].answered == [3]
    assert story.commands(1)[-1] == b"new"
    story.compare("read_index")


def test_isolated_node_when_it_comes_back() -> None:
    story = prepared(3, dict.fromkeys((1, 2, 3), ("1", 1)))
    story.wake_up(1)
    story.settle()
    story.say("node 3 is cut off and loses patience, three times")
    story.isolate(3)
    for _ in range(3):
        for _ in range(5):
            story.wake_up(1)
            story.settle()
        story.wake_up(3)
        story.settle()
    assert story.core(3).state.term == 2
    story.say("it comes back: its term has not grown, nobody helps it, and the leader stays")
    story.heal()
    story.wake_up(1)
    story.settle()
    story.say("even when it loses patience again, because the others hear the leader")
    for _ in range(5):
        story.wake_up(1)
        story.deliver_next(lambda letter: letter.to == 2)
        story.letters.clear()
    story.wake_up(3)
    assert story.core(3).state.role is Role.PRE_CANDIDATE
    story.settle()
    story.wake_up(1)
    story.settle()
    assert story.leader == 1
    assert {story.core(node).state.term for node in (1, 2, 3)} == {2}
    story.compare("pre_vote")


def test_leadership_when_it_is_transferred() -> None:
    story = prepared(3, dict.fromkeys((1, 2, 3), ("1", 1)))
    story.wake_up(1)
    story.settle()
    story.say("node 2 lacks an entry when the operator wants it to lead")
    story.propose(1, b"x")
    story.letters.popleft()
    story.direct(1, 9, TransferLeadership(NodeId(2)))
    assert not story.core(1).accepting
    story.wake_up(1)
    story.settle()
    assert story.leader == 2
    assert story.nodes[NodeId(1)].settled == {9: None}
    story.compare("transfer")


def test_wiped_node_when_it_is_let_back_in() -> None:
    story = Story(3)
    story.settle()
    story.wake_up(1)
    story.settle()
    story.propose(1, b"x")
    story.settle()
    story.say("node 3 loses its disk and comes back as another incarnation")
    story.wipe(3)
    story.start(3)
    story.settle()
    assert (
        story.core(3).status(story.now).waiting_for
        == "its disk was wiped: waiting for the leader to re-admit it"
    )
    story.say("its former life was heard a moment ago, so that the leader waits before it believes this")
    story.pass_ms(310)
    story.wake_up(3)
    story.settle()
    story.wake_up(1)
    story.settle()
    assert story.core(3).state.is_voter
    assert story.core(1).state.membership.current.voters[-1] == (3, 301)
    story.compare("wiped_node")


def test_leader_when_it_loses_its_majority() -> None:
    story = prepared(3, dict.fromkeys((1, 2, 3), ("1", 1)))
    story.wake_up(1)
    story.settle()
    story.propose(1, b"in time")
    story.settle()
    story.say("the leader is cut off with a command under way and a read to confirm")
    story.isolate(1)
    story.propose(1, b"under way")
    story.query(1, 5)
    for _ in range(8):
        story.wake_up(1)
        story.settle()
    assert story.core(1).state.role is not Role.LEADER
    assert story.nodes[NodeId(1)].refused == [5]
    story.say("nothing was said about the command: it is still in the log, and may yet be committed")
    story.heal()
    story.wake_up(1)
    story.settle()
    assert story.leader == 1
    assert story.commands(1) == [b"1a", b"in time", b"under way"]
    story.compare("check_quorum")
