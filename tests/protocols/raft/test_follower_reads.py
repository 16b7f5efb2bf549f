import pytest

from tests.protocols.raft.harness import Cluster, propose_all
from viewstamp.core.events import Queried, ReadToken, Received
from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.raft import RaftOptions
from viewstamp.protocols.raft.messages import AppendEntries, AppendResponse, ReadIndex, ReadIndexAnswer
from viewstamp.protocols.raft.state import Role


def settled(size: int = 3, **options: int) -> tuple[Cluster, int]:
    cluster = Cluster(size, options=RaftOptions(**options))
    return cluster, cluster.elect()


def test_read_when_the_leader_is_confirmed_is_answered_in_one_round_trip() -> None:
    cluster, leader = settled()
    cluster.letters.clear()
    before = cluster.sent
    cluster.query(leader, 1)
    assert cluster.nodes[NodeId(leader)].answered == []
    cluster.settle()
    assert cluster.nodes[NodeId(leader)].answered == [1]
    assert cluster.sent - before == 4


def test_reads_when_many_wait_share_rounds() -> None:
    cluster, leader = settled()
    before = cluster.sent
    for token in range(100):
        cluster.query(leader, token)
    cluster.settle()
    assert cluster.nodes[NodeId(leader)].answered == list(range(100))
    assert cluster.sent - before == 8, "the first has a round for itself, the others share the next"


def test_read_when_it_arrives_during_a_round_waits_for_the_next() -> None:
    cluster, leader = settled()
    follower, other = cluster.followers()
    cluster.query(leader, 1)
    cluster.deliver_next(lambda letter: letter.to == follower)
    cluster.letters = type(cluster.letters)(letter for letter in cluster.letters if letter.to == leader)
    cluster.query(leader, 2)
    cluster.deliver_next(lambda letter: letter.source == follower)
    assert cluster.nodes[NodeId(leader)].answered == [1], "the answer was on its way before read 2 arrived"
    assert other != follower
    cluster.settle()
    assert cluster.nodes[NodeId(leader)].answered == [1, 2]


def test_read_when_answers_are_of_an_earlier_round_is_not_confirmed() -> None:
    cluster, leader = settled()
    core = cluster.core(leader)
    cluster.query(leader, 1)
    cluster.letters.clear()
    for follower in cluster.followers():
        old = AppendResponse(
            term=1,
            incarnation=cluster.core(follower).state.incarnation,
            matched_view=1,
            matched_seqno=1,
            round=core.replication.round - 1,
            reached=0,
        )
        cluster.feed_message(follower, leader, old)
        never = AppendResponse(
            term=1,
            incarnation=cluster.core(follower).state.incarnation,
            matched_view=1,
            matched_seqno=1,
            round=core.replication.round + 1,
            reached=0,
        )
        cluster.feed_message(follower, leader, never)
    assert cluster.nodes[NodeId(leader)].answered == []


def test_read_when_the_leader_has_not_committed_in_its_term_waits() -> None:
    cluster = Cluster(3)
    cluster.settle()
    cluster.blocked = lambda letter: (
        isinstance(letter.message, AppendEntries) and bool(letter.message.entries)
    )

    def leading() -> list[int]:
        return [number for number in cluster.members if cluster.core(number).state.role is Role.LEADER]

    cluster.run_until(lambda: bool(leading()))
    (leader,) = leading()
    cluster.query(leader, 1)
    cluster.settle()
    assert cluster.nodes[NodeId(leader)].answered == []
    cluster.heal()
    cluster.run(150)
    assert cluster.nodes[NodeId(leader)].answered == [1]


def test_read_when_it_is_lost_on_the_way_is_confirmed_by_the_next_heartbeat() -> None:
    cluster, leader = settled()
    cluster.query(leader, 1)
    cluster.letters.clear()
    cluster.run(110)
    assert cluster.nodes[NodeId(leader)].answered == [1]


def test_read_at_a_follower_when_it_lags_waits_until_it_has_applied() -> None:
    cluster, _leader = settled()
    follower = cluster.followers()[0]
    propose_all(cluster, [b"x"])
    node = cluster.nodes[NodeId(follower)]
    cluster.query(follower, 7)
    while not node.answered:
        assert cluster.commands(follower) == [] or cluster.letters
        assert cluster.deliver_next() is not None
    assert cluster.commands(follower) == [b"x"]
    assert node.answered == [7]


