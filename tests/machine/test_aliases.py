"""What counts as one object in two places."""

from typing import Any

import msgspec
import pytest

from viewstamp.machine.aliases import shared_object
from viewstamp.machine.state_machine import StateMachine, command, compose


class Fixed(msgspec.Struct, frozen=True):
    name: str = ""
    inner: Any = None


class Open(msgspec.Struct):
    name: str = ""


class Two(StateMachine):
    one: Any = None
    two: Any = None

    @command
    def share(self) -> None:
        self.two = self.one


FIXED: tuple[Any, ...] = ((), (1, "a"), "text", frozenset({1}), Fixed("a"), (Fixed("b"),))
CHANGEABLE: tuple[Any, ...] = (
    [], {}, set(), Open(), ([],), Fixed("a", []), (Fixed("a", Open()),), bytearray(),
)  # fmt: skip


@pytest.mark.parametrize("value", FIXED, ids=repr)
def test_what_cannot_change_may_stand_in_two_places(value: Any) -> None:
    machine = Two()
    machine.one, machine.two = value, [value, value]
    assert shared_object(machine) == ""


@pytest.mark.parametrize("value", CHANGEABLE, ids=repr)
def test_what_can_change_may_not(value: Any) -> None:
    machine = Two()
    machine.one, machine.two = {1: value}, (value,)
    assert shared_object(machine).startswith("self.one and self.two hold one ")
    machine.one, machine.two = None, [value, value]
    assert shared_object(machine).startswith("self.two holds twice one ")
    machine.two = [value]
    assert shared_object(machine) == ""


def test_equal_objects_are_not_one() -> None:
    machine = Two()
    machine.one, machine.two = [[1], [1]], {"a": [1]}
    assert shared_object(machine) == ""


def test_a_cycle_is_one_object_twice() -> None:
    machine = Two()
    machine.one = []
    machine.one.append(machine.one)
    assert shared_object(machine) == "self.one holds twice one list"


def test_a_part_of_a_composed_class_is_named() -> None:
    machine = compose(left=Two, right=Two)()
    part = vars(machine)["machines"]["right"]
    part.one = part.two = []
    assert shared_object(machine) == "self.one and self.two hold one list in the part right"
