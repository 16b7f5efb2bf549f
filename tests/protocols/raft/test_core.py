"""What only the whole core shows: its status, its deadline, the definition, the naming of leaders."""

import pytest

from tests.protocols.raft.harness import Cluster, Letter, propose_all
from viewstamp.core.events import PeerUp, Proposed
from viewstamp.core.ids import NodeId
from viewstamp.protocols.raft import DEFINITION, RaftCore, RaftOptions
from viewstamp.protocols.raft.state import Role
from viewstamp.protocols.registry import protocol_definition


def test_protocol_when_it_is_asked_for_by_name() -> None:
    assert protocol_definition("raft") is DEFINITION
    assert DEFINITION.options_type() == RaftOptions()
    assert DEFINITION.make_core is RaftCore


def test_status_when_the_cluster_is_well() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    propose_all(cluster, [b"x"])
    cluster.run(150)
    status = cluster.core(leader).status(cluster.now)
    assert (status.role, status.leader, status.committed, status.applied) == ("leader", leader, 2, 2)
    assert [(peer.matched, peer.state) for peer in status.peers] == [(2, "replicate")] * 2
    assert all(peer.heard_us_ago is not None and peer.heard_us_ago < 100_001 for peer in status.peers)
    assert status.members == (1, 2, 3)
    assert status.waiting_for == ""
    follower = cluster.core(cluster.followers()[0]).status(cluster.now)
    assert (follower.role, follower.peers, follower.waiting_for) == ("follower", (), "")


def test_status_when_there_is_no_majority_names_who_is_silent() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    for number in cluster.followers():
        cluster.crash(number)
    first, second = (number for number in cluster.members if number != leader)
    cluster.run(450)
    status = cluster.core(leader).status(cluster.now)
    assert status.waiting_for == f"waiting for a majority: no answer from nodes {first}, {second}"
    cluster.run(2_000)
    status = cluster.core(leader).status(cluster.now)
    assert status.role == "pre-candidate"
    assert status.waiting_for == f"waiting for a majority: no answer from nodes {first}, {second}"


def test_status_when_a_node_forgot_says_so_until_it_votes_again() -> None:
    cluster = Cluster(3)
    cluster.elect()
    wiped = cluster.followers()[0]
    cluster.wipe(wiped)
    core = cluster.start(wiped)
    serves: list[str] = []

    def look(_letter: Letter) -> bool:
        if not core.state.is_voter and not core.status(cluster.now).waiting_for:
            serves.append(f"as {core.status(cluster.now).role}, led by {core.state.leader}")
        return False

    cluster.blocked = look
    cluster.run_until(lambda: core.state.is_voter)
    assert serves == []
    assert core.status(cluster.now).waiting_for == ""


def test_leader_when_it_changes_is_named_once() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(1_000)
    named = cluster.nodes[NodeId(leader)].led
    assert named == [(1, None), (1, leader)]
    for number in cluster.followers():
        assert cluster.nodes[NodeId(number)].led == [(1, None), (1, leader)]


def test_leader_when_it_loses_its_majority_claims_nothing() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.isolate(leader)
    cluster.propose(leader, b"perhaps")
    cluster.run(1_000)
    node = cluster.nodes[NodeId(leader)]
    assert node.led[-1] == (1, None)
    assert node.running.leader is None
    assert not node.running.accepting
    assert node.commands == []
    assert node.running.state.log.last_seqno == 2
    cluster.heal()
    begun = cluster.now
    cluster.run_until(lambda: node.led[-1][1] is not None)
    assert cluster.now - begun < 1_000_000, (
        "a client that waits there learns of the new leader within a second"
    )


def test_proposal_when_the_core_does_not_accept_is_the_replicas_fault() -> None:
    cluster = Cluster(3)
    cluster.elect()
    with pytest.raises(AssertionError, match="not accepting"):
        cluster.core(cluster.followers()[0]).step(Proposed(b"x"), cluster.now)


def test_what_is_left_to_apply_waits_for_the_next_wake_when_messages_come_first() -> None:
    cluster = Cluster(3, options=RaftOptions(apply_bytes_per_step_max=10))
    leader = cluster.elect()
    follower = cluster.followers()[0]
    cluster.isolate(follower)
    propose_all(cluster, [b"%06d" % number for number in range(100)])
    cluster.heal()
    state = cluster.core(follower).state
    while state.committed == state.applied:
        if cluster.deliver_next() is None:
            cluster.pass_to(cluster.core(leader).deadline)
            cluster.wake(leader)
    applied = state.applied
    assert state.committed - applied > 50
    cluster.feed(follower, PeerUp(NodeId(leader)))
    assert state.applied == applied, "no message waits for more than one step's work"
    cluster.wake(follower)
    assert state.applied == applied + 2, "two commands have ten bytes"


def test_apply_when_much_is_committed_at_once_takes_several_steps() -> None:
    cluster = Cluster(3, options=RaftOptions(applies_per_step_max=10))
    leader = cluster.elect()
    follower = cluster.followers()[0]
    cluster.isolate(follower)
    propose_all(cluster, [b"%d" % number for number in range(100)])
    cluster.heal()
    before = len(cluster.nodes[NodeId(follower)].applied)
    state = cluster.core(follower).state
    for _ in range(200):
        letter = cluster.deliver_next()
        if state.committed > state.applied:
            break
        if letter is None:
            cluster.pass_to(cluster.core(leader).deadline)
            cluster.wake(leader)
    assert state.committed - state.applied > 50
    assert len(cluster.nodes[NodeId(follower)].applied) - before <= 20, (
        "one step received, one heard of the disk"
    )
    assert cluster.core(follower).deadline == state.now
    cluster.run(150)
    assert len(cluster.commands(follower)) == 100


def test_history_when_nodes_crash_and_partitions_come_and_go_is_one() -> None:
    cluster = Cluster(5)
    for round_number in range(12):
        leader = cluster.elect()
        for number in range(5):
            if cluster.core(leader).accepting:
                cluster.propose(leader, b"%d.%d" % (round_number, number))
            if number % 2:
                cluster.settle()
        cluster.crash(leader)
        cluster.elect()
        cluster.start(leader)
        cluster.isolate(*cluster.members[: round_number % 3])
        cluster.run(700)
        cluster.heal()
    cluster.run(1_500)
    assert len({node.machine for node in cluster.nodes.values()}) == 1
    assert {cluster.core(number).state.role for number in cluster.members} == {Role.LEADER, Role.FOLLOWER}
