"""The log's positions, snapshots of a node's own, and what the journal may forget."""

import msgspec

from tests.protocols.viewstamped.harness import MS, Cluster, cluster_of
from viewstamp.core.effects import Apply, Capture, Release
from viewstamp.core.events import Captured, Directed, DirectiveToken, TakeSnapshot
from viewstamp.core.ids import NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.protocols.viewstamped.journal import SnapshotHeader
from viewstamp.protocols.viewstamped.options import ViewstampedOptions

SMALL = ViewstampedOptions(log_bytes_max=1_200)
APPLIES = ViewstampedOptions().applies_per_step_max


def filled(options: ViewstampedOptions = SMALL, count: int = 60) -> Cluster:
    cluster = cluster_of(1, 2, 3, options=options)
    for number in range(count):
        cluster.write(f"{number:030}")
    cluster.run(100)
    return cluster


def test_the_log_stays_within_its_bound_when_commands_go_on() -> None:
    cluster = filled()
    for node in (1, 2, 3):
        core = cluster.core(node)
        assert core.positions.log.size_bytes <= 700
        assert core.positions.log.base.seqno > 20


def test_no_more_than_what_is_kept_stays_when_a_snapshot_is_taken() -> None:
    cluster = filled()
    cluster.step(1, Directed(DirectiveToken(1), TakeSnapshot()))
    cluster.run(10)
    core = cluster.core(1)
    snapshot = core.positions.snapshot
    assert snapshot is not None
    assert snapshot.meta.viewstamp.seqno == core.positions.applied
    assert 200 < core.positions.log.size_bytes <= 300


def test_a_node_starts_again_when_its_journal_has_forgotten_the_beginning() -> None:
    cluster = filled()
    host = cluster.hosts[NodeId(2)]
    assert host.released_before > 20
    cluster.crash(2)
    cluster.start(2)
    cluster.write("more")
    cluster.run(100)
    assert cluster.commands(2) == cluster.commands(1)
    assert cluster.views_at(2) == [(1,), (1, 2), (1, 2, 3)]


def test_promises_survive_when_the_journal_has_forgotten_them() -> None:
    cluster = filled(ViewstampedOptions(log_bytes_max=None, inflight_bytes_max=1), count=5)
    cluster.crash(3)
    cluster.isolate(1)
    cluster.run(1_000)
    promised = cluster.core(1).views.acceptor.promised
    assert promised.number > 0
    cluster.step(1, Directed(DirectiveToken(1), TakeSnapshot()))
    cluster.run(10)
    host = cluster.hosts[NodeId(1)]
    assert host.released_before == host.written
    cluster.crash(1)
    cluster.start(1)
    assert cluster.core(1).views.acceptor.promised == promised


def test_the_header_of_a_snapshot_names_its_view() -> None:
    cluster = filled()
    snapshot = cluster.hosts[NodeId(1)].snapshot
    assert snapshot is not None
    header = msgspec.msgpack.decode(snapshot.meta.header, type=SnapshotHeader)
    assert header.membership == cluster.core(1).views.current


def test_nothing_is_released_when_a_snapshot_could_not_be_made() -> None:
    cluster = filled(options=ViewstampedOptions(log_bytes_max=None), count=5)
    core = cluster.core(1)
    effects = core.step(Directed(DirectiveToken(1), TakeSnapshot()), cluster.now)
    capture = next(each for each in effects if isinstance(each, Capture))
    settled = core.step(Captured(capture.token, None), cluster.now)
    assert [each.refusal for each in settled if hasattr(each, "refusal")] == [
        "the snapshot could not be written: see the node's log, then try again"
    ]
    assert core.positions.snapshot is None
    assert not any(isinstance(each, Release) for each in settled)


def test_an_old_snapshot_changes_nothing_when_a_newer_one_arrived_meanwhile() -> None:
    cluster = filled(count=5)
    core = cluster.core(1)
    cluster.step(1, Directed(DirectiveToken(1), TakeSnapshot()))
    cluster.run(10)
    newer = core.positions.snapshot
    core.step(
        Captured(core.role.next_token(), BytesSnapshot(Viewstamp(View(1), Seqno(1)), b"", b"")),
        cluster.now,
    )
    assert core.positions.snapshot is newer


def test_a_long_log_is_applied_in_parts_when_it_becomes_committed_at_once() -> None:
    options = ViewstampedOptions(uncommitted_entries_max=10_000)
    cluster = cluster_of(1, options=options, disk_us=MS)
    for number in range(3 * APPLIES):
        cluster.propose(str(number), 1)
    core = cluster.core(1)
    assert core.positions.log.last.seqno > 3 * APPLIES
    cluster.crash(1)
    cluster.run(2)
    cluster.start(1)
    cluster.form(1)
    for number in range(3 * APPLIES):
        cluster.propose(str(number), 1)
    cluster.run(200)
    assert len(cluster.commands(1)) >= 3 * APPLIES


def test_no_step_applies_more_than_its_share() -> None:
    cluster = cluster_of(1, 2, options=ViewstampedOptions(uncommitted_entries_max=10_000))
    counts: list[int] = []
    original = cluster._carry_out

    def count(host: object, effect: object) -> None:
        if isinstance(effect, Apply):
            counts[-1] += 1
        original(host, effect)  # type: ignore[arg-type]

    step = cluster.step

    def counted(node: int, event: object) -> None:
        counts.append(0)
        step(node, event)  # type: ignore[arg-type]

    cluster._carry_out = count  # type: ignore[method-assign]
    cluster.step = counted  # type: ignore[method-assign]
    for number in range(2_500):
        cluster.propose(str(number), 1)
    cluster.run(500)
    assert len(cluster.commands(2)) == 2_500
    assert max(counts) <= 2 * APPLIES
