"""The fenced mode: bootstrap, promotion, the synchronous set, refused primaries, wiped disks, reads."""

import pytest

from tests.protocols.primary_backup.fenced_world import FencedWorld, bootstrapped
from viewstamp.core.effects import Send
from viewstamp.core.events import (
    Directed,
    DirectiveToken,
    PeerDown,
    PeerUp,
    Persisted,
    Received,
    TakeSnapshot,
    TransferLeadership,
)
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.primary_backup import PrimaryBackupOptions
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.messages import (
    AppendEntries,
    AppendResponse,
    Fence,
    FenceResponse,
    Introduce,
)
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, encode_record


def members_in_force(world: FencedWorld, number: int) -> tuple[int, ...]:
    record = world.core(number).replication.synchronous_set.in_force
    return () if record is None else tuple(int(node) for node in record.members)


def test_lowest_is_primary_and_all_are_synchronous_when_all_begin_empty() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.run(100)
    assert members_in_force(world, 0) == (0, 1, 2)
    assert [world.nodes[node].commands for node in world.members] == [[b"a"]] * 3


def test_a_cluster_of_one_serves_when_it_begins() -> None:
    world = bootstrapped(1)
    world.write(0, b"a")
    assert world.nodes[NodeId(0)].commands == [b"a"]


def test_nothing_is_bootstrapped_when_a_member_is_missing() -> None:
    world = FencedWorld(3, start=False)
    world.start(0)
    world.start(1)
    world.run(1_000)
    assert world.primary is None
    assert "not heard from node 2" in world.core(0).status(world.now).waiting_for


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


def test_promotion_is_carried_to_its_target_when_another_member_is_asked() -> None:
    world = bootstrapped(3)
    world.promote(2, 5, asked=0)
    world.run(300)
    assert world.primary == 2
    assert world.nodes[NodeId(0)].settled == {5: None}
    world.promote(1, 6, asked=0)
    world.run(300)
    assert world.primary == 1
    assert world.nodes[NodeId(0)].settled == {5: None, 6: None}


def test_two_candidates_do_not_outbid_each_other_for_long_when_promoted_at_once() -> None:
    world = bootstrapped(3)
    before = world.core(1).state.epoch
    world.crash(0)
    world.promote(1, 7)
    world.promote(2, 8)
    world.run(1_000)
    assert world.primary in {1, 2}
    assert world.core(1).state.epoch <= before + 4


def test_fittest_backup_is_promoted_when_the_primary_is_asked_for_any() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.feed(0, Directed(DirectiveToken(3), TransferLeadership()))
    world.run(300)
    assert world.primary in {1, 2}
    assert world.nodes[NodeId(0)].settled == {3: None}


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


def test_strangers_cannot_be_promoted_when_the_operator_names_one() -> None:
    world = bootstrapped(3)
    world.feed(0, Directed(DirectiveToken(1), TransferLeadership(NodeId(9))))
    assert world.nodes[NodeId(0)].settled == {1: "not promoted: node 9 is not a member of this cluster"}


def test_cut_off_primary_acknowledges_nothing_when_another_one_was_promoted() -> None:
    """The split brain of the course's form, refused: its test is in test_course.py."""
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


def test_primary_stops_leading_when_no_majority_is_heard_for_long() -> None:
    world = bootstrapped(3)
    world.isolate(0)
    world.run(2_000)
    assert world.primary is None
    assert not world.core(0).accepting


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


def test_wiped_backup_does_not_count_until_it_is_recorded_again() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.wipe(2)
    world.run(700)
    world.start(2)
    world.isolate(2)
    world.run(50)
    assert not world.core(2).state.counts
    world.feed(2, Received(NodeId(1), Fence(9, trial=False, by_operator=True, campaign=1)))
    assert not [letter for letter in world.letters if isinstance(letter.message, FenceResponse)]
    world.heal()
    world.run(1_500)
    assert world.core(2).state.counts
    assert members_in_force(world, 0) == (0, 1, 2)
    assert world.nodes[NodeId(2)].commands == [b"a"]


def test_backup_is_brought_up_when_a_late_introduction_of_its_former_incarnation_came_last() -> None:
    world = bootstrapped(3)
    world.isolate(2)
    world.write(0, b"a")
    world.run(2_000)
    world.feed(
        0,
        Received(
            NodeId(2),
            Introduce(incarnation=Incarnation(7), bootstrapped=False, known=((NodeId(2), Incarnation(7)),)),
        ),
    )
    assert world.core(0).replication.progress[NodeId(2)].incarnation == 7
    world.heal()
    world.run(2_500)
    assert world.nodes[NodeId(2)].commands == [b"a"]
    assert members_in_force(world, 0) == (0, 1, 2)


def test_wiped_backup_is_not_readmitted_when_no_majority_of_the_others_is_there() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.crash(1)
    world.wipe(2)
    world.run(100)
    world.start(2)
    world.run(5_000)
    assert not world.core(2).state.counts
    assert world.primary is None
    world.start(1)
    world.promote(0, 1)
    world.run(2_500)
    assert world.core(2).state.counts


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
    assert campaign._count_grants(newest) == 2
    assert campaign._count_grants(later) == 1


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


def test_snapshot_is_taken_when_the_operator_wants_one() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.feed(0, Directed(DirectiveToken(2), TakeSnapshot()))
    assert world.nodes[NodeId(0)].settled == {2: None}
    assert world.core(0).status(world.now).snapshot == 2


