"""Scripts of primary-backup, both forms, for the sabotages in docs/faults.md#primary-backup and the fence."""

from tests.protocols.primary_backup.course_world import CourseWorld
from tests.protocols.primary_backup.fenced_world import FencedWorld, bootstrapped
from viewstamp.core.events import PeerDown, PeerUp, Received
from viewstamp.core.ids import NodeId
from viewstamp.protocols.primary_backup import PrimaryBackupOptions
from viewstamp.protocols.primary_backup.course.messages import Replicate
from viewstamp.protocols.primary_backup.messages import AppendEntries, AppendResponse, Fence, FenceResponse
from viewstamp.protocols.primary_backup.options import CourseOptions
from viewstamp.protocols.primary_backup.state import Role
from viewstamp.protocols.replication.log import EMPTY, EntryRecord, encode_record

ZERO, ONE, TWO = NodeId(0), NodeId(1), NodeId(2)

# The course's form.


def test_new_primary_has_committed_its_log_when_it_sends_its_first_entry() -> None:
    world = CourseWorld(2)
    world.write(0, b"a", b"b")
    world.give(1, b"c")
    while not isinstance(world.letters[0][2], Replicate):
        world.deliver()
    request = world.letters[0][2]
    assert (request.last_index, request.committed_index) == (3, 2)
    assert world.servers[ONE].applied == [b"a", b"b"]


def test_primary_has_applied_everything_when_nothing_is_in_flight() -> None:
    world = CourseWorld(2)
    world.write(0, b"a", b"b")
    assert world.servers[ZERO].applied == [b"a", b"b"]


def test_backup_does_not_apply_an_entry_before_it_knows_that_it_is_committed() -> None:
    world = CourseWorld(3)
    world.write(0, b"a", b"b")
    assert world.servers[ONE].applied == [b"a"]
    assert world.servers[TWO].applied == [b"a"]


def test_entry_is_not_committed_when_one_live_backup_lacks_it() -> None:
    world = CourseWorld(3)
    world.write(0, b"a")
    world.give(0, b"b")
    world.deliver()
    world.deliver()
    assert world.servers[ZERO].applied == [b"a"]
    world.settle()
    assert world.servers[ZERO].applied == [b"a", b"b"]
    assert world.logs()[2] == [b"a", b"b"]


def test_primary_is_kept_when_a_former_one_dies() -> None:
    world = CourseWorld(3)
    world.write(0, b"a")
    world.write(1, b"b")
    world.kill(0)
    world.settle()
    assert world.core(2).primary_id == 1


def test_committed_entry_stays_when_another_one_is_sent_for_its_place() -> None:
    world = CourseWorld(2)
    world.write(0, b"a", b"b", b"c")
    world.letters.append((ZERO, ONE, Replicate(90, 0, 0, 2, 90, world.core(1).log.view_at(1) or 0, b"other")))
    world.deliver()
    assert world.logs()[1] == [b"a", b"b", b"c"]


def test_repaired_server_has_everything_when_it_counts() -> None:
    world = CourseWorld(2)
    world.write(0, b"a", b"b")
    world.kill(1)
    world.write(0, b"c")
    world.revive(1)
    world.feed(0, PeerUp(ONE))
    while not world.core(0).live:
        world.deliver()
    assert world.logs()[1] == [b"a", b"b", b"c"]


def test_primary_steps_down_when_another_one_took_over() -> None:
    world = CourseWorld(2)
    world.write(0, b"a")
    world.write(1, b"b")
    assert not world.core(0).is_primary
    assert world.core(0).primary_id == 1


def test_late_message_of_a_dead_primary_changes_nothing_when_another_one_leads() -> None:
    world = CourseWorld(3)
    world.write(0, b"a")
    late = Replicate(world.core(0).view, 0, 1, 2, world.core(0).view, world.core(0).view, b"late")
    world.kill(0)
    world.write(1, b"b")
    world.letters.append((ZERO, TWO, late))
    world.settle()
    assert world.core(2).primary_id == 1
    assert world.logs()[2] == [b"a", b"b"]


