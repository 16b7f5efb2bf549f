"""Members of a primary-backup cluster change: through the record of the synchronous set, and safely."""

import pytest

from tests.protocols.primary_backup.fenced_world import FencedWorld, Letter, bootstrapped, members_in_force
from viewstamp.core.events import ChangeMembers
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.primary_backup.messages import AppendEntries, Dismissed
from viewstamp.protocols.primary_backup.options import PrimaryBackupOptions


def nodes(*numbers: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(number) for number in numbers)


def fresh(*numbers: int) -> tuple[tuple[NodeId, Incarnation], ...]:
    return tuple((NodeId(number), Incarnation(100 * number)) for number in numbers)


def adding(*numbers: int) -> ChangeMembers:
    return ChangeMembers(add=fresh(*numbers), promote=nodes(*numbers))


def replacing(*pairs: tuple[int, int]) -> ChangeMembers:
    return ChangeMembers(
        add=fresh(*(new for _, new in pairs)),
        replace=tuple((NodeId(old), NodeId(new)) for old, new in pairs),
    )


def served(size: int = 3, options: PrimaryBackupOptions | None = None) -> FencedWorld:
    world = bootstrapped(size, options=options)
    world.write(0, b"a", b"b")
    return world


def direct(world: FencedWorld, change: ChangeMembers, token: int = 1) -> str | None:
    """Ask the primary, and let time pass until it has answered; return the refusal."""
    primary = world.primary
    assert primary is not None
    world.direct(primary, token, change)
    world.run_until(lambda: token in world.nodes[NodeId(primary)].settled)
    return world.nodes[NodeId(primary)].settled[token]


def voters(world: FencedWorld) -> list[int]:
    """The voters in force; empty while a change is under way."""
    primary = world.primary
    if primary is None:
        return []
    synchronous_set = world.core(primary).replication.synchronous_set
    if not synchronous_set.is_configured or synchronous_set.configuration.is_joint:
        return []
    return [int(node) for node, _ in synchronous_set.configuration.voters]


def grown(*added: int) -> FencedWorld:
    world = served()
    for node in added:
        world.join(node)
    assert direct(world, adding(*added)) is None
    world.run_until(lambda: voters(world) == [0, 1, 2, *added])
    return world


def promoted(world: FencedWorld, node: int, token: int = 9) -> None:
    world.promote(node, token)
    world.run_until(lambda: world.primary == node and world.core(node).replication.has_committed)


def write(world: FencedWorld, *data: bytes) -> None:
    for each in data:
        world.run_until(lambda: (at := world.primary) is not None and world.core(at).accepting)
        assert world.primary is not None
        world.propose(world.primary, each)
        world.run(150)


def test_node_when_it_joins_waits_until_it_is_added() -> None:
    world = served()
    world.join(3)
    world.run(2_000)
    assert voters(world) == [0, 1, 2]
    assert not world.core(3).state.bootstrapped
    waiting_for = world.core(3).status(world.now).waiting_for
    assert waiting_for == "not a member yet: waiting until `viewstamp member add` names this node"


def test_node_when_it_is_added_learns_first_then_votes_and_is_synchronous() -> None:
    world = served()
    world.join(3)
    world.isolate(3)
    assert direct(world, adding(3)) is None
    world.run(2_000)
    assert voters(world) == [0, 1, 2], "it has nothing yet"
    world.heal()
    world.run_until(lambda: voters(world) == [0, 1, 2, 3])
    world.run(500)
    assert members_in_force(world, 0) == (0, 1, 2, 3)
    assert world.commands(3) == [b"a", b"b"]
    status = world.core(3).status(world.now)
    assert status.membership is not None
    assert status.membership.settled
    assert status.role == "backup"


