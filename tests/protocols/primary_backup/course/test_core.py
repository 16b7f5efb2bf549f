"""The course's form by the assignment: positions, takeover, failures, repair (CS6650 assignment 3)."""

import pytest

from tests.protocols.primary_backup.course_world import CourseWorld
from viewstamp.core.events import (
    Directed,
    DirectiveToken,
    PeerDown,
    PeerUp,
    Proposed,
    Queried,
    ReadToken,
    TakeSnapshot,
    TransferLeadership,
)
from viewstamp.core.ids import NodeId
from viewstamp.protocols.primary_backup.course.messages import Fetch, Fetched, Greeted, Replicate, Replicated
from viewstamp.protocols.primary_backup.course.peers import Standing
from viewstamp.protocols.primary_backup.options import CourseOptions


def test_nothing_is_sent_when_no_write_has_come() -> None:
    world = CourseWorld(3)
    assert not world.letters
    assert all(world.core(node).primary_id is None and world.core(node).accepting for node in world.members)


def test_primary_is_one_commit_ahead_when_it_has_come_to_rest() -> None:
    world = CourseWorld(3)
    world.write(0, b"a", b"b", b"c")
    assert [world.positions(node) for node in range(3)] == [(3, 3), (3, 2), (3, 2)]
    assert [len(world.servers[node].applied) for node in world.members] == [3, 2, 2]
    assert [world.core(node).primary_id for node in range(3)] == [0, 0, 0]


def test_new_primary_commits_x_and_appends_behind_it_when_the_clients_switch() -> None:
    world = CourseWorld(3)
    world.write(0, b"a", b"b")
    world.write(1, b"c")
    assert [world.positions(node) for node in range(3)] == [(3, 2), (3, 3), (3, 2)]
    assert world.servers[NodeId(1)].applied == [b"a", b"b", b"c"]
    assert [world.core(node).primary_id for node in range(3)] == [1, 1, 1]
    assert not world.core(0).live


def test_entries_go_to_backups_one_after_the_other_when_all_live() -> None:
    world = CourseWorld(3)
    world.write(0, b"a")
    world.give(0, b"b")
    assert [(letter[1], type(letter[2])) for letter in world.letters] == [(1, Replicate)]
    world.deliver()
    assert [(letter[0], type(letter[2])) for letter in world.letters] == [(1, Replicated)]
    world.deliver()
    assert [(letter[1], type(letter[2])) for letter in world.letters] == [(2, Replicate)]
    assert world.positions(0) == (2, 1)


def test_request_has_the_four_fields_when_it_is_sent() -> None:
    world = CourseWorld(2)
    world.write(1, b"a", b"b")
    world.give(1, b"c")
    request = world.letters[0][2]
    assert (request.factory_id, request.committed_index, request.last_index) == (1, 2, 3)
    assert request.entry == b"c"


def test_server_alone_commits_at_once_when_it_has_no_peers() -> None:
    world = CourseWorld(1)
    world.write(0, b"a")
    assert world.positions(0) == (1, 1)


def test_writes_go_on_when_every_backup_dies() -> None:
    world = CourseWorld(3)
    world.write(0, b"a")
    world.kill(1)
    world.write(0, b"b")
    world.kill(2)
    world.write(0, b"c")
    assert world.positions(0) == (3, 3)
    assert not world.core(0).live


def test_write_under_way_is_committed_when_its_backup_dies() -> None:
    world = CourseWorld(3)
    world.write(0, b"a")
    world.give(0, b"b")
    world.kill(1)
    world.settle()
    assert world.positions(0) == (2, 2)
    assert world.positions(2) == (2, 1)


def test_backup_forgets_the_primary_when_that_dies() -> None:
    world = CourseWorld(3)
    world.write(0, b"a")
    world.kill(0)
    world.settle()
    assert world.core(1).primary_id is None
    assert world.servers[NodeId(1)].led[-1] is None


def test_primary_stays_when_a_former_one_dies() -> None:
    world = CourseWorld(3)
    world.write(0, b"a")
    world.write(1, b"b")
    world.kill(0)
    world.settle()
    assert world.core(2).primary_id == 1


def test_logs_are_equal_when_the_primary_dies_after_the_first_backup_and_that_one_takes_over() -> None:
    world = _primary_dies_after_first_backup()
    world.write(1, b"next")
    assert world.logs() == {1: [b"a", b"x", b"next"], 2: [b"a", b"x", b"next"]}
    assert world.positions(1) == (3, 3)