def test_index_of_zero_or_below_is_refused_when_it_is_asked_for() -> None:
    world = CourseWorld(2)
    world.write(0, b"a", b"b")
    view = int(world.core(0).view)
    for index in (0, -1, -2):
        world.letters.append((ZERO, ONE, Replicate(view, 0, 1, index, view, view, b"x")))
        world.settle()
    assert world.logs()[1] == [b"a", b"b"]
    assert world.positions(1) == (2, 1)


def test_entries_that_overtake_each_other_leave_no_gap() -> None:
    world = CourseWorld(2)
    world.write(0, *(b"%d" % number for number in range(6)))
    world.kill(1)
    world.write(0, b"6")
    world.revive(1)
    world.feed(0, PeerUp(ONE))
    world.deliver()
    world.deliver()
    overtaking = list(world.letters)
    world.letters.clear()
    world.letters.extend(reversed(overtaking))
    for _ in range(len(overtaking)):
        world.deliver()
    assert world.logs()[1] == [b"0"], "only the first follows what it has"
    world.settle()
    assert world.logs()[1] == world.logs()[0]


def test_write_goes_on_when_a_backup_is_silent_on_an_open_connection() -> None:
    world = CourseWorld(2, options=CourseOptions(reply_timeout_ms=50))
    world.write(0, b"a")
    world.cut = {(ZERO, ONE)}
    world.give(0, b"b")
    world.settle()
    world.wait(0)
    assert world.servers[ZERO].applied == [b"a", b"b"]


def test_takeover_commits_nothing_before_a_server_has_answered() -> None:
    world = CourseWorld(3)
    world.write(0, b"a")
    world.give(1, b"b")
    assert world.logs()[1] == [b"a"]
    assert world.servers[ONE].applied == []
    world.settle()
    assert world.servers[ONE].applied == [b"a", b"b"]


def test_logs_are_equal_when_a_primary_died_after_its_first_backup() -> None:
    for heir, other in ((1, 2), (2, 1)):
        world = CourseWorld(3)
        world.write(0, b"a")
        world.give(0, b"x")
        world.deliver()
        world.kill(0)
        world.write(heir, b"next")
        logs = world.logs()
        assert logs[heir] == logs[other]
        assert logs[heir][-1] == b"next"


# The fenced mode.


def deliver_all_but(world: FencedWorld, wanted: type, *, times: int = 300) -> list[object]:
    """Deliver everything except messages of this kind, which are returned."""
    kept: list[object] = []
    for _ in range(times):
        if not world.letters:
            break
        letter = world.letters.popleft()
        if isinstance(letter.message, wanted):
            kept.append(letter)
        else:
            world.deliver(letter)
    return kept


def test_dropped_backup_is_not_promoted() -> None:
    world = bootstrapped(3)
    world.isolate(2)
    world.run(700)
    world.write(0, b"acknowledged")
    world.crash(0)
    world.heal()
    world.promote(2, 1)
    world.run(500)
    assert world.nodes[TWO].settled[1] is not None
    assert world.primary is None


def test_no_server_is_promoted_without_a_majority() -> None:
    world = bootstrapped(5)
    for number in (0, 3, 4):
        world.crash(number)
    world.promote(1, 1)
    world.run(300)
    assert world.primary is None
    world.run(3_000)
    assert world.nodes[ONE].settled[1] is not None


def test_epoch_is_granted_once() -> None:
    world = bootstrapped(3)
    for source in (0, 1):
        fence = Fence(5, trial=False, by_operator=True, campaign=source)
        world.feed(2, Received(NodeId(source), fence))
    answers = [letter.message for letter in world.letters if isinstance(letter.message, FenceResponse)]
    assert [answer.granted for answer in answers] == [True, False]


def test_grant_waits_for_the_disk() -> None:
    world = bootstrapped(3)
    world.nodes[TWO].disk.held = True
    world.feed(2, Received(ONE, Fence(5, trial=False, by_operator=True, campaign=1)))
    assert not world.letters
    world.sync(2)
    assert [type(letter.message) for letter in world.letters] == [FenceResponse]


