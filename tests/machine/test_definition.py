"""Reading a machine's class: what can be called, with what, and which classes cannot be replicated."""

import functools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replica.fakes import Counter, call
from viewstamp.core.errors import ConfigurationError, InvalidCall
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.runner import positional
from viewstamp.machine.state_machine import StateMachine, command, compose, query


class Point(msgspec.Struct, frozen=True):
    x: int
    y: int


class Typed(StateMachine):
    points: list[Point] = []  # noqa: RUF012  copied for each instance

    @command
    def place(self, point: Point, *, label: str, weight: float = 1.0) -> str:
        self.points.append(point)
        return f"{label}:{weight}"

    @command
    def none(self) -> None:
        self.points.clear()

    @command
    def extend(self, more: list[int] = [1, 2]) -> list[int]:  # noqa: B006  what a user may well write
        more.append(3)
        return more

    @query
    def where(self) -> list[Point]:
        return self.points


DEFINITION = MachineDefinition.of(Typed)


def _run(payload: bytes, machine: Typed | None = None) -> Any:
    arguments = DEFINITION.decode("command", payload)
    method = DEFINITION.methods[type(arguments).__struct_config__.tag]
    return positional(method)(machine or Typed(), *msgspec.structs.astuple(arguments))


def test_a_definition_is_made_once_when_it_is_asked_for_twice() -> None:
    assert MachineDefinition.of(Typed) is DEFINITION


def test_keyword_arguments_become_positional_and_defaults_are_left_out_when_a_call_is_encoded() -> None:
    payload = DEFINITION.methods["place"].encode_call((Point(1, 2),), {"label": "a"})
    assert msgspec.msgpack.decode(payload) == ["place", {"x": 1, "y": 2}, "a"]
    assert _run(payload) == "a:1.0"


def test_a_call_is_refused_by_the_caller_when_its_arguments_do_not_fit() -> None:
    with pytest.raises(TypeError, match="label"):
        DEFINITION.methods["place"].encode_call((Point(1, 2),), {})


def test_omitted_defaults_are_filled_when_a_foreign_client_left_them_out() -> None:
    assert _run(call("place", {"x": 1, "y": 2}, "a")) == "a:1.0"


def test_a_mutable_default_argument_is_fresh_when_the_command_changes_it() -> None:
    assert _run(call("extend")) == [1, 2, 3]
    assert _run(call("extend")) == [1, 2, 3]


def test_the_last_value_counts_everywhere_when_a_key_comes_twice() -> None:
    twice = b"\x93\xa5place\x83\xa1x\x01\xa1y\x02\xa1x\x07\xa1a"
    machine = Typed()
    assert _run(twice, machine) == "a:1.0"
    assert machine.points == [Point(7, 2)]


def test_results_are_typed_when_they_are_decoded() -> None:
    assert DEFINITION.methods["where"].decode_result(msgspec.msgpack.encode([Point(1, 2)])) == [Point(1, 2)]


def test_methods_of_parts_have_dotted_names_when_machines_are_composed() -> None:
    inner = compose(c=Counter)
    definition = MachineDefinition.of(compose(a=Counter, deep=inner))
    assert set(definition.methods) >= {"a.add", "a.read", "deep.c.add"}


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (call("nothing"), "no command is called 'nothing'; there are: extend, none, place"),
        (call("where"), "where is a query, not a command"),
        (call("place"), "place: "),
        (call("place", {"x": 1}, "a"), "place: "),
        (call("place", {"x": True, "y": 2}, "a"), "Expected `int`, got `bool`"),
        (call("place", {"x": 2**70 // 2**10, "y": "2"}, "a"), "place: "),
        (call("none", 1), "at most length 0"),
        (call("place", {"x": 1, "y": 2}, b"a"), "Expected `str`, got `bytes`"),
        (call("place", {"x": 1.0, "y": 2}, "a", "nan"), "place: "),
        (call("place", {"x": 1, "y": 2}, "a", 1.0, 5), "at most length 3"),
        (call(""), "no command is called ''"),
        (b"", "not a call"),
        (b"\xc0", "not a call"),
        (b"\x90", "no command is called ''"),
        (b"\x91\x05", "no command is called ''"),
        (b"\x91\xa2\xff\xfe", "not a call"),
        (b"\x91" * 100_000 + b"\x05", "not a call"),
        (b"\xdd\xff\xff\xff\xff", "not a call"),
        (call("none") + b"\x00", "not a call"),
    ],
)
def test_a_call_is_invalid_in_one_line_when_it_does_not_fit_the_class(payload: bytes, complaint: str) -> None:
    with pytest.raises(InvalidCall) as caught:
        DEFINITION.decode("command", payload)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=80))
