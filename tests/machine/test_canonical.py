"""Sets, wherever they stand, make the same bytes in processes that hash otherwise."""

import subprocess
import sys
from enum import Enum
from typing import Any

import msgspec
import pytest

from viewstamp.machine.canonical import encoder_of, sorted_bytes, sorting_encoder_of
from viewstamp.machine.default_snapshot import encode_state
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_digest import digest_of_pieces, digest_pieces
from viewstamp.machine.state_machine import StateMachine, annotated_state, command

NAMES = [f"name{number}" for number in range(9)]


class Shape(Enum):
    ROUND = "round"
    FLAT = "flat"
    LONG = "long"


class Group(msgspec.Struct):
    names: set[str] = set()


class Pair(msgspec.Struct, frozen=True):
    name: str
    inner: frozenset[str] = frozenset()


class Shelves(StateMachine):
    groups: dict[int, Group] = {}  # noqa: RUF012  copied for each instance
    by_set: dict[frozenset[str], int] = {}  # noqa: RUF012
    sets: set[frozenset[str]] = set()  # noqa: RUF012
    tuples: set[tuple[int, frozenset[str]]] = set()  # noqa: RUF012
    mixed: set[int | str] = set()  # noqa: RUF012
    pairs: set[Pair] = set()  # noqa: RUF012
    shapes: set[Shape] = set()  # noqa: RUF012

    @command
    def put(
        self,
        groups: dict[int, Group],
        sets: set[frozenset[str]],
        mixed: set[int | str],
        pairs: dict[frozenset[str], Pair] = {},  # noqa: B006  never changed
        numbers: dict[int, int] = {1: 2},  # noqa: B006
    ) -> dict[int, Group]:
        self.groups, self.sets, self.mixed = groups, sets, mixed
        self.pairs = set(pairs.values())
        return self.groups

    @command
    def fill(self) -> dict[int, Group]:
        fill(self)
        return self.groups


def fill(machine: Shelves) -> None:
    machine.groups = {3: Group(set(NAMES)), 1: Group(set(NAMES[:2]))}
    machine.by_set = {frozenset(NAMES): 1}
    machine.sets = {frozenset(NAMES[place : place + 2]) for place in range(7)}
    machine.tuples = {(1, frozenset(NAMES[place : place + 2])) for place in range(7)}
    machine.mixed = {*NAMES, *range(5)}
    machine.pairs = {Pair(name, frozenset(NAMES)) for name in NAMES}
    machine.shapes = set(Shape)


def said() -> str:
    """Return all that has to be equal in all processes."""
    machine = Shelves()
    fill(machine)
    state = encode_state(machine, annotated_state(Shelves))
    again = Shelves()
    again.restore(state)
    assert {name: getattr(again, name) for name in annotated_state(Shelves)} == vars(machine)
    method = MachineDefinition.of(Shelves).methods["put"]
    values = (
        machine.groups,
        machine.sets,
        machine.mixed,
        {frozenset(NAMES): Pair("a", frozenset(NAMES))},
        {2: 1},
    )
    arguments = method.arguments(*values)
    anything: Any = [machine.sets, {1: machine.tuples}]
    parts = [
        state,
        method.encode_arguments(arguments),
        method.encode_result(machine.groups),
        sorted_bytes(arguments),
        sorting_encoder_of(Any).encode(anything),
    ]
    return f"{digest_of_pieces(digest_pieces(machine))} {' '.join(part.hex() for part in parts)}"


def test_bytes_are_equal_in_processes_that_hash_otherwise() -> None:
    answers = {
        subprocess.run(
            [sys.executable, "-c", "from tests.machine.test_canonical import said; print(said())"],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (dict[str, set[str]], {"b": {"x", "y"}, "a": set()}),
        (set[tuple[int, str]], {(1, "b"), (1, "a")}),
        (dict[int, set[int]], {}),
        (Any, {"b": 1, "a": [{3, 1}]}),
    ],
)
def test_digests_of_what_msgspec_orders_are_what_they_were(hint: Any, value: Any) -> None:
    assert sorting_encoder_of(hint).encode(value) == msgspec.msgpack.encode(value, order="deterministic")


def test_a_snapshot_keeps_the_order_of_a_dict() -> None:
    value = {2: {"a"}, 1: {"b"}}
    assert list(msgspec.msgpack.decode(encoder_of(dict[int, set[str]]).encode(value), strict=False)) == [2, 1]


def test_a_digest_does_not_depend_on_it_where_sets_are_near() -> None:
    encode = sorting_encoder_of(dict[int, set[str]]).encode
    assert encode({2: {"a"}, 1: {"b"}}) == encode({1: {"b"}, 2: {"a"}})


def test_an_argument_at_its_default_is_left_out_whatever_its_keys() -> None:
    put = MachineDefinition.of(Shelves).methods["put"]
    call = put.encode_call(({}, set(), set(), {}, {1: 2}), {})
    assert msgspec.msgpack.decode(call) == ["put", {}, [], []]
    longer = put.encode_call(({}, set(), set(), {}, {1: 3}), {})
    assert msgspec.msgpack.decode(longer, strict=False) == ["put", {}, [], [], {}, {1: 3}]
