"""The primary: commits, the synchronous set, reads, snapshots for backups far behind."""

from tests.protocols.primary_backup.fenced_world import bootstrapped, members_in_force
from viewstamp.core.events import (
    PeerDown,
)
from viewstamp.core.ids import NodeId
from viewstamp.protocols.primary_backup import PrimaryBackupOptions


def test_commit_needs_every_synchronous_member_when_all_are_heard() -> None:
    world = bootstrapped(3)
    world.isolate(2)
    world.propose(0, b"a")
    world.settle()
    assert world.nodes[NodeId(0)].commands == []
    world.run(700)
    assert members_in_force(world, 0) == (0, 1), "the silent one was dropped"
    assert world.nodes[NodeId(0)].commands == [b"a"]


def test_commit_goes_on_at_once_when_the_connection_to_a_backup_breaks() -> None:
    world = bootstrapped(3)
    world.crash(2)
    world.propose(0, b"a")
    world.settle()
    assert world.nodes[NodeId(0)].commands == []
    world.feed(0, PeerDown(NodeId(2)))
    world.settle()
    assert world.nodes[NodeId(0)].commands == [b"a"]


def test_dropped_backup_is_brought_up_and_taken_back_when_it_is_heard_again() -> None:
    world = bootstrapped(3)
    world.isolate(2)
    world.run(700)
    world.write(0, b"a", b"b")
    world.heal()
    world.run(700)
    assert members_in_force(world, 0) == (0, 1, 2)
    assert world.nodes[NodeId(2)].commands == [b"a", b"b"]


def test_nothing_is_committed_when_no_majority_is_left() -> None:
    world = bootstrapped(3)
    world.crash(1)
    world.crash(2)
    world.propose(0, b"a")
    world.run(5_000)
    assert world.nodes[NodeId(0)].commands == []
    assert not world.core(0).accepting


def test_primary_stops_leading_when_no_majority_is_heard_for_long() -> None:
    world = bootstrapped(3)
    world.isolate(0)
    world.run(2_000)
    assert world.primary is None
    assert not world.core(0).accepting


def test_read_is_answered_when_a_majority_confirms_the_epoch() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.query(0, 1)
    assert world.nodes[NodeId(0)].answered == []
    world.settle()
    assert world.nodes[NodeId(0)].answered == [1]


def test_read_is_refused_when_it_is_asked_of_a_backup() -> None:
    world = bootstrapped(3)
    world.query(1, 4)
    assert world.nodes[NodeId(1)].refused == [4]


def test_read_is_not_answered_when_the_primary_is_cut_off() -> None:
    world = bootstrapped(3)
    world.isolate(0)
    world.query(0, 1)
    world.run(2_000)
    assert world.nodes[NodeId(0)].answered == []
    assert world.nodes[NodeId(0)].refused == [1]


def test_member_far_behind_gets_a_snapshot_when_its_entries_are_compacted() -> None:
    options = PrimaryBackupOptions(log_bytes_max=600, snapshot_chunk_bytes=3)
    world = bootstrapped(3, options=options)
    world.isolate(2)
    world.run(700)
    for number in range(60):
        world.write(0, b"command %d" % number)
    assert world.core(0).state.log.base_seqno > 20
    world.heal()
    world.run(1_500)
    assert members_in_force(world, 0) == (0, 1, 2)
    assert world.nodes[NodeId(2)].machine == world.nodes[NodeId(0)].machine
    world.crash(2)
    world.start(2)
    world.run(500)
    assert world.nodes[NodeId(2)].machine == world.nodes[NodeId(0)].machine
