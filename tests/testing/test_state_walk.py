"""What the state of a machine is made of."""

import pytest

from viewstamp.machine.rules import HOST, IDENTITY, Rule
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.testing.state_walk import holds_set, parts_of, shared_objects, state_of, telltale


class Rows(StateMachine):
    """Two lists, and sets inside of tuples."""

    first: list[int] = []  # noqa: RUF012  StateMachine copies the default for each instance
    second: list[int] = []  # noqa: RUF012
    pairs: tuple[frozenset[int], ...] = ()

    @command
    def add(self, number: int) -> int:
        self.first.append(number)
        return number


def test_shared_list_is_named_by_both_paths() -> None:
    machine = Rows()
    assert shared_objects(machine) == ""
    machine.second = machine.first
    assert shared_objects(machine) == "self.first and self.second"


def test_frozen_set_is_a_set_and_may_be_shared() -> None:
    machine = Rows()
    assert not holds_set(machine)
    one = frozenset((1, 2))
    machine.pairs = (one, one)
    assert holds_set(machine)
    assert shared_objects(machine) == ""


def test_state_is_the_attributes_of_the_user() -> None:
    machine = Rows()
    assert parts_of(machine) == [machine]
    assert set(state_of(machine)) <= {"first", "second", "pairs"}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b"<object object at 0x7f32edb07710>", IDENTITY),
        (b"Traceback (most recent call last):\n", HOST),
        (b"look at 0x10", None),
    ],
)
def test_text_that_each_process_writes_in_another_way_is_seen(text: bytes, rule: Rule | None) -> None:
    found = telltale(text)
    assert (found[0] if found else None) == rule
