"""Scripts of the log and of configurations, one for each mutation that seeds find late or not at all."""

from tests.mutants.lone import BOOTSTRAP, ME, Lone, entry, granted, last_request, refuse, request
from tests.protocols.raft.harness import Cluster
from viewstamp.core.events import (
    Persisted,
    Proposed,
)
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.raft import RaftOptions
from viewstamp.protocols.raft.journal import CONFIGURATION
from viewstamp.protocols.raft.messages import (
    AppendRejected,
    AppendResponse,
    Introduce,
    RequestVote,
)
from viewstamp.protocols.raft.state import Role
from viewstamp.protocols.replication.configuration import Configuration, encode_configuration


def test_entry_of_an_earlier_term_is_not_committed_by_counting() -> None:
    node = Lone([1, 2])
    node.lead()
    node.acknowledge(2, 2)
    assert node.state.committed == 0
    node.acknowledge(2, 3)
    assert node.state.committed == 3


def test_new_leader_commits_what_was_before_it() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.blocked = lambda letter: isinstance(letter.message, AppendResponse)
    cluster.propose(leader, b"left over")
    cluster.settle()
    cluster.heal()
    cluster.crash(leader)
    cluster.run(3_000)
    assert [cluster.commands(other) for other in cluster.members if other != leader] == [[b"left over"]] * 2


def test_leader_counts_itself_when_its_disk_has_the_entry() -> None:
    node = Lone([1])
    node.lead()
    node.acknowledge(2, 2)
    node.disk.held = True
    node.cluster.feed(1, Proposed(b"x"))
    node.acknowledge(2, 3)
    assert node.state.committed == 2
    node.cluster.sync(ME)
    assert node.state.committed == 3


def test_learner_does_not_count() -> None:
    configuration = Configuration(voters=BOOTSTRAP.voters[:2], learners=BOOTSTRAP.voters[2:])
    node = Lone([1], configuration=configuration)
    node.lead()
    node.acknowledge(3, 2)
    assert node.state.committed == 0
    node.acknowledge(2, 2)
    assert node.state.committed == 2


def test_follower_commits_only_what_the_message_covers() -> None:
    node = Lone([1, 1, 1])
    node.append(2, (1, 1), term=2, committed=3)
    assert node.state.committed == 1


def test_refusal_does_not_count_as_progress() -> None:
    node = Lone([1, 1, 1])
    node.lead()
    (progress, *_) = node.core.replication.progress.values()
    refuse(node, progress.next - 1, (0, 0))
    assert progress.matched == 0
    assert node.state.committed == 0


def test_acknowledgement_of_another_incarnation_does_not_count() -> None:
    node = Lone([1])
    node.lead()
    node.acknowledge(2, 2, incarnation=201)
    assert node.state.committed == 0


def test_acknowledgement_of_another_entry_does_not_count() -> None:
    node = Lone([1, 1])
    node.lead()
    node.receive(
        2,
        AppendResponse(
            term=node.state.term,
            incarnation=Incarnation(200),
            matched_view=node.state.term,
            matched_seqno=2,
            round=0,
            reached=0,
        ),
    )
    assert node.core.replication.progress[NodeId(2)].matched == 0


def test_old_acknowledgement_takes_nothing_back() -> None:
    node = Lone([1, 1])
    node.lead()
    node.acknowledge(2, 3)
    node.acknowledge(2, 1)
    assert node.core.replication.progress[NodeId(2)].matched == 3


def test_conflict_never_takes_next_below_what_is_matched() -> None:
    node = Lone([1] * 5)
    node.lead()
    progress = node.core.replication.progress[NodeId(2)]
    node.acknowledge(2, 3)
    for _ in range(2):
        node.cluster.feed(1, Proposed(b"x"))
    refuse(node, progress.next - 1, (1, 1))
    assert progress.next == progress.matched + 1 == 4


def test_window_is_empty_after_a_refusal() -> None:
    node = Lone([1] * 3)
    node.lead()
    progress = node.core.replication.progress[NodeId(2)]
    node.acknowledge(2, 4)
    node.cluster.feed(1, Proposed(b"x" * 100))
    assert progress.inflight_bytes > 100
    refuse(node, 5, (1, 4))
    assert progress.inflight_bytes <= 120
    assert (progress.state, len(progress.inflight)) == ("probe", 0)
    assert progress.inflight_bytes == 0


def test_refusal_of_an_earlier_attempt_is_ignored() -> None:
    node = Lone([1] * 9)
    node.lead()
    progress = node.core.replication.progress[NodeId(2)]
    before = progress.attempt
    refuse(node, progress.next - 1, (1, 6))
    assert progress.next == 7
    assert refuse(node, 8, (1, 2), attempt=before) == []
    assert progress.next == 7


def test_old_message_cuts_nothing_off() -> None:
    node = Lone([1])
    node.append(2, (1, 1), entry(1, 2), entry(1, 3))
    node.append(2, (1, 1), entry(1, 2))
    assert node.state.log.last_seqno == 3


