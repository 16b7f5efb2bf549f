from tests.protocols.raft.harness import Cluster, propose_all
from viewstamp.core.events import TransferLeadership
from viewstamp.core.ids import NodeId
from viewstamp.protocols.raft.messages import TimeoutNow


def settled(size: int = 3) -> tuple[Cluster, int]:
    cluster = Cluster(size)
    return cluster, cluster.elect()


def test_transfer_when_all_is_well_takes_no_time() -> None:
    cluster, leader = settled()
    target = cluster.followers()[1]
    cluster.run(10)
    begun = cluster.now
    cluster.direct(leader, 1, TransferLeadership(NodeId(target)))
    cluster.settle()
    assert cluster.leader == target
    assert cluster.now == begun
    assert cluster.nodes[NodeId(leader)].settled == {1: None}


def test_transfer_when_no_target_is_named_chooses_one_that_is_up() -> None:
    cluster, leader = settled(5)
    dead = cluster.followers()[0]
    cluster.crash(dead)
    cluster.run(400)
    propose_all(cluster, [b"x"])
    cluster.direct(leader, 1, TransferLeadership())
    cluster.settle()
    assert cluster.leader not in {leader, dead, None}


def test_transfer_when_the_target_is_dead_is_given_up() -> None:
    cluster, leader = settled()
    target = cluster.followers()[0]
    cluster.crash(target)
    cluster.direct(leader, 1, TransferLeadership(NodeId(target)))
    assert not cluster.core(leader).accepting
    cluster.run(301)
    refusal = f"node {target} did not take over in time"
    assert cluster.nodes[NodeId(leader)].settled == {1: refusal}
    assert cluster.core(leader).accepting


def test_transfer_when_somebody_else_wins_says_so() -> None:
    cluster, leader = settled()
    target, other = cluster.followers()
    cluster.blocked = lambda letter: isinstance(letter.message, TimeoutNow)
    cluster.direct(leader, 1, TransferLeadership(NodeId(target)))
    cluster.settle()
    cluster.core(other).election.campaign(transfer=True)
    cluster.wake(other)
    cluster.settle()
    assert cluster.leader == other
    refusal = f"node {other} leads instead of node {target}"
    assert cluster.nodes[NodeId(leader)].settled == {1: refusal}


def test_transfer_when_it_makes_no_sense_is_refused() -> None:
    cluster, leader = settled()
    follower = cluster.followers()[0]
    cluster.direct(follower, 1, TransferLeadership())
    refusal = f"node {follower} does not lead: node {leader} does"
    assert cluster.nodes[NodeId(follower)].settled == {1: refusal}
    cluster.direct(leader, 2, TransferLeadership(NodeId(9)))
    cluster.direct(leader, 3, TransferLeadership(NodeId(leader)))
    cluster.letters.clear()
    cluster.isolate(leader)
    cluster.direct(leader, 4, TransferLeadership(NodeId(follower)))
    cluster.direct(leader, 5, TransferLeadership(NodeId(follower)))
    settled_ones = cluster.nodes[NodeId(leader)].settled
    assert settled_ones == {
        2: "node 9 is not a voter",
        3: None,
        5: f"leadership is being transferred to node {follower}",
    }


def test_transfer_when_nobody_is_left_is_refused() -> None:
    cluster, leader = settled()
    cluster.isolate(leader)
    cluster.run(400)
    cluster.direct(leader, 1, TransferLeadership())
    assert "no other voter" in (cluster.nodes[NodeId(leader)].settled[1] or "")


def test_campaign_order_when_it_is_for_another_life_is_ignored() -> None:
    cluster, leader = settled()
    follower, other = cluster.followers()
    term = cluster.core(follower).state.term
    cluster.feed_message(leader, follower, TimeoutNow(term=term, to=cluster.core(other).state.incarnation))
    cluster.feed_message(other, follower, TimeoutNow(term=term, to=cluster.core(follower).state.incarnation))
    assert cluster.core(follower).state.term == term
