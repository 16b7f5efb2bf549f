"""Scripts of elections, one for each mutation that random seeds find late or not at all."""

from msgspec.structs import replace

from tests.mutants.lone import ME, Lone, entry, granted, last_request, request
from tests.protocols.raft.harness import Cluster
from viewstamp.core.events import (
    Received,
)
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.raft import RaftOptions
from viewstamp.protocols.raft.messages import (
    AppendRejected,
    Introduce,
    RequestVote,
)
from viewstamp.protocols.raft.state import Role
from viewstamp.protocols.replication.configuration import Configuration


def test_vote_waits_for_the_disk() -> None:
    node = Lone([1])
    node.disk.held = True
    assert not granted(node.receive(2, request(2, (1, 1))))
    node.cluster.sync(ME)
    (vote,) = granted(node.sent())
    assert (vote.election, node.disk.image.promises) == (2, {"vote": 2})


def test_second_candidate_of_a_term_gets_no_vote() -> None:
    node = Lone([1])
    assert granted(node.receive(2, request(2, (1, 1))))
    assert not granted(node.receive(3, request(2, (1, 1))))


def test_vote_is_kept_when_a_candidate_steps_down_in_its_term() -> None:
    node = Lone([1])
    asked = node.campaign()
    node.append(2, (1, 1), term=asked.term)
    assert node.state.role is Role.FOLLOWER
    assert node.state.vote == ME


def test_term_and_vote_survive_when_the_journal_forgets() -> None:
    node = Lone([1, 1, 1], term=7, vote=2, options=RaftOptions(log_bytes_max=64))
    node.append(2, (1, 3), entry(7, 4, b"x" * 50), committed=4)
    assert node.disk.released > 1
    node.disk.writes = [write for write in node.disk.writes if write[0] >= node.disk.released]
    node.cluster.crash(ME)
    core = node.cluster.start(ME)
    assert (core.state.term, core.state.vote) == (7, 2)


def test_duplicated_vote_counts_once() -> None:
    node = Lone([1], size=5, configuration=_of_five())
    (asked, *_) = [message for message in node.wait() if isinstance(message, RequestVote)]
    for source in (2, 3):
        node.receive(source, node.grant(source, asked))
    (asked, *_) = [
        message for message in [*node.sent(), last_request(node)] if isinstance(message, RequestVote)
    ]
    node.receive(2, node.grant(2, asked))
    node.receive(2, node.grant(2, asked))
    assert node.state.role is Role.CANDIDATE


def _of_five() -> Configuration:
    return Configuration(voters=tuple((NodeId(n), Incarnation(100 * n)) for n in range(1, 6)))


def test_half_of_an_even_cluster_elects_no_leader() -> None:
    voters = tuple((NodeId(n), Incarnation(100 * n)) for n in range(1, 5))
    node = Lone([1], size=4, configuration=Configuration(voters=voters))
    (asked, *_) = [message for message in node.wait() if isinstance(message, RequestVote)]
    node.receive(2, node.grant(2, asked))
    assert node.state.role is Role.PRE_CANDIDATE


def test_answer_to_an_earlier_campaign_does_not_count() -> None:
    node = Lone([1])
    (first, *_) = [message for message in node.wait() if isinstance(message, RequestVote)]
    second = first
    while second.campaign == first.campaign:
        (second, *_) = [message for message in node.wait() if isinstance(message, RequestVote)] or [second]
    assert first.pre
    node.receive(2, node.grant(2, first))
    roles = [node.state.role]
    node.receive(2, node.grant(2, second))
    assert [*roles, node.state.role] == [Role.PRE_CANDIDATE, Role.CANDIDATE]


def test_candidate_with_an_older_last_term_gets_no_vote() -> None:
    node = Lone([1, 3])
    assert not granted(node.receive(2, request(4, (2, 9))))
    assert granted(node.receive(2, request(5, (3, 2))))