def test_logs_are_equal_when_the_primary_dies_after_the_first_backup_and_the_other_takes_over() -> None:
    world = _primary_dies_after_first_backup()
    world.write(2, b"next")
    assert world.logs() == {1: [b"a", b"x", b"next"], 2: [b"a", b"x", b"next"]}
    world.revive(0)
    world.write(2, b"more")
    world.write(2, b"last")
    assert set(map(tuple, world.logs().values())) == {(b"a", b"x", b"next", b"more", b"last")}


def test_entry_of_a_dead_backup_is_overwritten_when_it_comes_back_on_its_disk() -> None:
    """Hole 3: entry x reached one backup, which is dead when the other takes over."""
    world = _primary_dies_after_first_backup()
    world.kill(1)
    world.write(2, b"next")
    world.revive(1, empty=False)
    world.write(2, b"more")
    world.write(2, b"last")
    assert world.logs() == {key: [b"a", b"next", b"more", b"last"] for key in (1, 2)}


def test_newest_log_is_taken_over_when_an_empty_server_is_written_to_before_its_repair() -> None:
    world = CourseWorld(3, options=CourseOptions(catch_up_window=4))
    data = [b"%d" % number for number in range(19)]
    world.write(0, *data)
    world.kill(0)
    world.settle()
    world.revive(0)
    world.write(0, b"next")
    assert world.logs() == {key: [*data, b"next"] for key in range(3)}
    assert world.positions(0) == (20, 20)
    assert world.positions(1) == world.positions(2) == (20, 19)
    assert world.servers[NodeId(0)].applied == [*data, b"next"]


def test_newest_log_is_found_elsewhere_when_its_holder_dies_while_it_is_taken_over() -> None:
    world = CourseWorld(3, options=CourseOptions(catch_up_window=2))
    data = [b"%d" % number for number in range(9)]
    world.write(0, *data)
    world.kill(0)
    world.settle()
    world.revive(0)
    world.give(0, b"next")
    while world.core(0).last_index < 3:
        world.deliver()
    world.kill(1)
    world.settle()
    assert world.logs() == {0: [*data, b"next"], 2: [*data, b"next"]}


def test_newest_log_is_found_elsewhere_when_its_holder_falls_silent() -> None:
    world = CourseWorld(3, options=CourseOptions(reply_timeout_ms=100))
    world.write(0, b"a", b"b", b"c")
    world.kill(0)
    world.settle()
    world.revive(0)
    world.give(0, b"next")
    while not any(isinstance(message, Fetch) for _, _, message in world.letters):
        world.deliver()
    world.cut = {(NodeId(1), NodeId(0))}
    world.settle()
    assert world.positions(0) == (0, 0)
    for _ in range(2):  # for its log, and then for its answer to the greeting that follows
        world.wait(0)
        world.settle()
    assert world.logs()[0] == world.logs()[2] == [b"a", b"b", b"c", b"next"]


def test_suffix_that_nobody_committed_goes_when_a_newer_log_is_taken_over() -> None:
    world = CourseWorld(3)
    world.write(0, b"a", b"b")
    world.give(0, b"lost")
    world.letters.clear()
    world.kill(0)
    world.settle()
    world.write(1, b"c")
    world.revive(0, empty=False)
    world.write(0, b"d")
    assert world.logs() == {key: [b"a", b"b", b"c", b"d"] for key in range(3)}


def test_takeover_is_begun_again_when_the_server_did_not_know_of_later_ones() -> None:
    world = CourseWorld(3)
    for number in (1, 2, 1, 2, 1):
        world.write(number, b"%d" % number)
    world.kill(0)
    world.kill(1)
    world.settle()
    world.write(2, b"x")
    world.revive(0)
    world.write(0, b"y")
    assert world.core(0).is_primary
    assert world.logs()[0] == world.logs()[2] == [b"1", b"2", b"1", b"2", b"1", b"x", b"y"]


def test_takeover_is_given_up_when_it_is_refused_again_and_again() -> None:
    world = CourseWorld(2)
    world.write(0, b"a")
    world.give(1, b"b")
    for _ in range(10):
        world.letters.clear()
        world.letters.append((NodeId(0), NodeId(1), Replicated(world.core(1).view + 1, 0)))
        world.deliver()
    assert not world.core(1).is_primary
    assert world.core(1).accepting