def test_node_when_it_is_added_as_a_learner_holds_nobody_up() -> None:
    world = served()
    world.join(3)
    assert direct(world, ChangeMembers(add=fresh(3))) is None
    world.run(1_000)
    assert (voters(world), members_in_force(world, 0)) == ([0, 1, 2], (0, 1, 2))
    assert world.commands(3) == [b"a", b"b"]
    assert world.core(3).status(world.now).role == "learner"
    world.crash(3)
    write(world, b"c")
    assert world.commands(0)[-1] == b"c"
    world.start(3)
    world.promote(3, 5)
    assert "is a learner" in str(world.nodes[NodeId(3)].settled[5])
    assert direct(world, ChangeMembers(promote=nodes(3)), 2) is None
    world.run_until(lambda: voters(world) == [0, 1, 2, 3])


def test_learner_when_the_log_is_compacted_gets_a_snapshot() -> None:
    world = served(options=PrimaryBackupOptions(log_bytes_max=400))
    write(world, *(b"command %d" % number for number in range(30)))
    assert world.core(0).state.log.base_seqno > 5
    world.join(3)
    assert direct(world, adding(3)) is None
    world.run_until(lambda: voters(world) == [0, 1, 2, 3])
    world.run(200)
    assert world.nodes[NodeId(3)].machine == world.nodes[NodeId(0)].machine


def test_cluster_when_it_grows_to_five_and_shrinks_again_loses_nothing() -> None:
    world = grown(3, 4)
    write(world, b"c")
    assert direct(world, ChangeMembers(remove=nodes(1, 2)), 2) is None
    world.run_until(lambda: voters(world) == [0, 3, 4])
    write(world, b"d")
    world.run(1_000)
    for node in (0, 3, 4):
        assert world.commands(node) == [b"a", b"b", b"c", b"d"]
    assert all(world.nodes[NodeId(node)].removed is not None for node in (1, 2))


def test_primary_when_it_is_removed_hands_over_first() -> None:
    world = served()
    assert direct(world, ChangeMembers(remove=nodes(0))) is None
    took_ms = world.run_until(lambda: voters(world) == [1, 2])
    assert took_ms <= 500, "nobody waits for silence"
    assert world.primary in {1, 2}
    world.run(1_000)
    assert world.nodes[NodeId(0)].removed is not None
    write(world, b"c")


def test_each_member_when_it_is_replaced_in_turn_leaves_a_cluster_that_serves() -> None:
    world = served()
    for token, (old, new) in enumerate(((0, 3), (1, 4), (2, 5)), start=1):
        world.join(new)
        assert direct(world, replacing((old, new)), token) is None
        world.run_until(lambda new=new, old=old: new in voters(world) and old not in voters(world))  # type: ignore[misc]
        write(world, b"after %d" % old)
    assert voters(world) == [3, 4, 5]
    world.run(1_000)
    assert all(world.nodes[NodeId(node)].removed is not None for node in (0, 1, 2))
    assert world.commands(5)[-1] == b"after 2"


def test_all_three_when_they_are_swapped_at_once_are_one_joint_change() -> None:
    world = served()
    for node in (3, 4, 5):
        world.join(node)
    assert direct(world, replacing((0, 3), (1, 4), (2, 5))) is None
    world.run_until(lambda: voters(world) == [3, 4, 5])
    world.run(1_000)
    assert world.primary in {3, 4, 5}
    write(world, b"c")
    assert all(world.nodes[NodeId(node)].removed is not None for node in (0, 1, 2))
    assert world.commands(4) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("writes", range(1, 12))
def test_swap_when_the_primary_crashes_after_each_write_comes_to_an_end(writes: int) -> None:
    """At each `Persist` of the change the primary's process ends, with what it wrote last unsynced."""
    world = served()
    for node in (3, 4, 5):
        world.join(node)
    disk = world.nodes[NodeId(0)].disk
    stop_at = disk.written + len(disk.pending) + writes
    world.direct(0, 1, replacing((0, 3), (1, 4), (2, 5)))
    for _ in range(300):
        if disk.written + len(disk.pending) >= stop_at or world.nodes[NodeId(0)].removed is not None:
            break
        world.run(10)
    world.crash(0)
    world.run(200)
    for token, candidate in enumerate((1, 2, 3, 4, 5, 1, 2), start=20):
        if world.primary is not None:
            break
        world.promote(candidate, token)
        world.run(600)
    world.start(0)
    world.run(3_000)
    write(world, b"c")
    if voters(world) != [3, 4, 5]:
        # The change was lost with the primary: nothing of it stands, and it may be asked for again.
        assert direct(world, replacing((0, 3), (1, 4), (2, 5)), 2) is None
        world.run_until(lambda: voters(world) == [3, 4, 5])
    world.run(3_000)
    assert world.commands(5) == [b"a", b"b", b"c"]
    assert all(world.nodes[NodeId(node)].removed is not None for node in (0, 1, 2))


