"""Primary and backup, fed by hand: what each takes, and what it must not take."""

from typing import Any

from tests.protocols.viewstamped.harness import MS, Cluster, cluster_of
from viewstamp.core.events import Received
from viewstamp.core.ids import NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import BytesSnapshot, SnapshotMeta
from viewstamp.protocols.replication.log import COMMAND, EntryRecord
from viewstamp.protocols.viewstamped.journal import ENCODER
from viewstamp.protocols.viewstamped.membership import successor, without
from viewstamp.protocols.viewstamped.messages import (
    Accept,
    Append,
    Appended,
    Ballot,
    Chunk,
    Position,
    Prepare,
    Prepared,
    Probe,
    Probed,
    StagedPart,
    Views,
    WantViews,
)
from viewstamp.protocols.viewstamped.state_transfer import SnapshotSender, marks_of


def stamp(view: int, seqno: int) -> Viewstamp:
    return Viewstamp(View(view), Seqno(seqno))


def record(view: int, seqno: int, data: str = "x") -> bytes:
    return ENCODER.encode(EntryRecord(View(view), Seqno(seqno), COMMAND, data.encode()))


def quiet(*nodes: int) -> Cluster:
    """Return a cluster whose messages no longer arrive: what happens next is fed by hand."""
    cluster = cluster_of(*nodes)
    cluster.write("a")
    cluster.run(50)
    cluster.meddle = lambda *_: ()
    cluster.judges_commits = False
    cluster.sent.clear()
    return cluster


def append(
    cluster: Cluster, previous: Viewstamp, *records: bytes, view: int | None = None, committed: int = 0
) -> Append:
    core = cluster.core(1)
    return Append(core.group, View(core.view if view is None else view), previous, records, Seqno(committed))


def feed(cluster: Cluster, node: int, source: int, message: Any) -> list[Any]:
    """Feed a message, let the disk answer, and return what the node sent for it."""
    cluster.sent.clear()
    cluster.step(node, Received(NodeId(source), message))
    cluster.run(0)
    return [each for here, _, each in cluster.sent if here == node]


# Backup


def test_a_backup_acknowledges_when_the_entries_are_on_its_disk() -> None:
    cluster = quiet(1, 2)
    cluster.disk_us = 5_000
    last = cluster.core(2).positions.log.last
    message = append(cluster, last, record(2, last.seqno + 1), committed=last.seqno)
    assert feed(cluster, 2, 1, message) == []
    cluster.run(5)
    assert Appended(message.group, View(2), stamp(2, last.seqno + 1)) in [each for _, _, each in cluster.sent]


def test_a_backup_takes_an_entry_once_when_it_comes_twice() -> None:
    cluster = quiet(1, 2)
    last = cluster.core(2).positions.log.last
    message = append(cluster, last, record(2, last.seqno + 1))
    feed(cluster, 2, 1, message)
    written = cluster.hosts[NodeId(2)].written
    assert [type(each) for each in feed(cluster, 2, 1, message)] == [Appended]
    assert cluster.hosts[NodeId(2)].written == written
    assert cluster.core(2).positions.log.last == stamp(2, last.seqno + 1)


def test_a_backup_asks_when_an_entry_before_is_missing() -> None:
    cluster = quiet(1, 2)
    last = cluster.core(2).positions.log.last
    answers = feed(cluster, 2, 1, append(cluster, stamp(2, last.seqno + 1), record(2, last.seqno + 2)))
    assert [type(each) for each in answers] == [Position]
    assert answers[0].marks == marks_of(cluster.core(2).positions.log)
    assert cluster.core(2).positions.log.last == last


def test_a_backup_asks_seldom_when_many_entries_overtake_one_another() -> None:
    cluster = quiet(1, 2)
    last = cluster.core(2).positions.log.last
    message = append(cluster, stamp(2, last.seqno + 5), record(2, last.seqno + 6))
    answers = [each for _ in range(20) for each in feed(cluster, 2, 1, message)]
    assert len(answers) == 1


