import pytest

from tests.protocols.raft.harness import Cluster, propose_all
from viewstamp.core.events import ChangeMembers, TransferLeadership
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.raft.membership import Membership
from viewstamp.protocols.raft.messages import AppendEntries, Dismissed, Introduce, RequestVote
from viewstamp.protocols.raft.options import RaftOptions
from viewstamp.protocols.raft.state import Role


def settled(size: int = 3, *, options: RaftOptions | None = None) -> tuple[Cluster, int]:
    cluster = Cluster(size, options=options)
    leader = cluster.elect()
    propose_all(cluster, [b"a", b"b"])
    return cluster, leader


def nodes(*numbers: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(number) for number in numbers)


def adding(*numbers: int) -> ChangeMembers:
    added = tuple((NodeId(number), Incarnation(100 * number)) for number in numbers)
    return ChangeMembers(add=added, promote=nodes(*numbers))


def replacing(*pairs: tuple[int, int]) -> ChangeMembers:
    added = tuple((NodeId(new), Incarnation(100 * new)) for _, new in pairs)
    return ChangeMembers(add=added, replace=tuple((NodeId(old), NodeId(new)) for old, new in pairs))


def direct(cluster: Cluster, change: ChangeMembers, token: int = 1) -> str | None:
    """Ask the leader, and let time pass until it has answered; return the refusal."""
    leader = cluster.leader
    assert leader is not None
    cluster.direct(leader, token, change)
    cluster.run_until(lambda: token in cluster.nodes[NodeId(leader)].settled)
    return cluster.nodes[NodeId(leader)].settled[token]


def membership(cluster: Cluster, node: int | None = None) -> Membership:
    leader = cluster.leader if node is None else node
    assert leader is not None
    return cluster.core(leader).state.membership


def voters(cluster: Cluster) -> list[int]:
    """The voters by the leader's log; empty while a change is under way."""
    if cluster.leader is None or membership(cluster).current.is_joint:
        return []
    return sorted(membership(cluster).voters)


def grown(*added: int) -> Cluster:
    """A cluster of three to which these nodes were added."""
    cluster, _ = settled()
    for node in added:
        cluster.join(node)
    assert direct(cluster, adding(*added)) is None
    cluster.run_until(lambda: voters(cluster) == [1, 2, 3, *added])
    return cluster


def test_node_when_it_joins_waits_until_it_is_added() -> None:
    cluster, leader = settled()
    cluster.join(4)
    cluster.run(2_000)
    assert voters(cluster) == [1, 2, 3]
    assert cluster.leader == leader
    assert not cluster.core(4).state.bootstrapped
    waiting_for = cluster.core(4).status(cluster.now).waiting_for
    assert waiting_for == "not a member yet: waiting until `viewstamp member add` names this node"


def test_node_when_it_joins_a_cluster_that_is_not_bootstrapped_does_not_take_part_in_that() -> None:
    cluster = Cluster(3, start=False)
    cluster.join(4)
    for node in (1, 2):
        cluster.start(node)
    cluster.run(1_000)
    assert not any(cluster.core(node).state.bootstrapped for node in (1, 2, 4))
    cluster.start(3)
    cluster.elect()
    assert voters(cluster) == [1, 2, 3]


def test_node_when_it_is_added_learns_first_and_then_votes() -> None:
    cluster, _ = settled()
    cluster.join(4)
    cluster.isolate(4)
    assert direct(cluster, adding(4)) is None
    cluster.run(2_000)
    assert voters(cluster) == [1, 2, 3], "it has nothing yet"
    assert membership(cluster).current.returning == (4,)
    cluster.heal()
    cluster.run_until(lambda: voters(cluster) == [1, 2, 3, 4])
    cluster.run(200)
    assert cluster.commands(4) == [b"a", b"b"]