def test_node_when_it_was_away_while_it_was_removed_is_told_so() -> None:
    world = served()
    world.isolate(2)
    world.run(1_500)
    assert direct(world, ChangeMembers(remove=nodes(2))) is None
    epoch = world.core(0).state.epoch
    world.run(2_000)
    world.heal()
    world.run(3_000)
    assert world.nodes[NodeId(2)].removed is not None
    assert (world.primary, world.core(0).state.epoch) == (0, epoch), "nobody was disturbed"
    waiting_for = world.core(2).status(world.now).waiting_for
    assert waiting_for == "this data directory was removed from the cluster: it will never serve again"


def test_node_when_its_removal_is_not_in_force_is_not_told() -> None:
    world = served()
    said: list[Letter] = []

    def watched(letter: Letter) -> bool:
        said.extend([letter] if isinstance(letter.message, Dismissed) else [])
        record = letter.message.record if isinstance(letter.message, AppendEntries) else None
        return record is not None and record.changed is not None

    world.blocked = watched
    world.direct(0, 1, ChangeMembers(remove=nodes(2)))
    world.crash(2)
    world.start(2)
    world.run(3_000)
    assert world.core(0).replication.synchronous_set.configuration.removed
    assert said == []


def test_directory_when_it_was_removed_is_not_added_again_but_an_empty_one_is() -> None:
    world = served()
    assert direct(world, ChangeMembers(remove=nodes(2))) is None
    known = world.nodes[NodeId(2)].incarnation
    refusal = direct(world, ChangeMembers(add=((NodeId(2), known),)), 2)
    assert refusal is not None
    assert refusal.endswith("start it with an empty one")
    world.wipe(2)
    world.start(2)
    again = ChangeMembers(add=((NodeId(2), world.nodes[NodeId(2)].incarnation),), promote=nodes(2))
    assert direct(world, again, 3) is None
    world.run_until(lambda: voters(world) == [0, 1, 2])


def test_removal_when_the_rest_would_have_no_majority_is_refused_with_the_reason() -> None:
    world = served()
    world.crash(2)
    world.run(1_500)
    assert direct(world, ChangeMembers(remove=nodes(1))) == (
        "without node 1 the cluster would stop, since node 2 did not answer lately or lacks entries: "
        "bring them back, or remove those first"
    )
    assert direct(world, ChangeMembers(remove=nodes(2)), 2) is None
    assert voters(world) == [0, 1]


def test_member_when_it_loses_its_disk_in_a_changed_cluster_counts_again_with_the_new_one() -> None:
    world = grown(3)
    world.run(200)
    world.wipe(3)
    world.run(1_500)
    write(world, b"c")
    world.start(3)
    world.run(3_000)
    incarnation = world.nodes[NodeId(3)].incarnation
    assert (3, incarnation) in world.core(0).replication.synchronous_set.configuration.voters
    assert members_in_force(world, 0) == (0, 1, 2, 3)
    assert world.commands(3)[-1] == b"c"


