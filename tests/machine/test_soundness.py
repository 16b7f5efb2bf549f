"""Classes that would lose or split state are refused before they serve; right ones are not."""

import collections
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.machine.careless import CARELESS, SOUND, Good
from viewstamp.core.errors import ConfigurationError
from viewstamp.machine.default_snapshot import StateNotKept, changed
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine, command


@pytest.mark.parametrize(("make", "words"), CARELESS, ids=[make.__name__ for make, _ in CARELESS])
def test_a_careless_class_is_refused_in_one_line(make: Callable[[], type[StateMachine]], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        MachineDefinition.of(make())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("machine", SOUND)
def test_a_right_class_is_accepted(machine: type[StateMachine]) -> None:
    assert MachineDefinition.of(machine).cls is machine


class Hidden(StateMachine):
    """What reading the source cannot see: the guard and the check of the snapshot remain."""

    value: int = 0
    data: dict[str, Any] = {}  # noqa: RUF012  copied by instance

    @command
    def set_by_name(self, name: str) -> None:
        setattr(self, name, 1)

    @command
    def hide(self) -> None:
        getattr(self, "__dict__")["other"] = 1  # noqa: B009  out of the reader's sight

    @command
    def spoil(self) -> None:
        self.value = "text"  # type: ignore[assignment]


def test_an_undeclared_attribute_is_refused_when_its_name_is_computed() -> None:
    machine = Hidden()
    with pytest.raises(AttributeError, match=r"Hidden\.other is not declared"):
        setattr(machine, "other", 1)  # noqa: B010
    assert vars(machine).keys() == {"value", "data"}


def test_the_snapshot_fails_when_an_attribute_got_past_the_guard() -> None:
    machine = Hidden()
    vars(machine)["other"] = 1
    with pytest.raises(StateNotKept, match="'other' is not declared"):
        machine.snapshot()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("value", "text", "Hidden.value cannot be saved"),
        ("data", {"a": (1, 2)}, "a tuple becomes a list"),
        ("data", {"a": {1, 2}}, "a set becomes a list"),
        ("data", collections.defaultdict(int, a=1), "a defaultdict becomes a dict"),
        ("data", {"a": object()}, "Hidden.data cannot be saved"),
        ("data", {"a": [[[{1: (1,)}]]]}, "a tuple becomes a list"),
        ("value", 2**70, "Hidden.value cannot be saved"),
    ],
)
def test_the_snapshot_names_the_attribute_when_it_would_come_back_changed(
    name: str, value: object, words: str
) -> None:
    machine = Hidden()
    setattr(machine, name, value)
    with pytest.raises(StateNotKept, match=words):
        machine.snapshot()


def test_nothing_is_changed_when_a_value_is_deep_and_plain() -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep, 1, "a", b"b", None, 1.5, {"k": True}]
    assert changed(deep, msgspec.msgpack.decode(msgspec.msgpack.encode(deep))) is None


def test_a_right_class_comes_back_as_it_was() -> None:
    machine = Good()
    machine.double = 8
    machine.names["a"] = [1]
    machine.pairs.append((1, "x"))
    again = Good()
    again.restore(bytes(machine.snapshot()))  # type: ignore[arg-type]
    assert vars(again) == vars(machine)