def test_decoding_raises_nothing_but_invalid_call_when_bytes_are_arbitrary(payload: bytes) -> None:
    for kind in ("command", "query"):
        try:
            DEFINITION.decode(kind, payload)
        except InvalidCall:
            continue


def _bad_star() -> type[StateMachine]:
    class Bad(StateMachine):
        @command
        def run(self, *numbers: int) -> int:
            return len(numbers)

    return Bad


def _bad_untyped() -> type[StateMachine]:
    class Bad(StateMachine):
        @command
        def run(self, number) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
            return int(number)

    return Bad


def _bad_result() -> type[StateMachine]:
    class Bad(StateMachine):
        @command
        def run(self):  # type: ignore[no-untyped-def]  # noqa: ANN202
            return 1

    return Bad


def _bad_type() -> type[StateMachine]:
    class Bad(StateMachine):
        @command
        def run(self, when: Counter) -> int:
            return 1

    return Bad


def _bad_async() -> type[StateMachine]:
    class Bad(StateMachine):
        @command
        async def run(self) -> int:
            return 1

    return Bad


def _bad_name() -> type[StateMachine]:
    class Bad(StateMachine):
        @command
        def snapshot(self) -> bytes:
            return b""

    return Bad


def _bad_private() -> type[StateMachine]:
    class Bad(StateMachine):
        @command
        def _run(self) -> int:
            return 1

    return Bad


def _bad_attribute() -> type[StateMachine]:
    class Bad(StateMachine):
        def __init__(self) -> None:
            self.forgotten: dict[str, int] = {}

        @command
        def run(self) -> int:
            return 1

    return Bad


def _bad_default() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int

        @command
        def run(self) -> int:
            return 1

    return Bad


def _bad_constructor() -> type[StateMachine]:
    class Bad(StateMachine):
        size: int

        def __init__(self, size: int) -> None:
            self.size = size

        @command
        def run(self) -> int:
            return 1

    return Bad


def _bad_half() -> type[StateMachine]:
    class Bad(StateMachine):
        @command
        def run(self) -> int:
            return 1

        def snapshot(self) -> bytes:
            return b""

    return Bad


def _bad_state() -> type[StateMachine]:
    class Bad(StateMachine):
        thing: object = functools.partial(int)

        @command
        def run(self) -> int:
            return 1

    return Bad


def _bad_union() -> type[StateMachine]:
    class Bad(StateMachine):
        @command
        def run(self, either: Point | Typed2) -> int:
            return 1

    return Bad


class Typed2(msgspec.Struct, frozen=True):
    z: int


def _bad_static() -> type[StateMachine]:
    class Bad(StateMachine):
        run = command(functools.partial(int))

    return Bad


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (_bad_star, "name each argument"),
        (_bad_untyped, "say the type of 'number'"),
        (_bad_result, "say what it returns"),
        (_bad_type, "type that cannot be sent: Counter"),
        (_bad_async, "no async"),
        (_bad_name, "this name cannot be a command"),
        (_bad_private, "this name cannot be a command"),
        (_bad_attribute, "Bad.forgotten would be missing from snapshots"),
        (_bad_default, "Bad.value: give it a default"),
        (_bad_constructor, "cannot be made without arguments"),
        (_bad_half, "override snapshot and restore together"),
        (_bad_state, "Bad.thing has a type that cannot be sent: object"),
        (_bad_union, "cannot be sent"),
        (_bad_static, "goes on an ordinary method"),
        (lambda: StateMachine, "no method marked"),
        (lambda: int, "not a class derived"),
    ],
)
def test_a_class_is_refused_in_one_line_when_it_cannot_be_replicated(
    make: Callable[[], type[StateMachine]], complaint: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        MachineDefinition.of(make())
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
