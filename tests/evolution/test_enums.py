"""A member of an enum that is new and stands in the state before it is in force: nothing of it is lost."""

from enum import Enum
from typing import Any

import msgspec
import pytest

from tests.evolution.group import Group
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import RESULT
from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.replica.compatibility import judge_class
from viewstamp.replica.options import SessionLimits

MEMBERS = {"RED": "red", "BLUE": "blue"}


def shop(members: dict[str, str], *, optional: bool = False) -> type[StateMachine]:
    make: Any = Enum
    colour: Any = make("Colour", members)
    coat: Any = msgspec.defstruct("Coat", [("colour", colour), ("layers", int, 1)])

    class Shop(StateMachine):
        colours: dict[str, Any] = {}  # noqa: RUF012  their types are set below
        by_colour: dict[Any, int] = {}  # noqa: RUF012
        coats: list[Any] = []  # noqa: RUF012

        @command
        def paint(self, key: str, name: str) -> int:
            chosen = colour(name)
            self.colours[key] = chosen
            self.by_colour[chosen] = self.by_colour.get(chosen, 0) + 1
            self.coats.append(coat(chosen))
            return len(self.colours)

        @query
        def seen(self) -> list[str]:
            return [each.value for each in self.colours.values()]

    Shop.__annotations__["colours"] = dict[str, colour | None] if optional else dict[str, colour]
    Shop.__annotations__["by_colour"] = dict[colour, int]
    Shop.__annotations__["coats"] = list[coat]
    return Shop


def deployed(*, optional: bool = False) -> tuple[Group, type[StateMachine]]:
    """Return a group whose nodes all run the class with one more colour, which is not in force."""
    old = shop(MEMBERS, optional=optional)
    new = shop({**MEMBERS, "GREEN": "green"}, optional=optional)
    group = Group(old, old, old)
    assert group.call("paint", "a", "red") == (RESULT, 1)
    for node in (1, 2, 3):
        group.restart(node, new)
    assert group.call("paint", "b", "green") == (RESULT, 2)
    return group, new


def state(group: Group, node: int) -> Any:
    machine: Any = group.benches[NodeId(node)].replica.machine
    return (
        {key: each.value for key, each in machine.colours.items()},
        {each.value: count for each, count in machine.by_colour.items()},
        [each.colour.value for each in machine.coats],
    )


WHOLE = ({"a": "red", "b": "green"}, {"red": 1, "green": 1}, ["red", "green"])


@pytest.mark.parametrize("optional", [False, True])
def test_a_new_member_in_the_state_is_there_after_a_restart_when_it_is_not_in_force(optional: bool) -> None:
    group, new = deployed(optional=optional)
    taken = group.save(2)
    assert not group.benches[NodeId(2)].replica.state.runner.in_force.is_whole
    group.restart(2, new, taken)
    assert state(group, 2) == WHOLE
    assert group.save(2).body == taken.body
    group.require_equal()
    assert group.call("paint", "b", "blue") == (RESULT, 2)
    group.require_equal()


@pytest.mark.parametrize("optional", [False, True])
def test_a_new_member_in_the_state_stays_when_the_class_is_put_in_force(optional: bool) -> None:
    group, new = deployed(optional=optional)
    group.restart(3, new, group.save(1))
    assert group.finalize() is None
    assert [state(group, node) for node in (1, 2, 3)] == [WHOLE] * 3
    group.restart(2, new, group.save(1))
    assert state(group, 2) == WHOLE
    group.require_equal()


def test_nothing_is_raised_and_no_node_ends_when_the_state_cannot_be_kept_as_it_is() -> None:
    group, new = deployed()
    for node in (1, 2, 3):
        machine: Any = group.benches[NodeId(node)].replica.machine
        machine.colours["c"] = None
    with pytest.raises(TypeError, match=r"Shop\.colours cannot be saved"):
        group.save(1)
    refusal = group.finalize()
    assert "the state cannot be kept as it is: " in str(refusal)
    assert "Shop.colours cannot be saved" in str(refusal)
    assert group.call("paint", "c", "blue") == (RESULT, 3)
    group.restart(2, new, group.save(1))
    group.require_equal()


def test_check_names_a_new_member_when_it_may_stand_in_the_state() -> None:
    old = shop(MEMBERS)
    group = Group(old, old, old)
    group.call("paint", "a", "red")
    entries = [applied.entry for applied in group.log]
    new = shop({**MEMBERS, "GREEN": "green"})
    for snapshot in (None, group.save(1)):
        verdict = judge_class(new, snapshot, entries, SessionLimits())
        (note,) = verdict.notes
        assert (
            "enum Colour[GREEN] is new and may stand in the state: finalize before a command uses it" in note
        )
        assert verdict.problems == []
        assert judge_class(old, snapshot, entries, SessionLimits()).notes == []
