import pytest

from viewstamp.protocols.viewstamped.state import Point
from viewstamp_labs.lab6824.breakpoints import BREAKPOINTS, Breakpoints

POINTS = {
    1: {Point.FIRST_BACKUP_HAS_IT, Point.BACKUP_HAS_IT},
    2: {Point.VIEW_ENTERED},
    3: {Point.PREPARED},
    4: {Point.CHOSEN},
}


class Died(Exception):
    """Stands for the end of the process."""


def end(number: int) -> None:
    raise Died(number)


def made() -> tuple[Breakpoints, list[bool]]:
    silences: list[bool] = []
    return Breakpoints(silences.append, end), silences


@pytest.mark.parametrize("number", BREAKPOINTS)
def test_node_dies_where_the_breakpoint_is_and_nowhere_else_when_it_is_armed(number: int) -> None:
    breakpoints, _ = made()
    assert breakpoints.break_at(number)
    assert {point for point in Point if breakpoints.armed(point)} == POINTS[number]
    for point in POINTS[number]:
        with pytest.raises(Died, match=str(number)):
            breakpoints.reached(point)


@pytest.mark.parametrize("number", [0, 5, 99])
def test_nothing_is_armed_when_there_is_no_such_breakpoint(number: int) -> None:
    breakpoints, _ = made()
    assert not breakpoints.break_at(number)
    assert not any(breakpoints.armed(point) for point in Point)


def test_cables_are_pulled_once_where_breakpoint_1_is_when_a_partition_is_armed() -> None:
    breakpoints, silences = made()
    breakpoints.partition()
    assert {point for point in Point if breakpoints.armed(point)} == {Point.FIRST_BACKUP_HAS_IT}
    assert silences == []
    breakpoints.reached(Point.FIRST_BACKUP_HAS_IT)
    assert silences == [True]
    assert not any(breakpoints.armed(point) for point in Point)


def test_cables_are_plugged_in_and_nothing_is_armed_when_the_partition_heals() -> None:
    breakpoints, silences = made()
    breakpoints.partition()
    breakpoints.heal()
    assert silences == [False]
    assert not any(breakpoints.armed(point) for point in Point)


def test_node_dies_rather_than_being_cut_off_when_both_are_armed() -> None:
    breakpoints, silences = made()
    breakpoints.partition()
    breakpoints.break_at(1)
    with pytest.raises(Died):
        breakpoints.reached(Point.FIRST_BACKUP_HAS_IT)
    assert silences == []
