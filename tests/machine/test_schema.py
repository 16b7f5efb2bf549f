"""The schema of a machine's snapshots: what it names, and which changes of a class are compatible."""

import msgspec
import pytest

import viewstamp
from viewstamp.machine.schema import incompatible, schema_of
from viewstamp.machine.state_machine import StateMachine, command


class Point(msgspec.Struct):
    x: int
    near: list["Point"] = []


class Board(StateMachine):
    points: dict[str, Point] = {}  # noqa: RUF012  copied for each instance
    best: int | None = None

    @command
    def add(self) -> None:
        self.best = 1


class Own(StateMachine):
    @command
    def add(self) -> None:
        """Do nothing."""

    def snapshot(self) -> bytes:
        return b""

    def restore(self, snapshot: bytes) -> None:
        """Do nothing."""


SCHEMA = {
    "points": "dict[str, struct Point]",
    "struct Point": "map None",
    "struct Point[x]": "int (required)",
    "struct Point[near]": "list[struct Point]",
    "best": "int | none",
}


def test_it_names_attributes_and_the_fields_of_structs_once() -> None:
    assert schema_of(Board) == SCHEMA


def test_a_class_with_its_own_snapshot_has_nothing_to_compare() -> None:
    assert schema_of(Own) == {"()": "its own snapshot"}


def test_the_parts_of_a_composed_machine_are_named() -> None:
    schema = schema_of(viewstamp.compose(one=Board, two=Own))
    assert schema["one.best"] == "int | none"
    assert schema["two.()"] == "its own snapshot"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ""),
        ({"new": "int"}, ""),
        ({"struct Point[y]": "int"}, ""),
        ({"struct Other": "map None", "struct Other[y]": "int (required)"}, ""),
        ({"struct Point[x]": "int"}, ""),
        ({"best": "int"}, "best was int | none and is int"),
        ({"best": None}, "best (int | none) is missing"),
        ({"struct Point": "array None"}, "struct Point was map None and is array None"),
        ({"struct Point[y]": "int (required)"}, "struct Point[y] is new and has no default"),
    ],
)
def test_a_change_is_compatible_when_old_snapshots_can_be_read(
    change: dict[str, str | None], expected: str
) -> None:
    merged = {**SCHEMA, **change}
    now = {name: kind for name, kind in merged.items() if kind is not None}
    assert incompatible(SCHEMA, now) == expected
