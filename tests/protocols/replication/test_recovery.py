import msgspec
import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.protocols.replication.recovery import Survivor, find

AT = dict[int, int]


def stamp(view: int, seqno: int) -> Viewstamp:
    return Viewstamp(View(view), Seqno(seqno))


def survivor(node: int, log: AT, committed: int, *, view: int = 9, everything: bool = False) -> Survivor:
    """One whose log has this view at each seqno."""
    last = max(log)
    return Survivor(
        node=NodeId(node),
        incarnation=Incarnation(node),
        last=stamp(log[last], last),
        committed=stamp(log[committed], committed),
        view=(view, 0),
        has_everything=everything,
        members=(),
        holds=lambda viewstamp: log.get(viewstamp.seqno) == viewstamp.view,
    )


def test_log_that_ends_last_is_taken() -> None:
    short, long = survivor(1, {1: 1, 2: 1}, 1), survivor(2, {1: 1, 2: 1, 3: 1}, 2)
    found = find([short, long])
    assert (found.taken, found.certain, found.last) == (2, 2, stamp(1, 3))
    assert not found.complete


def test_log_of_a_later_view_is_taken_although_it_is_shorter() -> None:
    assert find([survivor(1, {1: 1, 2: 1, 3: 1}, 1), survivor(2, {1: 1, 2: 2}, 1)]).taken == 2


def test_lowest_node_is_taken_when_the_logs_are_equal() -> None:
    assert find([survivor(3, {1: 1}, 1), survivor(2, {1: 1}, 1)]).taken == 2


def test_log_that_lacks_what_another_knows_to_be_committed_is_not_taken() -> None:
    """A leader of view 2 that was deposed wrote entry 2; entry 2 of view 1 was committed by a later one."""
    deposed, other = survivor(1, {1: 1, 2: 2}, 1), survivor(2, {1: 1, 2: 1}, 2)
    assert find([deposed, other]).taken == 2


def test_member_that_had_everything_is_taken_and_nothing_is_lost() -> None:
    had = survivor(1, {1: 1, 2: 1}, 1, everything=True)
    found = find([had, survivor(2, {1: 1, 2: 1, 3: 1}, 1)])
    assert found.taken == 1
    assert found.complete


def test_member_that_had_everything_in_an_older_view_says_nothing_of_the_newest() -> None:
    had = survivor(1, {1: 1, 2: 1}, 1, view=3, everything=True)
    assert not find([had, survivor(2, {1: 1}, 1, view=4)]).complete


def test_directories_that_contradict_each_other_are_refused() -> None:
    liar = msgspec.structs.replace(survivor(1, {1: 1}, 1), committed=stamp(7, 5))
    with pytest.raises(ConfigurationError, match="contradict"):
        find([liar, survivor(2, {1: 2, 2: 2}, 1)])
    with pytest.raises(ConfigurationError, match="name the data directory"):
        find([])