def test_node_when_it_is_added_as_a_learner_stays_one() -> None:
    cluster, _ = settled()
    cluster.join(4)
    learner = ChangeMembers(add=((NodeId(4), Incarnation(400)),))
    assert direct(cluster, learner) is None
    cluster.run(2_000)
    assert voters(cluster) == [1, 2, 3]
    assert cluster.commands(4) == [b"a", b"b"]
    assert cluster.core(4).status(cluster.now).role == "learner"
    assert direct(cluster, ChangeMembers(promote=nodes(4)), 2) is None
    cluster.run_until(lambda: voters(cluster) == [1, 2, 3, 4])


def test_learner_when_its_directory_is_empty_and_the_log_is_compacted_gets_a_snapshot() -> None:
    cluster, leader = settled(options=RaftOptions(log_bytes_max=400))
    propose_all(cluster, [b"command %d" % number for number in range(40)])
    assert cluster.core(leader).state.log.base_seqno > 5
    cluster.join(4)
    assert direct(cluster, adding(4)) is None
    cluster.run_until(lambda: voters(cluster) == [1, 2, 3, 4])
    state = cluster.core(4).state
    assert state.snapshot is not None
    assert state.committed <= state.log.last_seqno
    cluster.run(200)
    assert cluster.nodes[NodeId(4)].machine == cluster.nodes[NodeId(leader)].machine


def test_change_when_it_is_asked_for_again_is_already_done() -> None:
    cluster = grown(4)
    last = cluster.core(1).state.log.last_seqno
    assert direct(cluster, adding(4), 2) is None
    assert direct(cluster, ChangeMembers(remove=nodes(9)), 3) is None
    assert cluster.core(1).state.log.last_seqno == last


def test_cluster_when_it_grows_to_five_and_shrinks_again_loses_nothing() -> None:
    cluster = grown(4, 5)
    propose_all(cluster, [b"c"])
    leader = cluster.leader
    assert leader is not None
    going = [node for node in (1, 2, 3, 4, 5) if node != leader][:2]
    assert direct(cluster, ChangeMembers(remove=nodes(*going)), 2) is None
    cluster.run_until(lambda: len(voters(cluster)) == 3)
    propose_all(cluster, [b"d"])
    cluster.run(1_000)
    for node in voters(cluster):
        assert cluster.commands(node) == [b"a", b"b", b"c", b"d"]


def test_node_when_it_was_away_while_it_was_removed_is_told_so() -> None:
    cluster, leader = settled()
    gone = cluster.followers()[0]
    cluster.isolate(gone)
    assert direct(cluster, ChangeMembers(remove=nodes(gone))) is None
    term = cluster.core(leader).state.term
    cluster.run(2_000)
    cluster.heal()
    cluster.run(2_000)
    removed_at = membership(cluster).current.removed_at(NodeId(gone), Incarnation(100 * gone))
    assert cluster.nodes[NodeId(gone)].removed == removed_at is not None
    assert (cluster.leader, cluster.core(leader).state.term) == (leader, term), "nobody was disturbed"
    waiting_for = cluster.core(gone).status(cluster.now).waiting_for
    assert waiting_for == "this data directory was removed from the cluster: it will never serve again"
    for node in {1, 2, 3} - {gone}:
        cluster.crash(node)
    before = cluster.sent
    cluster.run(3_000)
    assert cluster.sent == before, "it lets the others alone"


def test_learner_when_it_was_removed_hears_of_it() -> None:
    cluster, _ = settled()
    cluster.join(4)
    assert direct(cluster, ChangeMembers(add=((NodeId(4), Incarnation(400)),))) is None
    cluster.run(500)
    cluster.isolate(4)
    assert direct(cluster, ChangeMembers(remove=nodes(4)), 2) is None
    cluster.heal()
    cluster.run(1_000)
    assert cluster.nodes[NodeId(4)].removed is not None


