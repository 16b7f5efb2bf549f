"""A script for each mutation that random seeds find late or not at all, on the real core."""

from typing import Any

from msgspec.structs import replace

from tests.mutants.lone import FOUNDING, ME, Lone, entry
from tests.protocols.raft.harness import Cluster, propose_all
from viewstamp.core.events import (
    Persisted,
    Proposed,
    Received,
    Staged,
    TransferLeadership,
)
from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.protocols.raft import RaftOptions
from viewstamp.protocols.raft.configuration import Configuration, encode_configuration
from viewstamp.protocols.raft.messages import (
    Appended,
    Conflict,
    Introduce,
    RequestVote,
    SnapshotChunk,
    SnapshotWanted,
    Vote,
)
from viewstamp.protocols.raft.records import CONFIGURATION
from viewstamp.protocols.raft.state import Role


def request(term: int, last: tuple[int, int], *, pre: bool = False, campaign: int = 1) -> RequestVote:
    return RequestVote(term, pre, False, campaign, *last)


def granted(messages: list[Any]) -> list[Vote]:
    return [message for message in messages if isinstance(message, Vote) and message.granted]


def refuse(node: Lone, refused: int, hint: tuple[int, int], attempt: int | None = None) -> list[Any]:
    """Let node 2 refuse entries after `refused`, by default of the leader's present attempt."""
    now = node.core.replication.progress[NodeId(2)].attempt
    present = now if attempt is None else attempt
    return node.receive(2, Conflict(node.state.term, Incarnation(200), refused, *hint, 0, present))


# Elections.


def test_vote_waits_for_the_disk() -> None:
    node = Lone([1])
    node.disk.held = True
    assert not granted(node.receive(2, request(2, (1, 1))))
    node.cluster.sync(ME)
    (vote,) = granted(node.sent())
    assert (vote.election, node.disk.image.replay.vote) == (2, 2)


def test_second_candidate_of_a_term_gets_no_vote() -> None:
    node = Lone([1])
    assert granted(node.receive(2, request(2, (1, 1))))
    assert not granted(node.receive(3, request(2, (1, 1))))


def test_vote_stands_when_a_candidate_steps_down_in_its_term() -> None:
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


def test_doubled_vote_counts_once() -> None:
    node = Lone([1], size=5, configuration=_of_five())
    (asked, *_) = [message for message in node.wait() if isinstance(message, RequestVote)]
    for source in (2, 3):
        node.receive(source, node.grant(source, asked))
    (asked, *_) = [
        message for message in [*node.sent(), _last_request(node)] if isinstance(message, RequestVote)
    ]
    node.receive(2, node.grant(2, asked))
    node.receive(2, node.grant(2, asked))
    assert node.state.role is Role.CANDIDATE


def _of_five() -> Configuration:
    return Configuration(voters=tuple((NodeId(n), Incarnation(100 * n)) for n in range(1, 6)))


def _last_request(node: Lone) -> RequestVote:
    state, election = node.state, node.core.election
    return RequestVote(state.term, False, False, election._campaign, *election._last())


def test_half_of_an_even_cluster_elects_nobody() -> None:
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
    node.receive(
        2, Vote(good.term, Incarnation(201), *[getattr(good, name) for name in Vote.__struct_fields__[2:]])
    )
    roles = [node.state.role]
    node.receive(2, good)
    assert [*roles, node.state.role] == [Role.CANDIDATE, Role.LEADER]


def test_nobody_writes_to_itself() -> None:
    node = Lone([1])
    node.wait()
    cluster = node.cluster
    cluster.letters.clear()
    node.cluster.now = node.core.deadline  # type: ignore[assignment]
    node.cluster.wake(ME)
    assert {letter.to for letter in cluster.letters} == {2, 3}


def test_cluster_is_founded_only_by_lives_that_heard_each_other() -> None:
    cluster = Cluster(3, start=False)
    core = cluster.start(1)
    members = {number: (NodeId(number), Incarnation(100 * number)) for number in (1, 2, 3)}
    two, three = (members[1], members[2]), (members[1], members[3])
    cluster.feed(1, Received(NodeId(2), Introduce(Incarnation(200), False, two)))
    cluster.feed(1, Received(NodeId(3), Introduce(Incarnation(300), False, three)))
    assert not core.state.founded
    everybody = tuple(members.values())
    cluster.feed(1, Received(NodeId(2), Introduce(Incarnation(200), False, everybody)))
    cluster.feed(1, Received(NodeId(3), Introduce(Incarnation(300), False, everybody)))
    assert core.state.founded


def test_leader_steps_down_when_an_answer_has_a_later_term() -> None:
    node = Lone([1])
    node.lead()
    node.receive(3, Conflict(9, Incarnation(300), 0, 0, 0, 0, 0))
    assert (node.state.role, node.state.term) == (Role.FOLLOWER, 9)