def test_entries_with_a_gap_are_dropped() -> None:
    node = Lone([1])
    assert node.append(2, (1, 1), entry(1, 2), entry(1, 4)) == []
    assert node.state.log.last_seqno == 1


def test_entries_beyond_the_log_are_refused() -> None:
    node = Lone([1])
    (refusal,) = node.append(2, (1, 5), entry(1, 6))
    assert isinstance(refusal, AppendRejected)
    assert (refusal.refused_seqno, refusal.hint_seqno, node.state.log.last_seqno) == (5, 1, 1)


def test_acknowledgement_names_what_agrees_not_what_is_there() -> None:
    node = Lone([1, 1, 1])
    (answer,) = node.append(2, (1, 1), term=2)
    assert (answer.matched_view, answer.matched_seqno) == (1, 1)


def test_follower_acknowledges_when_its_disk_has_the_entry() -> None:
    node = Lone([1])
    node.append(2, (1, 1))
    node.disk.held = True
    assert node.append(2, (1, 1), entry(1, 2)) == []
    (beat,) = node.append(2, (1, 2))
    assert beat.matched_seqno == 1
    node.cluster.sync(ME)
    assert node.sent()[-1].matched_seqno == 2


def test_second_write_is_not_acknowledged_by_the_first() -> None:
    node = Lone([1])
    node.disk.held = True
    node.receive(2, request(2, (1, 1)))
    node.receive(3, request(3, (1, 1)))
    seq, written = node.disk.pending.popleft()
    node.disk.writes.append((seq, written))
    node.disk.image.write(seq, written)
    node.disk.written = seq
    node.cluster.feed(1, Persisted(seq))
    assert [vote.election for vote in granted(node.sent())] == [2]


def test_entries_are_taken_when_their_predecessor_is_compacted_away() -> None:
    node = Lone(options=RaftOptions(log_bytes_max=64))
    node.append(2, (0, 0), *[entry(1, seqno, b"x" * 30) for seqno in range(1, 7)])
    node.append(2, (1, 6), committed=6)
    base = node.state.log.base_seqno
    assert base >= 2
    late = [entry(1, seqno, b"x" * 30) for seqno in range(base, 8)]
    (answer, *_) = node.append(2, (1, base - 1), *late, committed=6)
    assert isinstance(answer, AppendResponse)
    assert answer.matched_seqno == 7


def one_more(*, returning: bool = True) -> bytes:
    changed = Configuration(
        voters=BOOTSTRAP.voters[:2],
        learners=((NodeId(3), Incarnation(301)),),
        returning=(NodeId(3),) if returning else (),
    )
    return encode_configuration(changed)


def test_configuration_is_kept_after_a_restart() -> None:
    changed = entry(1, 2, one_more(), CONFIGURATION)
    node = Lone(entries=[entry(1, 1), changed])
    assert node.state.membership.voters == {1, 2}


def test_configuration_goes_with_its_entry_when_that_is_cut_off() -> None:
    node = Lone(entries=[entry(1, 1), entry(1, 2, one_more(), CONFIGURATION)])
    node.append(2, (1, 1), entry(2, 2), term=2)
    assert node.state.membership.voters == {1, 2, 3}


def introduce(number: int, incarnation: int) -> Introduce:
    return Introduce(
        incarnation=Incarnation(incarnation),
        bootstrapped=False,
        known=((NodeId(number), Incarnation(incarnation)),),
    )


def test_no_change_of_configuration_before_an_entry_of_the_own_term() -> None:
    node = Lone(entries=[entry(1, 1, encode_configuration(BOOTSTRAP), CONFIGURATION)])
    node.append(2, (1, 1), term=2, committed=1)
    node.lead()
    node.receive(3, introduce(3, 301))
    assert node.state.membership.changed_at == 1
    node.acknowledge(2, 2)
    assert node.state.membership.changed_at == 3


def test_no_second_change_of_configuration_while_one_is_uncommitted() -> None:
    voters = tuple((NodeId(n), Incarnation(100 * n)) for n in range(1, 6))
    configuration = Configuration(voters=voters)
    first = entry(1, 1, encode_configuration(configuration), CONFIGURATION)
    node = Lone(entries=[first], size=5, configuration=configuration)
    (asked, *_) = [message for message in node.wait() if isinstance(message, RequestVote)]
    for source in (2, 3):
        node.receive(source, node.grant(source, asked))
    asked = last_request(node)
    for source in (2, 3):
        node.receive(source, node.grant(source, asked))
    assert node.state.role is Role.LEADER
    for source in (2, 3):
        node.acknowledge(source, 2)
    node.receive(4, introduce(4, 401))
    node.receive(5, introduce(5, 501))
    assert node.state.membership.changed_at == node.state.log.last_seqno == 3