def test_candidate_does_not_lead_before_its_own_promise_is_on_disk() -> None:
    world = bootstrapped(3)
    world.nodes[ONE].disk.held = True
    world.promote(1, 1)
    world.settle()
    assert world.core(1).state.role is Role.CANDIDATE
    fence = [letter for letter in world.letters if isinstance(letter.message, Fence)]
    assert not fence
    campaign = world.core(1).campaign
    record = world.core(1).state.record
    assert record is not None
    for node in (ZERO, TWO):
        world.feed(
            1,
            Received(
                node,
                FenceResponse(
                    2,
                    world.nodes[node].incarnation,
                    campaign._asked,
                    trial=False,
                    granted=True,
                    campaign=campaign._number,
                    record=record,
                ),
            ),
        )
    assert world.core(1).state.role is Role.CANDIDATE
    world.sync(1)
    assert world.core(1).state.role is Role.PRIMARY


def test_primary_that_granted_another_epoch_is_none() -> None:
    world = bootstrapped(3)
    world.feed(0, Received(ONE, Fence(5, trial=False, by_operator=True, campaign=1)))
    assert world.core(0).state.role is Role.BACKUP
    assert not world.core(0).accepting


def test_failed_candidate_follows_the_primary_that_the_majority_chose() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.blocked = lambda letter: isinstance(letter.message, Fence) and not letter.message.trial
    world.promote(2, 1)
    world.settle()
    assert (world.core(2).state.epoch, world.core(2).state.candidate) == (2, 2)
    world.isolate(2)
    world.promote(1, 1)
    world.run(300)
    assert world.core(1).state.epoch == 2
    world.heal()
    world.run(4_000)
    assert world.core(2).state.leader == world.primary
    assert world.nodes[TWO].commands == [b"a"]


def test_first_primary_leads_when_the_bootstrap_is_on_disk() -> None:
    world = FencedWorld(3)
    world.nodes[ZERO].disk.held = True
    world.settle()
    assert world.core(0).state.bootstrapped
    assert world.core(0).state.role is Role.BACKUP
    world.sync(0)
    world.nodes[ZERO].disk.held = False
    world.settle()
    assert world.primary == 0


def test_nothing_is_committed_before_the_first_record_is_in_force() -> None:
    world = bootstrapped(3)
    world.promote(1, 1)
    world.blocked = lambda letter: isinstance(letter.message, AppendResponse) and bool(letter.message.version)
    world.settle()
    assert world.primary == 1
    state = world.core(1).state
    assert state.committed < world.core(1).replication.synchronous_set.floor
    world.heal()
    world.run(300)
    assert state.committed >= world.core(1).replication.synchronous_set.floor


def test_commit_needs_a_member_that_is_only_proposed() -> None:
    world = bootstrapped(3)
    world.isolate(2)
    world.run(700)
    world.heal()
    world.blocked = lambda letter: isinstance(letter.message, AppendResponse) and bool(letter.message.version)
    world.run(250)
    synchronous_set = world.core(0).replication.synchronous_set
    assert synchronous_set.latest is not None
    assert synchronous_set.latest.members == (0, 1, 2)
    assert synchronous_set.in_force is not synchronous_set.latest
    assert synchronous_set.required == {0, 1, 2}


def test_silent_member_is_required_until_the_record_without_it_is_in_force() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.blocked = lambda letter: (
        letter.source == 2 or (isinstance(letter.message, AppendResponse) and letter.message.version > 1)
    )
    world.propose(0, b"b")
    world.run(600)
    synchronous_set = world.core(0).replication.synchronous_set
    assert synchronous_set.latest is not None
    assert synchronous_set.latest.members == (0, 1)
    assert synchronous_set.required == {0, 1, 2}
    assert world.nodes[ZERO].commands == [b"a"]


def test_backup_is_not_synchronous_before_it_has_everything() -> None:
    world = bootstrapped(3)
    world.isolate(2)
    world.run(700)
    world.write(0, b"a", b"b")
    world.blocked = lambda letter: letter.to == 2 and bool(getattr(letter.message, "entries", ()))
    world.run(300)
    latest = world.core(0).replication.synchronous_set.latest
    assert latest is not None
    assert latest.members == (0, 1)


def test_node_with_a_new_disk_is_told_last() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.wipe(2)
    world.run(700)
    world.start(2)
    world.blocked = lambda letter: letter.to == 1 and getattr(letter.message, "record", None) is not None
    world.run(300)
    latest = world.core(0).replication.synchronous_set.latest
    assert latest is not None
    assert latest.lists(TWO, world.nodes[TWO].incarnation), "the record with its new incarnation is proposed"
    assert not world.core(2).state.counts, "and a majority of the others does not have it yet"
    world.heal()
    world.run(300)
    assert world.core(2).state.counts