def test_a_backup_takes_entries_in_order_when_they_overtake_one_another() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(2)
    last = core.positions.log.last
    seqno = last.seqno
    for early in (3, 2, 1):
        feed(cluster, 2, 1, append(cluster, stamp(2, seqno + early), record(2, seqno + early + 1)))
    assert core.positions.log.last == last
    answers = feed(cluster, 2, 1, append(cluster, last, record(2, seqno + 1)))
    assert core.positions.log.last == stamp(2, seqno + 4)
    assert answers[-1].matched == stamp(2, seqno + 4)


def test_a_backup_keeps_only_so_many_entries_that_came_early() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(2)
    seqno = core.positions.log.last.seqno
    for early in range(1, 1_000):
        feed(cluster, 2, 1, append(cluster, stamp(2, seqno + early), record(2, seqno + early + 1)))
    assert core.role.backup is not None
    assert len(core.role.backup._early) == 64


def test_a_backup_takes_no_entry_of_a_view_before_that_of_its_base() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(2)
    last, before = core.positions.log.last, core.counters.total()
    core.positions.log.compact(last)
    late = append(cluster, stamp(1, last.seqno - 1), record(1, last.seqno), record(1, last.seqno + 1))
    feed(cluster, 2, 1, late)
    assert (core.positions.log.last, core.counters.total()) == (last, before + 1)


def test_a_backup_never_drops_what_it_applied() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(2)
    last = core.positions.log.last
    assert core.positions.applied == last.seqno
    before = core.counters.total()
    assert feed(cluster, 2, 1, append(cluster, stamp(1, 1), record(1, 2, "other"))) == []
    assert (core.positions.log.last, core.counters.total()) == (last, before + 1)


def test_a_backup_refuses_entries_when_they_are_not_in_order() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(2)
    last = core.positions.log.last
    seqno = last.seqno
    for records in (
        (record(2, seqno + 2),),
        (record(2, seqno + 1), record(2, seqno + 3)),
        (record(1, seqno + 1),),
        (record(3, seqno + 1),),
        (b"junk",),
    ):
        assert feed(cluster, 2, 1, append(cluster, last, *records)) == []
        assert core.positions.log.last == last
    assert core.counters.total() >= 5


def test_a_backup_hears_its_primary_only() -> None:
    cluster = quiet(1, 2, 3)
    core = cluster.core(2)
    last = core.positions.log.last
    before = core.counters.total()
    assert feed(cluster, 2, 3, append(cluster, last, record(3, last.seqno + 1))) == []
    assert (core.positions.log.last, core.counters.total()) == (last, before + 1)


def test_a_backup_takes_nothing_of_an_old_view_and_shows_the_new_one() -> None:
    cluster = quiet(1, 2, 3)
    last = cluster.core(2).positions.log.last
    answers = feed(cluster, 2, 1, append(cluster, last, record(2, last.seqno + 1), view=2))
    assert [type(each) for each in answers] == [Views]
    assert cluster.core(2).positions.log.last == last


def test_a_backup_asks_for_the_view_when_it_is_newer() -> None:
    cluster = quiet(1, 2, 3)
    answers = feed(cluster, 2, 1, append(cluster, stamp(9, 9), view=9))
    assert answers == [WantViews(cluster.core(2).group, View(3))]


def test_a_backup_commits_no_more_than_it_holds() -> None:
    cluster = quiet(1, 2)
    last = cluster.core(2).positions.log.last
    feed(cluster, 2, 1, append(cluster, last, committed=10**9))
    assert cluster.core(2).positions.committed == last.seqno


def test_a_backup_ignores_a_snapshot_when_it_has_applied_more() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(2)
    chunk = Chunk(core.group, View(2), SnapshotMeta(stamp(1, 1), b"", 3, 1), 0, b"abc")
    answers = feed(cluster, 2, 1, chunk)
    assert cluster.hosts[NodeId(2)].stages == []
    assert all(isinstance(each, Position) for each in answers)


