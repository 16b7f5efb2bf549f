import pytest

from tests.protocols.raft.harness import Cluster, Letter, propose_all
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.raft import RaftOptions
from viewstamp.protocols.raft.messages import AppendEntries, RequestVote, VoteResponse
from viewstamp.protocols.raft.state import Role


def settled(size: int = 3, seed: int = 0) -> tuple[Cluster, int]:
    cluster = Cluster(size, seed=seed)
    return cluster, cluster.elect()


def test_failover_when_the_leader_dies_and_connections_break_is_quick() -> None:
    times = []
    for seed in range(100):
        cluster, leader = settled(seed=seed)
        cluster.run(seed % 100)
        cluster.crash(leader)
        for other in cluster.members:
            if other != leader:
                cluster.connect(other, leader, up=False)
        times.append(cluster.run_until(lambda cluster=cluster: cluster.leader is not None))  # type: ignore[misc]
    assert sorted(times)[50] <= 100
    assert max(times) < 700


def test_failover_when_the_leader_falls_silent_stays_within_its_bounds() -> None:
    times = []
    for seed in range(100):
        cluster, leader = settled(3 + 2 * (seed % 2), seed=seed)
        cluster.run(seed % 100)
        cluster.crash(leader)
        times.append(cluster.run_until(lambda cluster=cluster: cluster.leader is not None))  # type: ignore[misc]
    assert sorted(times)[50] <= 500
    assert max(times) < 1_500


def test_failover_when_the_leader_dies_while_a_member_comes_back_is_quick() -> None:
    times = []
    for seed in range(200):
        cluster, leader = settled(seed=seed)
        back, other = cluster.followers()
        cluster.crash(back)
        propose_all(cluster, [b"%d" % number for number in range(20)])
        cluster.start(back)
        cluster.run(seed % 150)
        cluster.crash(leader)
        for survivor in (back, other):
            cluster.connect(survivor, leader, up=False)
        times.append(cluster.run_until(lambda cluster=cluster: cluster.leader is not None))  # type: ignore[misc]
    assert sorted(times)[100] <= 100
    assert max(times) < 1_000


def test_node_that_has_much_to_apply_leaves_the_lead_to_others_and_helps_them() -> None:
    cluster = Cluster(3, options=RaftOptions(apply_bytes_per_step_max=1))
    leader = cluster.elect()
    behind, other = cluster.followers()
    cluster.isolate(behind)
    propose_all(cluster, [b"%d" % number for number in range(20)])
    cluster.heal()
    state = cluster.core(behind).state
    while state.committed - state.applied < 5:
        if cluster.deliver_next() is None:
            cluster.pass_to(cluster.core(leader).deadline)
            cluster.wake(leader)
    cluster.crash(leader)
    cluster.pass_to(state.election_at)
    cluster.wake(behind)
    assert (state.role, state.leader) == (Role.FOLLOWER, None)
    request = RequestVote(
        term=state.term + 1, pre=True, transfer=False, campaign=1, last_log_term=state.term, last_log_index=99
    )
    cluster.feed_message(other, behind, request)
    votes = [letter.message for letter in cluster.letters if isinstance(letter.message, VoteResponse)]
    assert [vote.granted for vote in votes] == [True]
    while state.applied < state.committed:
        cluster.wake(behind)
    cluster.pass_to(state.election_at)
    cluster.wake(behind)
    assert state.role is Role.PRE_CANDIDATE


def test_leader_when_one_connection_to_it_flaps_stays() -> None:
    cluster, leader = settled()
    term = cluster.core(leader).state.term
    follower = cluster.followers()[0]
    before = cluster.sent
    for _ in range(50):
        cluster.connect(follower, leader, up=False)
        cluster.run(20)
        cluster.connect(follower, leader, up=True)
    assert cluster.leader == leader
    assert cluster.core(leader).state.term == term
    assert cluster.sent - before < 50 * 8


def test_vote_when_the_log_is_older_is_refused() -> None:
    cluster, leader = settled()
    for number in range(3):
        cluster.propose(leader, b"%d" % number)
        cluster.settle()
    follower, other = cluster.followers()
    term = cluster.core(leader).state.term
    cluster.run(1)
    cluster.now = cluster.now.__class__(cluster.now + 400_000)
    for last in ((term, 1), (term, 3), (0, 0)):
        request = RequestVote(
            term=term + 1, pre=True, transfer=False, campaign=1, last_log_term=last[0], last_log_index=last[1]
        )
        cluster.deliver(Letter(NodeId(other), NodeId(follower), request))
        answer = cluster.letters.pop().message
        assert isinstance(answer, VoteResponse)
        assert not answer.granted


@pytest.mark.parametrize("pre", [True, False])
def test_vote_when_the_leader_is_heard_is_refused(pre: bool) -> None:
    cluster, leader = settled()
    follower, other = cluster.followers()
    state = cluster.core(follower).state
    term = state.term
    cluster.letters.clear()
    request = RequestVote(
        term=term + 1, pre=pre, transfer=False, campaign=1, last_log_term=term, last_log_index=99
    )
    cluster.deliver(Letter(NodeId(other), NodeId(follower), request))
    granted = [letter.message for letter in cluster.letters if getattr(letter.message, "granted", False)]
    assert granted == []
    assert state.term == term
    assert state.leader == leader


