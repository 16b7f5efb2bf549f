"""What of a class has no text of its own."""

import ast
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import msgspec
import pytest

from viewstamp.machine.class_traits import configuration, finds_methods, given_by_place, traits


class Base(msgspec.Struct):
    name: str = ""

    def told(self) -> str:
        return self.name


class Told(Base):
    size: int = 0

    def told(self) -> str:
        return f"{self.name} {self.size}"

    def __len__(self) -> int:
        return self.size

    def more(self) -> int:
        return 1


class Colour(Enum):
    RED = 1
    BLUE = 2


class Place(NamedTuple):
    x: int = 0
    y: int = 0


@dataclass(order=True)
class Ranked:
    rank: int = 0
    name: str = field(default="", kw_only=True)


def own(_: str, value: Any) -> bool:
    return callable(value) and hasattr(value, "__code__")


def test_methods_that_are_called_without_being_named() -> None:
    assert dict(traits(Told, own))[" methods"] == "__len__ told"
    assert dict(traits(Base, own))[" methods"] == ""


@pytest.mark.parametrize(
    ("cls", "places"),
    [
        (Colour, {".RED place": "", ".BLUE place": "RED"}),
        (Place, {"[x] place": "", "[y] place": "x"}),
        (Ranked, {"[rank] place": "", "[name] place": "rank"}),
        (Base, {}),
    ],
)
def test_places_count_where_members_are_iterated_or_compared(cls: type, places: dict[str, str]) -> None:
    found = dict(traits(cls, lambda *_: False))
    del found[" methods"]
    assert found == places


def test_a_decorator_is_part_of_the_class() -> None:
    @dataclass(frozen=True, order=True)
    class Frozen:
        rank: int = 0

    assert configuration(Frozen) != configuration(Ranked)


def places_in(source: str) -> dict[type[Any], str]:
    def resolve(node: ast.expr) -> tuple[Any] | None:
        named = {"Told": Told, "Ranked": Ranked, "len": len}
        return (named[node.id],) if isinstance(node, ast.Name) and node.id in named else None

    return dict(given_by_place(ast.parse(source), resolve))


def test_values_are_given_by_place_in_calls_and_patterns() -> None:
    assert places_in("Told('a'); Told('b', 2)") == {Told: "name size"}
    assert places_in("Told(*many)") == {Told: "name size"}
    assert places_in("Ranked(1)") == {Ranked: "rank"}
    assert places_in("match x:\n case Told(a): pass") == {Told: "name"}
    assert places_in("Told(name='a'); Told(); len(x)") == {}


def test_methods_are_found_by_a_text_that_is_made() -> None:
    assert finds_methods(ast.parse("getattr(self, f'_{name}')"), "self")
    assert not finds_methods(ast.parse("getattr(self, 'name')"), "self")
    assert not finds_methods(ast.parse("getattr(other, name)"), "self")