def test_record_and_promise_survive_compaction() -> None:
    world = bootstrapped(3, options=PrimaryBackupOptions(log_bytes_max=400))
    for number in range(60):
        world.write(0, b"command %d" % number)
    assert world.core(1).state.log.base_seqno > 0
    record, epoch = world.core(1).state.record, world.core(1).state.epoch
    world.crash(1)
    world.start(1)
    assert (world.core(1).state.record, world.core(1).state.epoch) == (record, epoch)


def test_record_is_acknowledged_when_it_is_on_disk() -> None:
    world = bootstrapped(3)
    world.nodes[ONE].disk.held = True
    record = world.core(0).state.record
    assert record is not None
    later = type(record)(1, record.version + 1, record.primary, (ZERO, ONE), record.roster)
    message = AppendEntries(
        epoch=1,
        to=world.nodes[ONE].incarnation,
        previous_view=0,
        previous_seqno=0,
        entries=[],
        committed=0,
        round=0,
        attempt=0,
        record=later,
    )
    world.feed(1, Received(ZERO, message))
    versions = [letter.message.version for letter in world.letters]
    assert versions == [0]
    world.letters.clear()
    world.sync(1)
    assert [letter.message.version for letter in world.letters] == [later.version]


def test_primary_counts_its_own_entry_when_it_is_on_disk() -> None:
    world = bootstrapped(3)
    world.nodes[ZERO].disk.held = True
    world.propose(0, b"a")
    world.settle()
    assert world.nodes[ZERO].commands == []
    world.sync(0)
    assert world.nodes[ZERO].commands == [b"a"]


def test_backup_commits_no_further_than_the_logs_agree() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.blocked = lambda letter: letter.to != 2
    world.propose(0, b"never acknowledged")
    world.settle()
    world.heal()
    state = world.core(2).state
    assert state.log.last_seqno == 3
    own = encode_record(EntryRecord(1, 1, EMPTY, b""))
    message = AppendEntries(
        epoch=4,
        to=world.nodes[TWO].incarnation,
        previous_view=0,
        previous_seqno=0,
        entries=[own],
        committed=3,
        round=0,
        attempt=0,
        record=None,
    )
    before = state.committed
    world.feed(2, Received(ONE, message))
    assert state.committed == before


def test_read_waits_for_a_round_that_began_after_it() -> None:
    world = bootstrapped(3)
    world.query(0, 1)
    answers = deliver_all_but(world, AppendResponse)
    world.query(0, 2)
    for letter in answers:
        world.deliver(letter)  # type: ignore[arg-type]
    assert world.nodes[ZERO].answered == [1]
    world.settle()
    assert world.nodes[ZERO].answered == [1, 2]


def test_read_waits_for_the_first_commit_of_the_epoch() -> None:
    world = bootstrapped(5)
    world.write(0, b"a")
    world.blocked = lambda letter: letter.source == 0 and getattr(letter.message, "version", 0) > 0
    world.promote(1, 1)
    world.settle()
    latest = world.core(1).replication.synchronous_set.latest
    assert latest is not None
    assert 0 in latest.members, "it is waited for"
    world.query(1, 1)
    world.settle()
    assert world.core(1).replication.has_confirmed(0)
    assert world.nodes[ONE].answered == []
    world.heal()
    world.run(300)
    assert world.nodes[ONE].answered == [1]


def test_cluster_is_not_bootstrapped_before_all_have_heard_the_same_incarnations() -> None:
    world = FencedWorld(3)
    for letter in list(world.letters):
        if letter.to == 0:
            world.deliver(letter)
    assert world.core(0).bootstrap.missing() == []
    assert not world.core(0).state.bootstrapped, "the others have not said which members they heard"
    world.settle()
    assert world.core(0).state.bootstrapped


def test_connection_that_breaks_is_only_a_hint_to_a_fenced_primary() -> None:
    world = bootstrapped(3)
    world.feed(0, PeerDown(ONE))
    world.feed(0, PeerDown(TWO))
    world.write(0, b"a")
    world.run(200)
    assert world.nodes[ZERO].commands == [b"a"]