def test_node_when_it_is_revived_from_an_old_directory_is_told_that_it_was_removed() -> None:
    cluster, _ = settled()
    gone = cluster.followers()[0]
    cluster.crash(gone)
    cluster.run(100)
    assert direct(cluster, ChangeMembers(remove=nodes(gone))) is None
    cluster.start(gone)
    cluster.run(2_000)
    assert cluster.nodes[NodeId(gone)].removed is not None
    assert len(voters(cluster)) == 2


def test_directory_when_it_was_removed_is_not_added_again_but_an_empty_one_is() -> None:
    cluster, _ = settled()
    gone = cluster.followers()[0]
    assert direct(cluster, ChangeMembers(remove=nodes(gone))) is None
    again = ChangeMembers(add=((NodeId(gone), Incarnation(100 * gone)),))
    refusal = direct(cluster, again, 2)
    assert refusal is not None
    assert refusal.endswith("start it with an empty one")
    cluster.wipe(gone)
    cluster.start(gone)
    fresh = ((NodeId(gone), Incarnation(100 * gone + 1)),)
    assert direct(cluster, ChangeMembers(add=fresh, promote=nodes(gone)), 3) is None
    cluster.run_until(lambda: voters(cluster) == [1, 2, 3])


def test_leader_when_it_is_removed_hands_over_first() -> None:
    cluster, leader = settled()
    assert direct(cluster, ChangeMembers(remove=nodes(leader))) is None
    took_ms = cluster.run_until(lambda: len(voters(cluster)) == 2)
    assert took_ms <= 200, "no election timeout passes"
    assert cluster.leader not in {None, leader}
    cluster.run(1_000)
    assert cluster.nodes[NodeId(leader)].removed is not None


def test_each_member_when_it_is_replaced_in_turn_leaves_a_cluster_that_serves() -> None:
    cluster, _ = settled()
    for token, (old, new) in enumerate(((1, 4), (2, 5), (3, 6)), start=1):
        cluster.join(new)
        assert direct(cluster, replacing((old, new)), token) is None
        cluster.run_until(lambda new=new: new in voters(cluster))  # type: ignore[misc]
        propose_all(cluster, [b"after %d" % old])
    assert voters(cluster) == [4, 5, 6]
    cluster.run(1_000)
    assert all(cluster.nodes[NodeId(node)].removed is not None for node in (1, 2, 3))
    assert cluster.commands(6)[-1] == b"after 3"


def test_all_three_when_they_are_swapped_at_once_are_one_joint_change() -> None:
    cluster, _ = settled()
    for node in (4, 5, 6):
        cluster.join(node)
    assert direct(cluster, replacing((1, 4), (2, 5), (3, 6))) is None
    cluster.run_until(lambda: voters(cluster) == [4, 5, 6])
    cluster.run(1_000)
    assert cluster.leader in {4, 5, 6}
    propose_all(cluster, [b"c"])
    assert all(cluster.nodes[NodeId(node)].removed is not None for node in (1, 2, 3))


@pytest.mark.parametrize("writes", range(1, 14))
def test_swap_when_the_leader_crashes_after_each_write_comes_to_an_end(writes: int) -> None:
    """At each `Persist` of the change the leader's process ends, with what it wrote last unsynced."""
    cluster, leader = settled()
    for node in (4, 5, 6):
        cluster.join(node)
    disk = cluster.nodes[NodeId(leader)].disk
    stop_at = disk.written + len(disk.pending) + writes
    cluster.direct(leader, 1, replacing((1, 4), (2, 5), (3, 6)))
    for _ in range(300):
        if disk.written + len(disk.pending) >= stop_at:
            break
        cluster.run(10)
    cluster.crash(leader)
    cluster.run(300)
    cluster.start(leader)
    cluster.run_until(lambda: cluster.leader is not None, 20_000)
    if not membership(cluster).current.is_joint and voters(cluster) == [1, 2, 3]:
        cluster.run(1_000)
        assert direct(cluster, replacing((1, 4), (2, 5), (3, 6)), 2) is None
    cluster.run_until(lambda: voters(cluster) == [4, 5, 6], 20_000)
    propose_all(cluster, [b"c"])
    cluster.run(500)
    assert all(cluster.commands(node)[-1] == b"c" for node in (4, 5, 6))