def test_entries_of_an_older_primary_are_refused_when_the_epoch_is_over() -> None:
    world = bootstrapped(3)
    incarnation = world.nodes[NodeId(2)].incarnation
    world.promote(1, 1)
    world.run(300)
    before = world.core(2).state.log.last
    stale = AppendEntries(
        epoch=1,
        to=incarnation,
        previous_view=1,
        previous_seqno=1,
        entries=[],
        committed=99,
        round=0,
        attempt=0,
        record=None,
    )
    world.feed(2, Received(NodeId(0), stale))
    assert world.core(2).state.log.last == before
    assert world.core(2).state.committed <= before.seqno
    assert [letter.message.epoch for letter in world.letters] == [2], "it is told that its epoch is over"


def test_second_primary_in_one_epoch_is_dropped_when_it_speaks() -> None:
    world = bootstrapped(3)
    world.settle()
    incarnation = world.nodes[NodeId(2)].incarnation
    world.feed(
        2,
        Received(
            NodeId(1),
            AppendEntries(
                epoch=1,
                to=incarnation,
                previous_view=1,
                previous_seqno=1,
                entries=[],
                committed=0,
                round=0,
                attempt=0,
                record=None,
            ),
        ),
    )
    assert world.core(2).state.counters["second primary in one epoch"] == 1


def test_acknowledgement_is_taken_back_when_its_epoch_ends_before_the_promise_is_on_disk() -> None:
    world = bootstrapped(3)
    world.settle()
    core, me = world.core(2), world.nodes[NodeId(2)].incarnation
    last = core.state.log.last
    entries = [encode_record(EntryRecord(view, last.seqno + 1, COMMAND, b"x")) for view in (1, 3)]
    core.step(
        Received(
            NodeId(0),
            AppendEntries(
                epoch=1,
                to=me,
                previous_view=1,
                previous_seqno=last.seqno,
                entries=entries[:1],
                committed=0,
                round=0,
                attempt=0,
                record=None,
            ),
        ),
        world.now,
    )
    core.step(Persisted(core.state.outbox.written), world.now)
    core.step(
        Received(
            NodeId(1),
            AppendEntries(
                epoch=2,
                to=me,
                previous_view=1,
                previous_seqno=last.seqno + 1,
                entries=[],
                committed=0,
                round=0,
                attempt=0,
                record=None,
            ),
        ),
        world.now,
    )
    core.step(
        Received(
            NodeId(0),
            AppendEntries(
                epoch=3,
                to=me,
                previous_view=1,
                previous_seqno=last.seqno,
                entries=entries[1:],
                committed=0,
                round=0,
                attempt=0,
                record=None,
            ),
        ),
        world.now,
    )
    effects = core.step(Persisted(core.state.outbox.written), world.now)
    answers = [effect.message for effect in effects if isinstance(effect, Send)]
    matched = [(each.epoch, each.matched_view) for each in answers if isinstance(each, AppendResponse)]
    assert matched == [(3, 3)]


@pytest.mark.parametrize("committed", [1 << 40, -1, 1 << 60])
def test_nothing_unknown_is_committed_when_a_message_says_so(committed: int) -> None:
    world = bootstrapped(3)
    state = world.core(2).state
    incarnation = world.nodes[NodeId(2)].incarnation
    world.feed(
        2,
        Received(
            NodeId(0),
            AppendEntries(
                epoch=1,
                to=incarnation,
                previous_view=1,
                previous_seqno=1,
                entries=[],
                committed=committed,
                round=0,
                attempt=0,
                record=None,
            ),
        ),
    )
    assert state.committed <= state.log.last_seqno


def test_primary_is_no_longer_named_when_its_connection_breaks() -> None:
    world = bootstrapped(3)
    assert world.core(1).leader == 0
    world.feed(1, PeerDown(NodeId(0)))
    assert world.core(1).leader is None
    world.feed(0, PeerUp(NodeId(1)))
    world.settle()
    assert world.core(1).leader == 0


def test_acknowledgement_waits_for_the_disk_when_that_is_slow() -> None:
    world = bootstrapped(3)
    world.nodes[NodeId(1)].disk.held = world.nodes[NodeId(2)].disk.held = True
    world.propose(0, b"a")
    world.run(250)  # heartbeats are answered at once, with what is on disk
    assert world.nodes[NodeId(0)].commands == []
    world.sync(1)
    world.settle()
    assert world.nodes[NodeId(0)].commands == []
    world.sync(2)
    world.settle()
    assert world.nodes[NodeId(0)].commands == [b"a"]


def test_lowest_leads_once_when_it_is_promoted_before_the_bootstrap_is_on_its_disk() -> None:
    """Its trial must not go on while it leads: the primary would become a candidate and send as primary."""
    world = FencedWorld(3)
    world.nodes[NodeId(0)].disk.held = True
    world.settle()
    world.promote(0, 7)
    world.nodes[NodeId(0)].disk.held = False
    world.sync(0)
    assert world.nodes[NodeId(0)].settled == {7: None}
    world.settle()
    world.write(0, b"a")
    world.run(200)
    assert (world.primary, world.core(0).state.epoch) == (0, 1)
    assert world.nodes[NodeId(2)].commands == [b"a"]