def test_pre_vote_when_it_is_asked_changes_nothing_at_either_side() -> None:
    cluster, leader = settled()
    cluster.isolate(leader)
    cluster.run(2_000)
    state = cluster.core(leader).state
    assert state.role is Role.PRE_CANDIDATE
    assert state.term == 1
    written = state.outbox.written
    cluster.run(3_000)
    assert (state.term, state.outbox.written) == (1, written)


def test_vote_when_its_campaign_is_over_does_not_count() -> None:
    cluster = Cluster(3)
    cluster.settle()
    core = cluster.core(1)
    core.election.campaign()
    cluster.letters.clear()
    core.state.outbox.take()
    old = VoteResponse(
        term=0,
        incarnation=Incarnation(200),
        candidate=NodeId(1),
        election=1,
        pre=True,
        granted=True,
        campaign=1,
    )
    core.election.campaign()
    core.state.outbox.take()
    cluster.deliver(Letter(NodeId(2), NodeId(1), old))
    assert core.state.role is Role.PRE_CANDIDATE
    assert core.state.counters["vote of another campaign"] == 1


def test_vote_when_it_arrives_twice_counts_once() -> None:
    cluster = Cluster(5)
    cluster.settle()
    core = cluster.core(1)
    core.election.campaign()
    core.state.outbox.take()
    granted = VoteResponse(
        term=0,
        incarnation=Incarnation(200),
        candidate=NodeId(1),
        election=1,
        pre=True,
        granted=True,
        campaign=1,
    )
    for _ in range(5):
        cluster.deliver(Letter(NodeId(2), NodeId(1), granted))
    assert core.state.role is Role.PRE_CANDIDATE


def test_candidate_when_its_own_vote_is_not_on_disk_does_not_lead() -> None:
    cluster = Cluster(1, start=False)
    cluster.nodes[NodeId(1)].disk.held = True
    cluster.start(1)
    cluster.run(100)
    assert cluster.core(1).state.role is Role.CANDIDATE
    cluster.nodes[NodeId(1)].disk.held = False
    cluster.sync(1)
    assert cluster.core(1).state.role is Role.LEADER


def test_candidate_when_requests_are_lost_asks_again() -> None:
    cluster = Cluster(3)
    cluster.settle()
    lost: list[Letter] = []

    def loses(letter: Letter) -> bool:
        first = isinstance(letter.message, RequestVote) and len(lost) < 4
        if first:
            lost.append(letter)
        return first

    cluster.blocked = loses
    assert cluster.run_until(lambda: cluster.leader is not None) < 600
    assert len(lost) == 4


def test_second_leader_when_it_claims_the_same_term_is_counted_and_ignored() -> None:
    cluster, leader = settled()
    follower, other = cluster.followers()
    state = cluster.core(follower).state
    claim = AppendEntries(
        term=state.term,
        to=state.incarnation,
        previous_view=0,
        previous_seqno=0,
        entries=[],
        committed=0,
        round=0,
        attempt=0,
    )
    cluster.deliver(Letter(NodeId(other), NodeId(follower), claim))
    own = AppendEntries(
        term=state.term,
        to=cluster.core(leader).state.incarnation,
        previous_view=0,
        previous_seqno=0,
        entries=[],
        committed=0,
        round=0,
        attempt=0,
    )
    cluster.deliver(Letter(NodeId(other), NodeId(leader), own))
    assert state.leader == leader
    assert cluster.core(leader).state.role is Role.LEADER
    assert state.counters["second leader in one term"] == 1
    assert cluster.core(leader).state.counters["second leader in one term"] == 1


def test_leader_when_a_reply_is_of_a_later_term_steps_down() -> None:
    cluster, leader = settled()
    cluster.deliver(
        Letter(
            NodeId(cluster.followers()[0]),
            NodeId(leader),
            VoteResponse(
                term=9,
                incarnation=Incarnation(0),
                candidate=NodeId(leader),
                election=1,
                pre=False,
                granted=False,
                campaign=1,
            ),
        )
    )
    assert cluster.core(leader).state.role is Role.FOLLOWER
    assert cluster.core(leader).state.term == 9


def test_message_when_it_comes_from_nobody_or_from_oneself_is_ignored() -> None:
    cluster, leader = settled()
    for source in (leader, -1):
        claim = AppendEntries(
            term=99,
            to=cluster.core(leader).state.incarnation,
            previous_view=0,
            previous_seqno=0,
            entries=[],
            committed=0,
            round=0,
            attempt=0,
        )
        cluster.feed_message(source, leader, claim)
    assert cluster.core(leader).state.counters["message from a node that is not a member"] == 2
    assert cluster.core(leader).state.role is Role.LEADER


def test_idle_cluster_when_nothing_happens_stays_within_the_budget() -> None:
    cluster, _ = settled()
    cluster.run(500)
    before = cluster.sent
    cluster.run(1_000)
    assert cluster.sent - before <= 60


def test_disk_when_it_is_slow_does_not_cost_the_leadership() -> None:
    cluster = Cluster(3, options=RaftOptions())
    leader = cluster.elect()
    for node in cluster.nodes.values():
        node.disk.held = True
    for number in range(30):
        if number % 6 == 0:
            for other in cluster.members:
                cluster.sync(other)
        if cluster.core(leader).accepting:
            cluster.propose(leader, b"%d" % number)
        cluster.run(100)
    assert cluster.core(leader).state.role is Role.LEADER
    assert cluster.core(leader).state.term == 1
