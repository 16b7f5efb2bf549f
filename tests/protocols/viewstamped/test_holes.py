"""The holes of the course's documents (docs/requirements.md#hole-1), each closed, and each shown to be one.

Every story is told again with the course's rule put back, and must fail then.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.protocols.viewstamped.golden import check_transcript
from tests.protocols.viewstamped.harness import MS, Cluster, cluster_of
from viewstamp.core.effects import Capture
from viewstamp.core.events import Directed, DirectiveToken, Received, TakeSnapshot
from viewstamp.core.ids import NodeId, Seqno, View, Viewstamp
from viewstamp.protocols.replication.compaction import Compaction
from viewstamp.protocols.viewstamped import primary as primary_module
from viewstamp.protocols.viewstamped import proposer as proposer_module
from viewstamp.protocols.viewstamped.journal import RECORDS, AcceptedValue, Decided, Promised
from viewstamp.protocols.viewstamped.membership import Member, Membership, first_view_of
from viewstamp.protocols.viewstamped.messages import (
    LOWEST,
    Accept,
    Append,
    Ballot,
    Chunk,
    Prepare,
    Prepared,
    Views,
    WantViews,
)
from viewstamp.protocols.viewstamped.options import ViewstampedOptions
from viewstamp.protocols.viewstamped.primary import Primary
from viewstamp.protocols.viewstamped.proposer import Proposer
from viewstamp.protocols.viewstamped.views import DecidedViews

Patch = pytest.MonkeyPatch


def withhold(kind: type[Any], to: int) -> Callable[[NodeId, NodeId, Any], Sequence[int] | None]:
    """Return a meddler that loses messages of a kind to one node."""
    return lambda _, target, message: () if isinstance(message, kind) and target == to else None


# Hole 1: the primary of a view must have been in sync in the last synchronised view


def lowest_joins_and_the_primary_dies() -> Cluster:
    """Nodes 2 and 3 hold `a`; node 1 is admitted; the primary dies before node 1 received anything."""
    cluster = Cluster([2, 3])
    cluster.start(2, 3)
    cluster.form(2, 3)
    cluster.write("a")
    cluster.story = True
    cluster.meddle = withhold(Append, 1)
    cluster.start(1, bootstrap="join", contact=2)
    assert cluster.run(2_000, until=lambda: cluster.members_at(3) == (2, 3, 1))
    cluster.meddle = None
    cluster.crash(2)
    cluster.form(1, 3)
    cluster.write("b")
    cluster.run(100)
    assert cluster.commands(1) == cluster.commands(3) == ["a", "b"]
    return cluster


def test_hole_1_a_member_in_sync_leads_when_the_lowest_never_synchronised() -> None:
    cluster = lowest_joins_and_the_primary_dies()
    assert cluster.core(1).leader == 3
    check_transcript("hole1_unsynchronised_lowest", cluster)


def test_hole_1_the_story_fails_when_the_lowest_of_the_previous_view_leads(monkeypatch: Patch) -> None:
    def course_rule(current: Membership, members: tuple[Member, ...], **_: object) -> Membership:
        kept = tuple(member.node for member in members if member in current.members)
        chosen = current.primary if current.primary in kept else min(kept)
        return Membership(View(current.view + 1), members, kept, chosen)

    monkeypatch.setattr(proposer_module, "successor", course_rule)
    with pytest.raises(AssertionError):
        lowest_joins_and_the_primary_dies()


def test_hole_1_the_service_waits_and_says_why_when_nobody_in_sync_is_left() -> None:
    cluster = Cluster([1, 2])
    cluster.story = True
    cluster.meddle = withhold(Append, 2)
    cluster.start(1, 2)
    assert cluster.run(2_000, until=lambda: 2 in cluster.running and cluster.members_at(2) == (1, 2))
    cluster.crash(1)
    cluster.meddle = None
    cluster.run(10_000)
    assert cluster.primary is None
    assert "one of nodes 1: only they hold all that was acknowledged" in cluster.waiting_for(2)
    cluster.start(1)
    cluster.form(1, 2)
    assert cluster.waiting_for(1) == cluster.waiting_for(2) == ""
    check_transcript("hole1_waits_for_synchronised", cluster)


# Hole 2: a joiner receives decided views only, never another node's promises, and never forgets its own


def member_that_promised_asks_to_join() -> Cluster:
    """Node 3 has promised a ballot for the next view; it restarts, and is brought up to date."""
    cluster = cluster_of(1, 2, 3)
    cluster.write("a")
    cluster.story = True
    instance = View(4)
    assert cluster.core(3).view == 3
    prepare = Prepare(cluster.core(3).group, instance, Ballot(77, NodeId(2)))
    cluster.step(3, Received(NodeId(2), prepare))
    cluster.run(5)
    everything = Views(cluster.core(3).group, tuple(cluster.core(1).views.history), View(3))
    cluster.step(3, Received(NodeId(1), everything))
    assert cluster.core(3).views.acceptor.promised == Ballot(77, NodeId(2))
    cluster.crash(3)
    cluster.start(3)
    cluster.step(3, Received(NodeId(1), everything))
    assert cluster.core(3).views.acceptor.promised == Ballot(77, NodeId(2))
    return cluster


def test_hole_2_own_promises_stay_when_decided_views_arrive() -> None:
    check_transcript("hole2_own_promises_stay", member_that_promised_asks_to_join())


def test_hole_2_the_story_fails_when_a_joiner_takes_over_the_primarys_log(monkeypatch: Patch) -> None:
    original = DecidedViews.on_views

    def restore(self: DecidedViews, source: NodeId, message: Views) -> None:
        original(self, source, message)
        self.acceptor.promised = LOWEST

    monkeypatch.setattr(DecidedViews, "on_views", restore)
    with pytest.raises(AssertionError):
        member_that_promised_asks_to_join()


def test_hole_2_a_joiner_writes_only_decided_views_when_others_have_promised() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.story = True
    cluster.crash(3)
    cluster.form(1, 2)
    assert cluster.core(1).views.history[3].nodes == (1, 2)
    cluster.start(4, bootstrap="join", contact=1)
    cluster.form(1, 2, 4)
    records = [RECORDS.decode(each) for _, write in cluster.hosts[NodeId(4)].writes for each in write]
    assert not any(isinstance(each, Promised | AcceptedValue) for each in records)
    assert [each.membership.view for each in records if isinstance(each, Decided)] == [1, 2, 3, 4, 5]
    check_transcript("hole2_joiner_gets_decided_views", cluster)


# Hole 3: an accept for another instance is refused; who is behind catches up instead of asserting


def accepts_of_other_instances_arrive() -> Cluster:
    """Node 2 hears late accepts of an old view and early ones of a view after the next."""
    cluster = cluster_of(1, 2, 3)
    group = cluster.core(2).group
    history = cluster.core(2).views.history
    cluster.sent.clear()
    cluster.story = True
    ballot = Ballot(99, NodeId(3))
    for value in (history[0], history[2]):
        cluster.step(2, Received(NodeId(3), Accept(group, value.view, ballot, value)))
    beyond = Membership(View(5), history[2].members, history[2].eligible, history[2].primary)
    cluster.step(2, Received(NodeId(3), Accept(group, View(5), ballot, beyond)))
    cluster.step(2, Received(NodeId(3), Views(group, (beyond,), View(5))))
    cluster.run(1)
    acceptor = cluster.core(2).views.acceptor
    assert (acceptor.promised, acceptor.accepted, acceptor.value) == (
        history and acceptor.promised,
        None,
        None,
    )
    assert acceptor.promised < ballot
    replies = [type(message) for source, to, message in cluster.sent if (source, to) == (2, 3)]
    assert replies.count(Views) == 2
    assert replies.count(WantViews) == 2
    cluster.run(1_000)
    assert cluster.views_at(2) == [(1,), (1, 2), (1, 2, 3)]
    return cluster


def test_hole_3_accepts_of_other_instances_are_answered_not_taken() -> None:
    check_transcript("hole3_other_instances", accepts_of_other_instances_arrive())


def test_hole_3_the_story_fails_when_the_instance_is_not_looked_at(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Proposer, "_at_my_instance", lambda *_: True)
    monkeypatch.setattr(DecidedViews, "may_follow", lambda *_: True)
    with pytest.raises(AssertionError):
        accepts_of_other_instances_arrive()


# Hole 4: a viewstamp counts as executed only once it has been executed


def request_fails_halfway_and_a_snapshot_is_taken() -> Cluster:
    """The primary has ordered `b`; the view changes before all hold it; snapshots are taken meanwhile."""
    cluster = cluster_of(1, 2, 3)
    cluster.write("a")
    cluster.story = True
    cluster.meddle = withhold(Append, 3)
    cluster.propose("b")
    cluster.run(20)
    for node in (1, 2):
        cluster.step(node, Directed(DirectiveToken(1), TakeSnapshot()))
    cluster.run(20)
    for node in (1, 2):
        snapshot = cluster.hosts[NodeId(node)].snapshot
        assert snapshot is not None
        assert snapshot.meta.viewstamp.seqno == len(cluster.hosts[NodeId(node)].machine)
    cluster.meddle = None
    cluster.crash(1, 2, 3)
    cluster.start(1, 2, 3)
    cluster.form(1, 2, 3)
    cluster.write("c")
    cluster.run(100)
    for node in (1, 2, 3):
        assert cluster.commands(node) == ["a", "b", "c"]
    return cluster


def test_hole_4_states_are_equal_when_a_request_failed_halfway() -> None:
    check_transcript("hole4_ordered_is_not_executed", request_fails_halfway_and_a_snapshot_is_taken())


def test_hole_4_the_story_fails_when_ordered_counts_as_executed(monkeypatch: Patch) -> None:
    def capture_what_is_ordered(self: Compaction) -> None:
        self._token = self._new_token()
        state = self._state
        state.outbox.emit(Capture(self._token, state.log.last, state.snapshot_header()))

    monkeypatch.setattr(Compaction, "capture", capture_what_is_ordered)
    with pytest.raises(AssertionError):
        request_fails_halfway_and_a_snapshot_is_taken()


# Hole 5: a primary that is cut off can acknowledge nothing


def primary_is_cut_off() -> Cluster:
    """Clients go on talking to a primary that nobody else hears."""
    cluster = cluster_of(1, 2, 3)
    cluster.write("a")
    cluster.story = True
    known = len(cluster.acknowledged)
    cluster.isolate(1)
    cluster.propose("b", node=1)
    token = cluster.query(1)
    cluster.run(200)
    assert cluster.answer(1, token) == "waiting"
    cluster.form(2, 3)
    cluster.write("c")
    cluster.run(2_000)
    assert cluster.answer(1, token) == "waiting"
    assert cluster.commands(1) == ["a"]
    assert len(cluster.acknowledged) > known
    cluster.heal()
    cluster.form(1, 2, 3)
    cluster.run(100)
    assert cluster.answer(1, token) is None
    assert cluster.commands(1) == cluster.commands(2) == cluster.commands(3) == ["a", "c"]
    return cluster


def test_hole_5_nothing_is_acknowledged_when_the_primary_is_cut_off() -> None:
    check_transcript("hole5_cut_off_primary", primary_is_cut_off())


def test_hole_5_the_story_fails_when_a_primary_answers_without_its_backups(monkeypatch: Patch) -> None:
    def impatient(self: Primary) -> None:
        original(self)
        if self.is_synchronised and self._positions.durable > self._positions.committed:
            self._commit(self._positions.durable)

    original = primary_module.Primary.advance
    monkeypatch.setattr(Primary, "advance", impatient)
    with pytest.raises(AssertionError):
        primary_is_cut_off()


# Hole 6: the challenges of the handout


def test_hole_6_requests_are_executed_in_order_when_many_are_in_flight_and_overtake_one_another() -> None:
    cluster = cluster_of(1, 2, 3)
    turns = iter(range(10**9))
    cluster.meddle = lambda *_: (MS * (1 + next(turns) * 7 % 23),)
    commands = [str(number) for number in range(100)]
    for command in commands:
        cluster.propose(command)
    assert cluster.core(1).positions.log.last.seqno - cluster.core(1).positions.committed == 100
    cluster.run(2_000)
    assert cluster.commands(1) == cluster.commands(2) == cluster.commands(3) == commands
    assert cluster.views_at(1) == [(1,), (1, 2), (1, 2, 3)]


def test_hole_6_nothing_is_lost_when_all_crash_in_the_middle_of_writing() -> None:
    cluster = cluster_of(1, 2, 3, disk_us=3 * MS)
    for command in range(50):
        cluster.propose(str(command))
        cluster.run(1)
    acknowledged = cluster.acknowledged[-1]
    cluster.story = True
    cluster.crash(1, 2, 3)
    cluster.run(100)
    cluster.start(1, 2, 3)
    cluster.form(1, 2, 3)
    cluster.write("end")
    cluster.run(100)
    assert len(cluster.hosts[NodeId(1)].machine) >= acknowledged
    assert cluster.commands(1) == cluster.commands(2) == cluster.commands(3)
    check_transcript("hole6_all_crash_while_writing", cluster)


def test_hole_6_only_the_suffix_is_sent_when_a_backup_missed_a_thousand_requests() -> None:
    options = ViewstampedOptions(log_bytes_max=80_000_000)
    cluster = cluster_of(1, 2, 3, options=options)
    for _ in range(20):
        cluster.write("x" * 1_000)
    cluster.crash(3)
    cluster.form(1, 2)
    for _ in range(1_000):
        cluster.write("y" * 100)
    size = cluster.core(1).positions.log.size_bytes
    cluster.sent.clear()
    cluster.story = True
    cluster.start(3)
    cluster.form(1, 2, 3)
    cluster.run(100)
    check_transcript("hole6_only_the_suffix", cluster)
    assert cluster.commands(3) == cluster.commands(1)
    assert not any(isinstance(message, Chunk) for _, _, message in cluster.sent)
    sent = sum(
        len(record)
        for _, to, each in cluster.sent
        if to == 3 and isinstance(each, Append)
        for record in each.records
    )
    assert 100_000 < sent < 110_000 < 125_000 < size


def test_a_promise_of_another_life_is_not_counted_when_it_arrives_late() -> None:
    cluster = cluster_of(1, 2, 3)
    group = cluster.core(1).group
    late = Prepared(group, View(4), Ballot(1, NodeId(1)), Ballot(1, NodeId(1)), None, None, False)
    cluster.step(1, Received(NodeId(2), late))
    cluster.step(1, Received(NodeId(3), late))
    cluster.run(1_000)
    assert cluster.core(1).view == 3


def test_views_of_another_group_are_refused_when_they_would_fit() -> None:
    cluster = cluster_of(1, 2, 3)
    stranger = first_view_of(Member(NodeId(1), cluster.hosts[NodeId(1)].incarnation))
    foreign = Views(type(cluster.core(1).group)(4711), (stranger,), View(1))
    before = cluster.core(2).counters.total()
    cluster.step(2, Received(NodeId(1), foreign))
    assert cluster.core(2).counters.total() == before + 1
    assert cluster.core(2).positions.log.last == Viewstamp(View(3), Seqno(3))