def test_entry_that_was_not_asked_for_is_dropped_when_it_arrives() -> None:
    world = CourseWorld(2)
    world.write(0, b"a")
    for index in (0, 1, 2, 7):
        world.letters.append((NodeId(1), NodeId(0), Fetched(world.core(0).view, index, 9, b"no")))
        world.settle()
    assert world.logs()[0] == [b"a"]
    assert world.core(0).counters.total() == 4


def test_fetching_from_nowhere_is_not_answered_when_it_is_asked() -> None:
    world = CourseWorld(2)
    world.write(0, b"a")
    for index in (-1 << 40, 2, 1 << 40):
        world.letters.append((NodeId(0), NodeId(1), Fetch(world.core(0).view, 0, index)))
        world.deliver()
        assert not world.letters


def _primary_dies_after_first_backup() -> CourseWorld:
    world = CourseWorld(3)
    world.write(0, b"a")
    world.give(0, b"x")
    world.deliver()  # backup 1 writes it
    assert world.positions(1) == (2, 1)
    assert world.positions(2) == (1, 0)
    world.kill(0)
    world.settle()
    return world


def test_repaired_server_receives_all_entries_before_the_newest_when_it_comes_back_empty() -> None:
    world = CourseWorld(3)
    world.write(0, *(b"%d" % number for number in range(40)))
    world.kill(2)
    world.write(0, b"away")
    world.revive(2)
    world.feed(0, PeerUp(NodeId(2)))
    assert not world.core(0).accepting
    world.settle()
    assert world.core(0).accepting
    assert world.positions(2) == (41, 41)
    world.write(0, b"newest")
    assert world.positions(2) == world.positions(1) == (42, 41)


def test_write_does_not_wait_for_a_server_that_is_out_but_finds_it_when_it_is_back() -> None:
    world = CourseWorld(3)
    world.write(0, b"a")
    world.kill(2)
    world.write(0, b"b")
    world.revive(2)
    world.write(0, b"c")
    assert world.core(0).live == (1, 2)
    assert world.logs()[2] == [b"a", b"b", b"c"]
    world.write(0, b"d")
    assert world.positions(2) == (4, 3)


def test_all_backups_come_back_when_they_are_started_one_by_one() -> None:
    world = CourseWorld(4)
    world.write(3, b"a")
    for number in range(3):
        world.kill(number)
        world.write(3, b"without %d" % number)
    for number in range(3):
        world.revive(number)
        world.write(3, b"with %d" % number)
    world.write(3, b"end")
    assert world.core(3).live == (0, 1, 2)
    assert len({tuple(log) for log in world.logs().values()}) == 1


def test_server_overwrites_what_it_never_committed_when_it_comes_back_on_its_disk() -> None:
    world = CourseWorld(3)
    world.write(0, b"a", b"b")
    world.give(0, b"lost")
    world.letters.clear()
    world.kill(0)
    world.settle()
    world.write(1, b"c")
    world.revive(0, empty=False)
    assert world.logs()[0] == [b"a", b"b", b"lost"]
    world.write(1, b"d")
    world.write(1, b"e")
    assert set(map(tuple, world.logs().values())) == {(b"a", b"b", b"c", b"d", b"e")}


def test_backup_is_given_up_when_it_owes_an_answer_for_too_long() -> None:
    world = CourseWorld(2, options=CourseOptions(reply_timeout_ms=100))
    world.write(0, b"a")
    world.cut = {(NodeId(0), NodeId(1))}
    world.give(0, b"b")
    world.settle()
    assert world.positions(0) == (2, 1)
    world.wait(0)
    assert world.now == 100_000
    assert world.positions(0) == (2, 2)


def test_committed_entry_is_not_overwritten_when_a_primary_of_another_log_asks() -> None:
    world = CourseWorld(2)
    world.write(0, b"a", b"b")
    world.servers[NodeId(0)].core = None
    world.feed(1, PeerDown(NodeId(0)))
    request = Replicate(100, 0, 0, 1, 100, 0, b"other")
    world.letters.append((NodeId(0), NodeId(1), request))
    world.deliver()
    assert world.logs()[1] == [b"a", b"b"]
    assert world.core(1).counters.total() == 1


def test_entry_is_not_written_when_it_would_leave_a_gap() -> None:
    world = CourseWorld(2)
    world.letters.append((NodeId(0), NodeId(1), Replicate(2, 0, 4, 5, 2, 2, b"gap")))
    world.deliver()
    assert world.logs()[1] == []
    assert isinstance(world.letters[0][2], Greeted)