def test_reads_at_a_follower_when_many_wait_share_requests() -> None:
    cluster, _leader = settled()
    follower = cluster.followers()[0]
    for token in range(50):
        cluster.query(follower, token)
    requests = [letter for letter in cluster.letters if isinstance(letter.message, ReadIndex)]
    assert len(requests) == 1
    cluster.settle()
    assert cluster.nodes[NodeId(follower)].answered == list(range(50))


def test_read_at_a_follower_when_the_leader_is_gone_is_refused() -> None:
    cluster, leader = settled()
    follower = cluster.followers()[0]
    cluster.isolate(leader)
    cluster.query(follower, 1)
    cluster.run(301)
    assert cluster.nodes[NodeId(follower)].refused == [1]
    cluster.isolate(follower)
    cluster.run(1_000)
    cluster.query(follower, 2)
    assert cluster.nodes[NodeId(follower)].refused == [1, 2]


def test_read_at_a_follower_when_the_answer_is_to_an_earlier_life_is_ignored() -> None:
    cluster, leader = settled()
    follower = cluster.followers()[0]
    cluster.run(150)
    cluster.query(follower, 1)
    (request,) = [letter.message for letter in cluster.letters if isinstance(letter.message, ReadIndex)]
    cluster.letters.clear()
    for wrong in (request.request - 1, request.request + 1, 1, 0):
        cluster.feed_message(leader, follower, ReadIndexAnswer(term=1, request=wrong, index=0))
    assert cluster.nodes[NodeId(follower)].answered == []
    other = cluster.followers()[1]
    cluster.feed_message(other, follower, ReadIndexAnswer(term=1, request=request.request, index=0))
    assert cluster.nodes[NodeId(follower)].answered == []
    cluster.feed_message(leader, follower, ReadIndexAnswer(term=1, request=request.request, index=1))
    assert cluster.nodes[NodeId(follower)].answered == [1]


def test_reads_when_leadership_is_lost_are_refused() -> None:
    cluster, leader = settled()
    follower = cluster.followers()[0]
    cluster.isolate(leader)
    for token in range(3):
        cluster.query(leader, token)
    cluster.run(1_000)
    assert cluster.nodes[NodeId(leader)].refused == [0, 1, 2]
    cluster.heal()
    cluster.feed_message(follower, leader, ReadIndex(term=cluster.core(leader).state.term, request=5))
    assert cluster.core(leader).state.counters["message for another role"] >= 1


def test_read_when_the_cluster_has_one_member_is_answered_at_once() -> None:
    cluster = Cluster(1)
    cluster.run(0)
    cluster.query(1, 1)
    assert cluster.nodes[NodeId(1)].answered == [1]


@pytest.mark.parametrize("at_leader", [True, False])
def test_reads_when_too_many_wait_are_refused(at_leader: bool) -> None:
    cluster, leader = settled(reads_max=5)
    node = leader if at_leader else cluster.followers()[0]
    for token in range(10):
        cluster.query(node, token)
    assert cluster.nodes[NodeId(node)].refused == [6, 7, 8, 9]
    cluster.settle()
    assert cluster.nodes[NodeId(node)].answered == [0, 1, 2, 3, 4, 5]


def test_read_when_the_leader_was_paused_is_not_answered_from_the_past() -> None:
    cluster, leader = settled()
    cluster.run(50)
    core = cluster.core(leader)
    cluster.isolate(leader)
    paused_at = cluster.now
    others = [node for node in cluster.members if node != leader]
    cluster.nodes[NodeId(leader)].core = None
    cluster.run_until(lambda: cluster.leader in others)
    cluster.propose(cluster.leader or 0, b"new")
    cluster.settle()
    cluster.nodes[NodeId(leader)].core = core
    assert core.state.now <= paused_at
    core.step(Queried(ReadToken(1)), cluster.now)
    for other in others:
        late = AppendResponse(
            term=1,
            incarnation=cluster.core(other).state.incarnation,
            matched_view=1,
            matched_seqno=1,
            round=core.replication.round - 1,
            reached=0,
        )
        effects = core.step(Received(NodeId(other), late), Instant(cluster.now))
        assert not [effect for effect in effects if type(effect).__name__ == "Answer"]