def test_joint_configuration_when_its_leader_is_lost_is_left_by_the_next() -> None:
    cluster, leader = settled()
    for node in (4, 5, 6):
        cluster.join(node)
    cluster.direct(leader, 1, replacing((1, 4), (2, 5), (3, 6)))
    cluster.run_until(lambda: membership(cluster, leader).current.is_joint)
    cluster.crash(leader)
    cluster.run_until(lambda: voters(cluster) == [4, 5, 6], 20_000)
    assert cluster.leader in {4, 5, 6}


def test_joint_configuration_when_one_half_is_silent_commits_nothing() -> None:
    cluster, leader = settled()
    for node in (4, 5, 6):
        cluster.join(node)
    cluster.direct(leader, 1, replacing((1, 4), (2, 5), (3, 6)))
    cluster.run_until(lambda: membership(cluster).current.learners != ())
    cluster.blocked = lambda letter: (
        isinstance(letter.message, AppendEntries)
        and letter.to in {4, 5, 6}
        and membership(cluster, leader).current.is_joint
    )
    cluster.run_until(lambda: membership(cluster, leader).current.is_joint)
    joint_at = membership(cluster, leader).changed_at
    cluster.run(250)
    assert cluster.core(leader).state.committed < joint_at
    cluster.heal()
    cluster.run_until(lambda: voters(cluster) == [4, 5, 6], 20_000)


def test_removal_when_the_rest_would_have_no_majority_is_refused_with_the_reason() -> None:
    cluster, _ = settled()
    dead, alive = cluster.followers()
    cluster.crash(dead)
    cluster.run(700)
    assert direct(cluster, ChangeMembers(remove=nodes(alive))) == (
        f"without node {alive} the cluster would stop, since node {dead} did not answer lately: "
        "bring them back, or remove those first"
    )
    assert direct(cluster, ChangeMembers(remove=nodes(dead)), 2) is None
    assert len(voters(cluster)) == 2


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (ChangeMembers(remove=nodes(1, 2, 3)), "no voter would be left"),
        (ChangeMembers(promote=nodes(7)), "node 7 is not a member: add it first"),
        (ChangeMembers(replace=((NodeId(8), NodeId(7)),)), "node 8 is not a member"),
        (ChangeMembers(replace=((NodeId(1), NodeId(7)),)), "node 7 is not a member: add it first"),
        (ChangeMembers(add=((NodeId(1), Incarnation(5)),)), "node 1 is a member with another data directory"),
        (ChangeMembers(promote=nodes(1), remove=nodes(2)), "remove members in a change of their own"),
    ],
    ids=["all", "stranger", "nobody to replace", "by a stranger", "other directory", "both"],
)
def test_change_when_it_cannot_be_made_is_refused(change: ChangeMembers, refusal: str) -> None:
    cluster, _ = settled()
    told = direct(cluster, change)
    assert told is not None
    assert told.startswith(refusal)


def test_change_when_another_is_under_way_is_refused() -> None:
    cluster, leader = settled()
    for node in (4, 5):
        cluster.join(node)
    cluster.isolate(leader)
    cluster.direct(leader, 1, adding(4))
    cluster.direct(leader, 2, adding(5))
    refusal = cluster.nodes[NodeId(leader)].settled[2]
    assert refusal == "another change of the members is under way: try again when it is done"


def test_change_when_the_node_does_not_lead_names_who_does() -> None:
    cluster, leader = settled()
    follower = cluster.followers()[0]
    cluster.direct(follower, 1, ChangeMembers(remove=nodes(3)))
    refusal = cluster.nodes[NodeId(follower)].settled[1]
    assert refusal == f"node {follower} does not lead: node {leader} does"


