"""A field of a struct in an argument that a server's class does not know is refused, not lost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from tests.evolution.group import Group
from viewstamp.core.errors import InvalidCall
from viewstamp.core.messages import INVALID, RESULT
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine, command, query


def shop(*, newer: bool) -> type[StateMachine]:
    """Return a class, or the newer one whose structs have one field more."""
    more = [("gift", bool, False)] if newer else []
    size: list[Any] = [("size", dict[int, int], msgspec.field(default_factory=dict))] if newer else []
    Line = msgspec.defstruct("Line", [("item", str), ("count", int, 1), *more])  # noqa: N806  a class
    Pair = msgspec.defstruct("Pair", [("left", int, 0), *more], array_like=True, tag="pair")  # noqa: N806
    Cat = msgspec.defstruct("Cat", [("name", str), *size], tag="cat")  # noqa: N806
    Dog = msgspec.defstruct("Dog", [("name", str)], tag="dog")  # noqa: N806

    @dataclass
    class Old:
        name: str = ""

    @dataclass
    class New:
        name: str = ""
        gift: bool = False

    class Shop(StateMachine):
        seen: list[int] = []  # noqa: RUF012  copied for each instance
        structs = staticmethod(lambda: (Line, Pair, Cat, New if newer else Old))

        def _count(self, number: int) -> int:
            self.seen.append(number)
            return len(self.seen)

    def add(kind: Any, name: str, mark: Any) -> None:
        def method(self, value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return self._count(1) if mark is command else 0

        method.__name__ = name
        method.__annotations__ = {"value": kind, "return": int}
        setattr(Shop, name, mark(method))

    for name, kind in {
        "order": Line,
        "lines": list[Line],  # type: ignore[valid-type]
        "by_name": dict[str, tuple[int, Line]],  # type: ignore[valid-type]
        "pair": Pair,
        "animal": Cat | Dog | None,
        "either": Line | list[Pair],  # type: ignore[valid-type]
        "plain": New if newer else Old,
    }.items():
        add(kind, name, command)
        add(kind, f"ask_{name}", query)
    return Shop


OLD, NEW = shop(newer=False), shop(newer=True)
LINE, PAIR, CAT, PLAIN = NEW.structs()  # type: ignore[attr-defined]
CALLS: Mapping[str, tuple[Any, Any, str]] = {
    "order": (LINE("tea"), LINE("tea", gift=True), "Line.gift"),
    "lines": ([LINE("tea"), LINE("jam", 3)], [LINE("tea"), LINE("jam", gift=True)], "Line.gift"),
    "by_name": ({"a": (1, LINE("tea"))}, {"a": (1, LINE("tea", gift=True))}, "Line.gift"),
    "pair": (PAIR(), PAIR(1, True), "Pair[1]"),
    "animal": (CAT("tom"), CAT("tom", {1: 2}), "Cat.size"),
    "either": ([PAIR(5)], [PAIR(5), PAIR(1, True)], "Pair[1]"),
    "plain": (PLAIN("a"), PLAIN("a", True), "gift"),
}


def encoded(name: str, value: Any) -> msgspec.Raw:
    """Return a call as a client of the newer class sends it."""
    return msgspec.Raw(MachineDefinition.of(NEW).methods[name].encode_call((value,), {}))


def raw(*parts: Any) -> msgspec.Raw:
    """Return these parts as a call."""
    return msgspec.Raw(msgspec.msgpack.encode(parts))


@pytest.mark.parametrize("name", list(CALLS))
def test_a_newer_client_is_refused_by_the_field_and_nothing_is_executed(name: str) -> None:
    plain, new, said = CALLS[name]
    group = Group(OLD, OLD, OLD)
    assert group.send(encoded(name, plain)) == (RESULT, 1)
    kind, text = group.send(encoded(name, new))
    assert kind == INVALID
    assert said in str(text)
    assert "the class of this server does not know; nothing was done" in str(text)
    assert group.send(encoded(name, plain)) == (RESULT, 2)
    group.require_equal()


@pytest.mark.parametrize("name", list(CALLS))
def test_a_query_is_refused_too(name: str) -> None:
    plain, new, said = CALLS[name]
    decode = MachineDefinition.of(OLD).decode
    decode("query", encoded(f"ask_{name}", plain))
    with pytest.raises(InvalidCall, match="does not know") as refused:
        decode("query", encoded(f"ask_{name}", new))
    assert said in str(refused.value)


@pytest.mark.parametrize("name", list(CALLS))
def test_nothing_is_lost_between_equal_classes(name: str) -> None:
    for value in CALLS[name][:2]:
        arguments = MachineDefinition.of(NEW).decode("command", encoded(name, value))
        assert msgspec.structs.astuple(arguments) == (value,)


def test_an_older_client_needs_no_new_field() -> None:
    group = Group(NEW, NEW, NEW)
    line = OLD.structs()[0]  # type: ignore[attr-defined]
    sent = MachineDefinition.of(OLD).methods["order"].encode_call((line("tea", 2),), {})
    assert group.send(msgspec.Raw(sent)) == (RESULT, 1)


def test_a_whole_message_is_looked_at() -> None:
    group = Group(OLD, OLD, OLD)
    lines = group.send_all(encoded("order", LINE("a", 7)), encoded("order", LINE("b", gift=True)))
    assert [kind for kind, _ in lines] == [RESULT, INVALID]


def test_what_a_client_of_another_language_sends_is_looked_at_too() -> None:
    group = Group(OLD, OLD, OLD)
    assert group.send(raw("order", {"item": "tea", "count": 1}))[0] == RESULT
    assert group.send(raw("order", {"item": "tea", "colour": "red"}))[0] == INVALID