def test_reads_are_refused_when_a_leader_steps_down() -> None:
    node = Lone([1])
    node.lead()
    node.cluster.query(1, 5)
    node.receive(3, Conflict(9, Incarnation(300), 0, 0, 0, 0, 0))
    assert node.cluster.nodes[ME].refused == [5]


def test_prevote_counts_when_it_is_of_a_node_in_an_earlier_term() -> None:
    node = Lone([1], term=5)
    (asked, *_) = [message for message in node.wait() if isinstance(message, RequestVote)]
    node.receive(2, replace(node.grant(2, asked), term=1))
    assert node.state.role is Role.CANDIDATE


# Commitment.


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
    cluster.blocked = lambda letter: isinstance(letter.message, Appended)
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
    configuration = Configuration(voters=FOUNDING.voters[:2], learners=FOUNDING.voters[2:])
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


def test_refusal_is_no_progress() -> None:
    node = Lone([1, 1, 1])
    node.lead()
    (progress, *_) = node.core.replication.progress.values()
    refuse(node, progress.next - 1, (0, 0))
    assert progress.matched == 0
    assert node.state.committed == 0


def test_acknowledgement_of_another_life_does_not_count() -> None:
    node = Lone([1])
    node.lead()
    node.acknowledge(2, 2, incarnation=201)
    assert node.state.committed == 0


def test_acknowledgement_of_another_entry_does_not_count() -> None:
    node = Lone([1, 1])
    node.lead()
    node.receive(2, Appended(node.state.term, Incarnation(200), node.state.term, 2, 0))
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


# The follower's log.


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
    assert isinstance(refusal, Conflict)
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
    assert isinstance(answer, Appended)
    assert answer.matched_seqno == 7


# Configurations.


def one_more(*, returning: bool = True) -> bytes:
    changed = Configuration(
        voters=FOUNDING.voters[:2],
        learners=((NodeId(3), Incarnation(301)),),
        returning=(NodeId(3),) if returning else (),
    )
    return encode_configuration(changed)


def test_configuration_stands_after_a_restart() -> None:
    changed = entry(1, 2, one_more(), CONFIGURATION)
    node = Lone(entries=[entry(1, 1), changed])
    assert node.state.membership.voters == {1, 2}


def test_configuration_goes_with_its_entry_when_that_is_cut_off() -> None:
    node = Lone(entries=[entry(1, 1), entry(1, 2, one_more(), CONFIGURATION)])
    node.append(2, (1, 1), entry(2, 2), term=2)
    assert node.state.membership.voters == {1, 2, 3}


def introduce(number: int, incarnation: int) -> Introduce:
    return Introduce(Incarnation(incarnation), False, ((NodeId(number), Incarnation(incarnation)),))


def test_no_change_of_configuration_before_an_entry_of_the_own_term() -> None:
    node = Lone(entries=[entry(1, 1, encode_configuration(FOUNDING), CONFIGURATION)])
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
    asked = _last_request(node)
    for source in (2, 3):
        node.receive(source, node.grant(source, asked))
    assert node.state.role is Role.LEADER
    for source in (2, 3):
        node.acknowledge(source, 2)
    node.receive(4, introduce(4, 401))
    node.receive(5, introduce(5, 501))
    assert node.state.membership.changed_at == node.state.log.last_seqno == 3


# Reads.


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


# Handing over.


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
    assert [token for token, _ in cluster.nodes[NodeId(leader)].settled] == [9]
    assert cluster.core(leader).accepting


# Snapshots.


def snapshot_of(seqno: int, term: int = 2, size: int = 10) -> BytesSnapshot:
    return BytesSnapshot(
        Viewstamp(View(term), Seqno(seqno)), encode_configuration(FOUNDING), bytes(range(size))
    )


def chunk(snapshot: BytesSnapshot, offset: int, length: int, term: int) -> SnapshotChunk:
    return SnapshotChunk(term, Incarnation(100), snapshot.meta, offset, snapshot.read(offset, length))


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


def test_snapshot_is_acknowledged_when_its_base_is_durable() -> None:
    node = Lone([1])
    node.append(2, (1, 1), term=2)
    node.disk.held = True
    sent = install(node, snapshot_of(4), term=2)
    assert "Appended" not in [type(message).__name__ for message in sent]
    node.append(2, (0, 0), term=2)
    node.cluster.sync(ME)
    assert 4 in [message.matched_seqno for message in node.sent_of(Appended)]


def test_piece_of_a_snapshot_is_staged_only_in_its_place() -> None:
    node = Lone([1])
    snapshot = snapshot_of(4)
    (wanted,) = node.receive(2, chunk(snapshot, 5, 5, 2))
    assert isinstance(wanted, SnapshotWanted)
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