def test_a_transfer_goes_on_when_another_member_took_the_snapshot_in_another_view() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(2)
    ahead = stamp(2, core.positions.log.last.seqno + 9)
    for header, offset, data in ((b"view 1", 3, b"d"), (b"view 2", 0, b"abc"), (b"view 1", 3, b"d")):
        feed(cluster, 2, 1, Chunk(core.group, View(2), SnapshotMeta(ahead, header, 9, 1), offset, data))
    stages = cluster.hosts[NodeId(2)].stages
    assert [(stage.offset, stage.data) for stage in stages] == [(0, b"abc"), (3, b"d")]
    assert len({(stage.token, stage.meta) for stage in stages}) == 1


def test_a_backup_confirms_a_probe_when_it_is_in_the_view() -> None:
    cluster = quiet(1, 2)
    group = cluster.core(2).group
    assert feed(cluster, 2, 1, Probe(group, View(2), 7)) == [Probed(group, View(2), 7)]
    assert [type(each) for each in feed(cluster, 2, 1, Probe(group, View(1), 7))] == [Views]


def test_a_member_says_so_when_it_has_much_to_execute() -> None:
    for behind in (False, True):
        cluster = quiet(1, 2, 3)
        core = cluster.core(2)
        last = core.positions.log.last
        feed(cluster, 2, 1, append(cluster, last, record(core.view, last.seqno + 1)))
        core.positions.committed = Seqno(last.seqno + behind)
        prepare = Prepare(core.group, View(core.view + 1), Ballot(1, NodeId(3)))
        (answer,) = feed(cluster, 2, 3, prepare)
        assert answer.late is behind


def test_another_is_proposed_as_primary_when_the_lowest_has_much_to_execute() -> None:
    for late, primary in ((False, 2), (True, 3)):
        cluster = quiet(1, 2, 3)
        core = cluster.core(3)
        assert cluster.run(2_000, until=lambda core=core: core.views.proposal.phase == "preparing")  # type: ignore[misc]
        proposer = core.views.proposal
        ballot, instance = proposer.ballot, proposer.instance
        promise = Prepared(core.group, instance, ballot, ballot, None, None, synchronised=True, late=late)
        said = feed(cluster, 3, 2, promise)
        assert {each.value.primary for each in said if isinstance(each, Accept)} == {primary}


def test_an_acknowledgement_is_taken_back_when_its_view_is_left_before_the_disk_answered() -> None:
    cluster = quiet(1, 2, 3)
    cluster.disk_us = 5 * MS
    core = cluster.core(2)
    before, current = core.positions.log.last, core.views.current
    assert current is not None
    cluster.step(2, Received(NodeId(1), append(cluster, before, record(current.view, before.seqno + 1))))
    following = successor(current, without(current, NodeId(1)), synchronised=True, primary=NodeId(3))
    assert following is not None
    cluster.step(2, Received(NodeId(3), Views(core.group, (following,), following.view)))
    replaced = record(following.view, before.seqno + 1)
    cluster.step(2, Received(NodeId(3), append(cluster, before, replaced, view=following.view)))
    cluster.sent.clear()
    cluster.sync(2)
    said = [each for _, _, each in cluster.sent if isinstance(each, Appended)]
    assert [(each.view, each.matched) for each in said] == [
        (following.view, stamp(following.view, before.seqno + 1))
    ]


# Primary


def test_a_primary_does_not_count_an_entry_that_it_does_not_have() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(1)
    cluster.propose("b", 1)
    cluster.run(0)
    last = core.positions.log.last
    before = core.positions.committed
    for matched in (stamp(1, last.seqno), stamp(2, last.seqno + 1), stamp(2, 10**9)):
        feed(cluster, 1, 2, Appended(core.group, View(2), matched))
    assert core.positions.committed == before
    assert core.counters.total() >= 3
    feed(cluster, 1, 2, Appended(core.group, View(2), last))
    assert core.positions.committed == last.seqno


def test_a_primary_does_not_count_a_node_outside_the_view() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(1)
    cluster.propose("b", 1)
    last, before = core.positions.log.last, core.positions.committed
    feed(cluster, 1, 9, Appended(core.group, View(2), last))
    assert core.positions.committed == before


def test_a_primary_does_not_count_an_acknowledgement_of_an_old_view() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(1)
    cluster.propose("b", 1)
    before = core.positions.committed
    feed(cluster, 1, 2, Appended(core.group, View(1), core.positions.log.last))
    assert core.positions.committed == before