def test_candidate_when_another_knows_of_more_members_asks_those_too() -> None:
    """Node 1 has not heard that 3 votes; without the primary only 1, 2 and 3 together are a majority."""
    world = served()
    world.join(3)

    def hides_the_new_voter(letter: Letter) -> bool:
        record = letter.message.record if isinstance(letter.message, AppendEntries) else None
        return letter.to == 1 and record is not None and len(record.roster) == 4

    world.blocked = hides_the_new_voter
    world.direct(0, 1, adding(3))
    world.run_until(lambda: world.core(3).state.counts)
    world.crash(0)
    record = world.core(1).state.record
    assert record is not None
    assert len(record.roster) == 3
    promoted(world, 1)
    world.run(300)
    assert voters(world) == [0, 1, 2, 3]


def test_new_voter_when_the_old_ones_do_not_know_of_it_is_not_told_that_it_votes() -> None:
    """If it were, it could grant an epoch that a majority of the old ones knows nothing of."""
    world = served()
    world.join(3)

    def from_the_primary_to_the_others(letter: Letter) -> bool:
        record = letter.message.record if isinstance(letter.message, AppendEntries) else None
        return letter.to in {1, 2} and record is not None and len(record.roster) == 4

    world.blocked = from_the_primary_to_the_others
    world.direct(0, 1, adding(3))
    world.run_until(lambda: len(world.core(0).replication.synchronous_set.newest.roster) == 4)
    world.run(300)
    assert not world.core(3).state.counts
    world.heal()
    world.run_until(lambda: world.core(3).state.counts)


def test_reads_and_commits_when_one_half_of_a_joint_configuration_is_silent_wait() -> None:
    world = served()
    for node in (3, 4, 5):
        world.join(node)

    def joint_record_for_two(letter: Letter) -> bool:
        record = letter.message.record if isinstance(letter.message, AppendEntries) else None
        return letter.to in {4, 5} and record is not None and record.configuration.is_joint

    world.blocked = joint_record_for_two
    world.direct(0, 1, replacing((0, 3), (1, 4), (2, 5)))
    world.run_until(lambda: world.core(3).state.counts)
    assert world.core(0).replication.synchronous_set.configuration.is_joint
    world.isolate(4, 5)
    world.crash(0)
    world.promote(1, 7)
    world.run(4_000)
    assert world.primary is None, "one of the three that come has no majority of them"
    world.heal()
    world.promote(1, 8)
    world.run_until(lambda: voters(world) == [3, 4, 5])


def test_change_when_the_primary_is_deposed_says_that_it_may_still_come() -> None:
    world = served()
    world.isolate(0)
    world.direct(0, 1, ChangeMembers(remove=nodes(2)))
    world.run(3_000)
    assert "may still come" in str(world.nodes[NodeId(0)].settled[1])
    world.direct(1, 2, ChangeMembers(remove=nodes(2)))
    assert world.nodes[NodeId(1)].settled[2] == "node 1 does not lead: nobody does"


def test_change_when_the_last_one_is_not_in_force_is_refused() -> None:
    world = served()
    world.join(3)
    world.blocked = lambda letter: (
        isinstance(letter.message, AppendEntries)
        and bool(letter.message.record and letter.message.record.changed)
    )
    world.direct(0, 1, ChangeMembers(add=fresh(3)))
    world.run(100)
    world.direct(0, 2, ChangeMembers(remove=nodes(2)))
    refusal = world.nodes[NodeId(0)].settled[2]
    assert refusal == "another change of the members is under way: try again when it is done"


def test_change_when_few_know_of_it_is_confirmed_by_the_voters_before_it() -> None:
    """Elections may still be made by a majority of those five; majorities of the four need not be asked."""
    world = grown(3, 4)
    world.run(300)

    def record_for_more_than_one(letter: Letter) -> bool:
        record = letter.message.record if isinstance(letter.message, AppendEntries) else None
        return letter.to != 1 and record is not None and len(record.configuration.voters) == 4

    world.blocked = record_for_more_than_one
    world.direct(0, 5, ChangeMembers(remove=nodes(4)))
    world.run(300)
    synchronous_set = world.core(0).replication.synchronous_set
    assert len(synchronous_set.newest.roster) == 4
    assert synchronous_set.agree(nodes(0, 2, 4)), "the voters before decide: nobody may know of the change"