def test_change_when_its_leader_is_deposed_says_that_it_may_still_come() -> None:
    cluster, leader = settled()
    cluster.join(4)
    cluster.isolate(leader)
    cluster.direct(leader, 1, adding(4))
    cluster.run(2_000)
    refusal = cluster.nodes[NodeId(leader)].settled[1]
    assert refusal is not None
    assert "may still come" in refusal


def test_voter_when_it_is_silent_or_restarts_stays_a_voter() -> None:
    cluster, _ = settled()
    first, second = cluster.followers()
    cluster.crash(first)
    cluster.run(5_000)
    cluster.start(first)
    cluster.crash(second)
    cluster.run(1_000)
    cluster.start(second)
    cluster.run(1_000)
    assert voters(cluster) == [1, 2, 3]
    assert cluster.core(cluster.elect()).state.log.last_seqno <= 8, "no change was made"


def test_removed_node_when_it_asks_for_votes_is_answered_and_not_elected() -> None:
    cluster, leader = settled()
    gone = cluster.followers()[0]
    assert direct(cluster, ChangeMembers(remove=nodes(gone))) is None
    other = next(node for node in (1, 2, 3) if node not in {gone, leader})
    cluster.run(200)
    ask = RequestVote(
        term=50,
        pre=False,
        transfer=True,
        campaign=1,
        last_log_term=49,
        last_log_index=99,
        incarnation=Incarnation(100 * gone),
    )
    cluster.feed_message(gone, other, ask)
    assert cluster.core(other).state.term < 50
    assert isinstance(cluster.letters[-1].message, Dismissed)


def test_wiped_member_when_members_were_changed_is_readmitted() -> None:
    cluster = grown(4, 5)
    wiped = next(node for node in (4, 5) if node != cluster.leader)
    cluster.wipe(wiped)
    cluster.run(500)
    cluster.start(wiped)
    cluster.run_until(lambda: voters(cluster) == [1, 2, 3, 4, 5])
    assert cluster.core(wiped).state.role is not Role.LEADER


def test_wiped_member_when_all_that_it_knew_are_gone_is_heard_by_the_leader_that_calls_it() -> None:
    cluster, _ = settled()
    for node in (4, 5):
        cluster.join(node)
    assert direct(cluster, replacing((1, 4), (2, 5))) is None
    cluster.run_until(lambda: voters(cluster) == [3, 4, 5])
    cluster.run(1_000)
    for gone in (1, 2):
        cluster.crash(gone)
    assert cluster.leader is not None
    if cluster.leader == 3:
        cluster.direct(3, 5, TransferLeadership())
        cluster.run(100)
    cluster.wipe(3)
    cluster.run(500)
    cluster.start(3)
    cluster.isolate(1, 2)
    silent = next(node for node in (4, 5) if node != cluster.leader)
    cluster.blocked = lambda letter: {letter.source, letter.to} == {3, silent}
    cluster.run_until(lambda: voters(cluster) == [3, 4, 5] and cluster.core(3).state.is_voter)


def test_node_when_its_removal_is_not_committed_is_not_told() -> None:
    cluster, leader = settled()
    gone, other = cluster.followers()
    cluster.blocked = lambda letter: isinstance(letter.message, AppendEntries) and letter.to == other
    cluster.direct(leader, 1, ChangeMembers(remove=nodes(gone)))
    assert gone not in membership(cluster, leader).voters
    introduced = Introduce(incarnation=Incarnation(100 * gone), bootstrapped=True, known=())
    cluster.feed_message(gone, leader, introduced)
    assert not [letter for letter in cluster.letters if isinstance(letter.message, Dismissed)]
    cluster.heal()
    cluster.run_until(lambda: cluster.nodes[NodeId(gone)].removed is not None)


def test_stranger_when_it_introduces_itself_is_not_admitted() -> None:
    cluster, leader = settled()
    cluster.join(9)
    cluster.run(1_000)
    last = cluster.core(leader).state.log.last_seqno
    cluster.run(1_000)
    assert cluster.core(leader).state.log.last_seqno == last
    assert not membership(cluster).current.learners
