"""Becoming primary: promotions, refusals, grants, and the primary that resumes."""

from tests.protocols.primary_backup.fenced_world import bootstrapped, members_in_force
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.messages import (
    Fence,
    FenceResponse,
)


def test_backup_is_promoted_when_the_primary_is_dead_and_the_operator_wants_it() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.crash(0)
    world.run(1_000)
    assert not world.core(1).accepting, "no node takes over by itself"
    assert not world.core(2).accepting
    world.promote(1, 7)
    world.run(700)
    assert world.nodes[NodeId(1)].settled == {7: None}
    assert world.primary == 1
    world.write(1, b"b")
    assert world.nodes[NodeId(2)].commands[:1] == [b"a"]
    assert members_in_force(world, 1) == (1, 2)


def test_two_candidates_do_not_outbid_each_other_for_long_when_promoted_at_once() -> None:
    world = bootstrapped(3)
    before = world.core(1).state.epoch
    world.crash(0)
    world.promote(1, 7)
    world.promote(2, 8)
    world.run(1_000)
    assert world.primary in {1, 2}
    assert world.core(1).state.epoch <= before + 4


def test_promotion_is_refused_with_the_members_that_have_everything_when_the_target_was_dropped() -> None:
    world = bootstrapped(3)
    world.isolate(2)
    world.run(700)
    world.write(0, b"only here and there")
    world.crash(0)
    world.heal()
    world.promote(2, 9)
    world.run(100)
    assert world.nodes[NodeId(2)].settled == {
        9: "not promoted: node 2 may lack acknowledged entries; promote one of 0, 1"
    }
    world.promote(1, 9)
    world.run(700)
    assert world.primary == 1
    assert world.nodes[NodeId(1)].commands == [b"only here and there"]


def test_promotion_times_out_when_no_majority_answers() -> None:
    world = bootstrapped(3)
    world.crash(0)
    world.crash(2)
    world.promote(1, 4)
    world.run(3_500)
    refusal = world.nodes[NodeId(1)].settled[4]
    assert refusal is not None
    assert "no majority answered" in refusal


def test_cut_off_primary_acknowledges_nothing_when_another_one_was_promoted() -> None:
    """The split brain of the course's form, refused: its test is in course/test_core.py."""
    world = bootstrapped(3)
    world.write(0, b"a")
    world.isolate(0)
    world.propose(0, b"left")
    world.promote(1, 1)
    world.run(300)
    world.propose(1, b"right")
    world.run(800)
    assert world.nodes[NodeId(0)].commands == [b"a"], "not acknowledged on the left"
    assert world.nodes[NodeId(1)].commands == [b"a", b"right"]
    world.heal()
    world.run(1_500)
    assert [world.nodes[node].commands for node in world.members] == [[b"a", b"right"]] * 3
    assert world.primary == 1


def test_primary_resumes_when_it_comes_back_and_nobody_was_promoted() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    for number in range(3):
        world.crash(number)
    for number in range(3):
        world.start(number)
    world.run(1_500)
    assert world.primary == 0
    assert world.core(0).state.epoch == 2
    world.write(0, b"b")
    assert world.nodes[NodeId(0)].commands == [b"a", b"b"]


def test_former_primary_gives_way_when_another_one_is_heard() -> None:
    world = bootstrapped(3)
    world.crash(0)
    world.promote(1, 1)
    world.run(700)
    world.start(0)
    world.run(3_000)
    assert world.primary == 1
    assert members_in_force(world, 1) == (0, 1, 2)


def test_service_goes_on_when_a_promotion_failed_halfway() -> None:
    """A candidate that dies with the grant of one member must not stop the primary for good."""
    world = bootstrapped(3)
    world.blocked = lambda letter: isinstance(letter.message, FenceResponse) and not letter.message.trial
    world.promote(1, 1)
    world.settle()
    assert world.core(2).state.epoch == 2
    world.crash(1)
    world.heal()
    world.run(4_000)
    assert world.primary == 0
    assert world.core(0).state.epoch == 3
    world.write(0, b"goes on")
    assert world.nodes[NodeId(0)].commands == [b"goes on"]


def test_grant_of_a_former_incarnation_does_not_count_when_the_newest_record_lists_another() -> None:
    """A grant in flight while its sender lost its disk and was re-admitted (design, wiped disks)."""
    world = bootstrapped(5)
    world.write(0, b"a")
    world.blocked = lambda letter: False
    world.promote(1, 1)
    old_grants: list[FenceResponse] = []
    for _ in range(200):
        if not world.letters:
            break
        letter = world.letters.popleft()
        if isinstance(letter.message, FenceResponse) and not letter.message.trial:
            old_grants.append(letter.message)
            continue
        if isinstance(letter.message, Fence) and not letter.message.trial and letter.to != 2:
            continue
        world.deliver(letter)
    assert [grant.incarnation for grant in old_grants] == [300]
    campaign = world.core(1).campaign
    newest = world.core(1).state.record
    assert newest is not None
    roster = tuple((node, Incarnation(life + (node == 2))) for node, life in newest.roster)
    later = SyncRecord(newest.epoch, newest.version + 1, newest.primary, newest.members, roster)
    campaign._answers = {NodeId(2): old_grants[0]}
    assert len(campaign._granted(newest)) == 2
    assert len(campaign._granted(later)) == 1


def test_half_replicated_entry_is_kept_or_dropped_everywhere_when_another_is_promoted() -> None:
    for heir, kept in ((1, [b"a", b"x"]), (2, [b"a"])):
        world = bootstrapped(3)
        world.write(0, b"a")
        world.blocked = lambda letter: letter.source == 0 and letter.to == 2
        world.propose(0, b"x")
        world.settle()
        world.crash(0)
        world.heal()
        world.promote(heir, 1)
        world.run(700)
        world.start(0)
        world.run(2_000)
        world.write(heir, b"next")
        world.run(200)
        assert [world.nodes[node].commands for node in world.members] == [[*kept, b"next"]] * 3