def test_a_server_is_repaired_once_when_it_answers_many_questions_at_once() -> None:
    """A server that was paused finds a question for each write since (seed 100 of the simulator)."""
    world = CourseWorld(3)
    world.write(0, b"a", b"b", b"c")
    world.kill(2)
    world.write(0, b"d")
    world.revive(2)
    world.feed(0, PeerUp(NodeId(2)))
    sent = 0
    multiplied = False
    while world.letters:
        letter = world.letters[0]
        sent += isinstance(letter[2], Replicate)
        if isinstance(letter[2], Greeted) and not multiplied:
            world.letters.extendleft([letter] * 30)
            multiplied = True
        world.deliver()
    assert multiplied
    assert world.logs()[2] == [b"a", b"b", b"c", b"d"]
    assert sent <= 2 * len(world.logs()[2])


def test_numbers_below_zero_are_dropped_when_a_request_has_them() -> None:
    world = CourseWorld(2)
    world.write(0, b"a", b"b")
    for index, committed in ((-1, 0), (-2, 0), (0, 0), (2, -1)):
        world.letters.append((NodeId(0), NodeId(1), Replicate(2, 0, committed, index, 2, 2, b"x")))
        world.settle()
    assert world.logs()[1] == [b"a", b"b"]
    assert world.positions(1) == (2, 1)


def test_committed_index_beyond_the_request_commits_no_further_when_it_arrives() -> None:
    world = CourseWorld(2)
    world.write(0, b"a", b"b")
    world.letters.append((NodeId(0), NodeId(1), Replicate(2, 0, 1 << 40, 1, 2, 0, b"a")))
    world.deliver()
    assert world.positions(1) == (2, 1)


def test_reads_are_answered_at_once_when_any_server_is_asked() -> None:
    world = CourseWorld(2)
    world.write(0, b"a")
    for number in range(2):
        world.feed(number, Queried(ReadToken(7)))
        assert world.servers[NodeId(number)].answered == [7]


def test_admin_requests_are_refused_when_they_mean_nothing_here() -> None:
    world = CourseWorld(2)
    world.feed(0, Directed(DirectiveToken(1), TransferLeadership(NodeId(1))))
    world.feed(0, Directed(DirectiveToken(2), TakeSnapshot()))
    assert all(refusal is not None for refusal in world.servers[NodeId(0)].settled)


def test_both_acknowledge_and_one_loses_when_the_network_is_cut() -> None:
    """The split brain of the course's form, shown so that it need not be believed."""
    world = CourseWorld(2)
    world.write(0, b"a")
    zero, one = NodeId(0), NodeId(1)
    world.cut = {(zero, one), (one, zero)}
    world.feed(0, PeerDown(one))
    world.feed(1, PeerDown(zero))
    world.give(0, b"left")
    world.give(1, b"right")
    world.feed(1, PeerDown(zero))
    world.settle()
    assert world.servers[zero].applied == [b"a", b"left"], "acknowledged on the left"
    assert world.servers[one].applied == [b"a", b"right"], "acknowledged on the right, in the same place"
    world.cut = set()
    world.feed(1, PeerUp(zero))
    world.settle()
    world.feed(0, PeerUp(one))
    world.settle()
    assert world.logs() == {0: [b"a", b"left"], 1: [b"a", b"right"]}, "and they never agree again"


def test_primary_steps_down_when_a_later_takeover_answers() -> None:
    world = CourseWorld(3)
    world.write(0, b"a")
    world.write(1, b"b")
    assert world.core(1).is_primary
    world.letters.append((NodeId(0), NodeId(1), Replicated(world.core(1).view + 10, 0)))
    world.deliver()
    assert not world.core(1).is_primary
    assert all(peer.standing is Standing.OUT for peer in world.core(1).peers.values())


def test_views_are_never_shared_when_servers_take_over_in_turn() -> None:
    world = CourseWorld(3)
    seen: dict[int, int] = {}
    for turn in range(9):
        number = (turn * 2) % 3
        world.write(number, b"%d" % turn)
        view = int(world.core(number).view)
        assert seen.setdefault(view, number) == number
    assert sorted(seen) == list(seen)


def test_proposal_is_refused_by_assertion_when_an_entry_is_under_way() -> None:
    world = CourseWorld(2)
    world.give(0, b"a")
    assert not world.core(0).accepting
    with pytest.raises(AssertionError, match="not accepting"):
        world.core(0).step(Proposed(b"b"), world.now)