def test_vote_is_ignored_while_the_leader_is_heard() -> None:
    node = Lone([1])
    node.append(2, (1, 1))
    assert node.receive(3, request(9, (9, 9))) == []
    assert node.state.term == 1


def test_prevote_is_refused_while_the_leader_is_heard() -> None:
    node = Lone([1])
    node.append(2, (1, 1))
    assert not granted(node.receive(3, request(2, (1, 1), pre=True)))


def test_prevote_changes_no_term() -> None:
    node = Lone([1])
    assert granted(node.receive(3, request(9, (1, 1), pre=True)))
    assert node.state.term == 1


def test_vote_of_a_wiped_node_does_not_count() -> None:
    node = Lone([1])
    asked = node.campaign()
    good = node.grant(2, asked)
    node.receive(2, replace(good, incarnation=Incarnation(201)))
    roles = [node.state.role]
    node.receive(2, good)
    assert [*roles, node.state.role] == [Role.CANDIDATE, Role.LEADER]


def test_no_server_sends_to_itself() -> None:
    node = Lone([1])
    node.wait()
    cluster = node.cluster
    cluster.letters.clear()
    node.cluster.now = node.core.deadline  # type: ignore[assignment]
    node.cluster.wake(ME)
    assert {letter.to for letter in cluster.letters} == {2, 3}


def test_cluster_bootstraps_only_with_incarnations_that_heard_each_other() -> None:
    cluster = Cluster(3, start=False)
    core = cluster.start(1)
    members = {number: (NodeId(number), Incarnation(100 * number)) for number in (1, 2, 3)}
    two, three = (members[1], members[2]), (members[1], members[3])
    cluster.feed(
        1, Received(NodeId(2), Introduce(incarnation=Incarnation(200), bootstrapped=False, known=two))
    )
    cluster.feed(
        1, Received(NodeId(3), Introduce(incarnation=Incarnation(300), bootstrapped=False, known=three))
    )
    assert not core.state.bootstrapped
    everybody = tuple(members.values())
    cluster.feed(
        1, Received(NodeId(2), Introduce(incarnation=Incarnation(200), bootstrapped=False, known=everybody))
    )
    cluster.feed(
        1, Received(NodeId(3), Introduce(incarnation=Incarnation(300), bootstrapped=False, known=everybody))
    )
    assert core.state.bootstrapped


def test_leader_steps_down_when_an_answer_has_a_later_term() -> None:
    node = Lone([1])
    node.lead()
    node.receive(
        3,
        AppendRejected(
            term=9,
            incarnation=Incarnation(300),
            refused_seqno=0,
            hint_view=0,
            hint_seqno=0,
            round=0,
            attempt=0,
        ),
    )
    assert (node.state.role, node.state.term) == (Role.FOLLOWER, 9)


def test_reads_are_refused_when_a_leader_steps_down() -> None:
    node = Lone([1])
    node.lead()
    node.cluster.query(1, 5)
    node.receive(
        3,
        AppendRejected(
            term=9,
            incarnation=Incarnation(300),
            refused_seqno=0,
            hint_view=0,
            hint_seqno=0,
            round=0,
            attempt=0,
        ),
    )
    assert node.cluster.nodes[ME].refused == [5]


def test_prevote_counts_when_it_is_of_a_node_in_an_earlier_term() -> None:
    node = Lone([1], term=5)
    (asked, *_) = [message for message in node.wait() if isinstance(message, RequestVote)]
    node.receive(2, replace(node.grant(2, asked), term=1))
    assert node.state.role is Role.CANDIDATE


def test_later_term_is_learned_when_a_prevote_is_refused_in_it() -> None:
    node = Lone([1], term=1)
    (asked, *_) = [message for message in node.wait() if isinstance(message, RequestVote)]
    node.receive(2, replace(node.grant(2, asked), term=5, granted=False))
    assert node.state.term == 5