def test_a_primary_commits_nothing_when_its_own_disk_has_not_answered() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(1)
    cluster.disk_us = 50_000
    before = core.positions.committed
    cluster.propose("b", 1)
    feed(cluster, 1, 2, Appended(core.group, View(2), core.positions.log.last))
    assert core.positions.committed == before
    cluster.run(60)
    assert core.positions.committed == core.positions.log.last.seqno


def test_a_primary_goes_on_from_the_last_common_entry_when_a_backup_shows_its_log() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(1)
    last = core.positions.log.last
    answers = feed(cluster, 1, 2, Position(core.group, View(2), (stamp(0, 0), stamp(1, 1)), None))
    assert [each.previous for each in answers if isinstance(each, Append)] == [stamp(1, 1)]
    assert len(answers[0].records) == last.seqno - 1


def test_a_primary_refuses_a_position_when_it_makes_no_sense() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(1)
    before = core.counters.total()
    for marks in ((), (stamp(2, 3), stamp(1, 1)), (stamp(7, 70), stamp(8, 80))):
        feed(cluster, 1, 2, Position(core.group, View(2), marks, None))
    feed(cluster, 1, 9, Position(core.group, View(2), (stamp(0, 0),), None))
    assert core.counters.total() == before + 4


def test_a_view_does_not_serve_when_one_member_has_not_synchronised() -> None:
    cluster = Cluster([1, 2, 3])
    cluster.meddle = lambda source, _, message: () if isinstance(message, Appended) and source == 3 else None
    cluster.start(1, 2, 3)
    assert cluster.run(2_000, until=lambda: cluster.members_at(1) == (1, 2, 3))
    cluster.run(300)
    assert not cluster.core(1).accepting
    assert cluster.waiting_for(1) == "3 to be synchronised with view 3"
    cluster.meddle = None
    cluster.form(1, 2, 3)


def test_a_backup_never_drops_an_entry_of_the_present_view() -> None:
    cluster = Cluster([1, 2])
    cluster.meddle = lambda source, _, message: () if isinstance(message, Appended) and source == 2 else None
    cluster.start(1, 2)
    assert cluster.run(2_000, until=lambda: cluster.core(2).positions.log.last == stamp(2, 2))
    core = cluster.core(2)
    assert core.positions.committed < 2
    before = core.counters.total()
    feed(cluster, 2, 1, append(cluster, stamp(1, 1), record(1, 2, "other")))
    assert (core.positions.log.last, core.counters.total()) == (stamp(2, 2), before + 1)


def test_a_proposer_believes_in_a_view_when_its_own_disk_has_answered() -> None:
    cluster = cluster_of(1, disk_us=5_000)
    cluster.start(2, bootstrap="join", contact=1)
    acceptor = cluster.core(1).views.acceptor
    assert cluster.run(1_000, until=lambda: acceptor.value is not None)
    assert cluster.core(1).view == 1
    cluster.crash(1)
    cluster.start(1)
    cluster.form(1, 2)


def test_a_primary_sends_the_newest_snapshot_when_nothing_of_an_older_one_was_received() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(1)
    role = core.role.primary
    assert role is not None
    older, newer = (BytesSnapshot(stamp(2, seqno), b"", b"abc") for seqno in (2, 3))
    core.positions.log.reset(stamp(2, 3), 0)
    core.positions.snapshot = newer
    role.backups[NodeId(2)].sender = SnapshotSender(older, 0)
    answers = feed(cluster, 1, 2, Position(core.group, View(2), (stamp(2, 2),), None))
    assert [each.meta for each in answers if isinstance(each, Chunk)] == [newer.meta]
    received = StagedPart(newer.meta.viewstamp, newer.meta.digest, 3)
    assert feed(cluster, 1, 2, Position(core.group, View(2), (stamp(2, 2),), received)) == []


def test_a_restarted_primary_does_not_claim_to_lead_before_it_serves() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.crash(1)
    cluster.start(1)
    assert cluster.core(1).leader is None
    cluster.form(1, 2, 3)
    assert cluster.core(1).leader == 1
