"""What decides results without a text of its own, as places and special methods; and what decides none."""

from pathlib import Path
from typing import Final

import pytest

from tests.evolution.test_behaviour import edited, load
from viewstamp.machine.behaviour import behaviour_of
from viewstamp.machine.interface import BEHAVIOUR
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.code_check import code_problems

HELPERS: Final = """
import functools
import operator
from enum import Enum
from typing import TypedDict
import msgspec
from dataclasses import dataclass

class Tier(Enum):
    GOLD = 1
    IRON = 2

class Priced(msgspec.Struct, order=True):
    price: int = 0
    weight: int = 0

class Line(msgspec.Struct):
    name: str = ""
    kind: str = ""

@dataclass
class Note:
    text: str = ""

class Doc(TypedDict):
    title: str

class Helper:
    def weigh(self) -> int:
        return 1

class Heavy(Helper):
    def lift(self) -> int:
        return self.weigh()

class Always:
    def __get__(self, instance, owner):
        return 6

class Kept:
    size = Always()

class Maker(type):
    def __call__(cls):
        return 4

class Made(metaclass=Maker):
    pass

@functools.lru_cache
def cached(n):
    return n + 1

@functools.singledispatch
def kind_of(value):
    return "other"

@kind_of.register
def _(value: int):
    return "number"

getter = operator.itemgetter(0)
by_factor = [lambda n, factor=factor: n * factor for factor in (2, 3)]
"""
MACHINE: Final = """
import logging
from viewstamp import StateMachine, command, query
from shop_under_test.prices import *

log = logging.getLogger(__name__)

class Shop(StateMachine):
    sold: dict[str, int] = {}
    docs: list[Doc] = []
    notes: list[Note] = []

    def _one(self) -> int:
        return 1

    @property
    def worth(self) -> int:
        return len(self.sold)

    @command
    def buy(self, name: str, count: int = 1) -> int:
        total = self.sold.get(name, 0) + count
        try:
            self.sold[name] = total
        except KeyError as error:
            return len(str(error))
        if total > 100:
            best = max(self.sold, key=lambda key: self.sold[key])
            return sum(len(key) for key in self.sold if key != best)
        return cached(total) + getter((1, 2)) + by_factor[0](total)

    @command
    def tell(self, tier: Tier, priced: Priced) -> list[str]:
        def told(kind: str) -> str:
            return f"{kind} {pounds}"

        pounds = Heavy().lift() + Kept().size + Made()
        line = Line("tea", told(kind_of(pounds)))
        return [each.name for each in Tier if priced > Priced(1)] + [line.name]

    @command
    def find(self, name: str) -> int:
        return getattr(self, f"_{name}")()

    @query
    def size(self) -> int:
        return len(self.sold)
"""

CHANGES: Final = {
    "members of an enum in another order": (
        "    GOLD = 1\n    IRON = 2",
        "    IRON = 2\n    GOLD = 1",
        "Tier.GOLD stands behind another one",
    ),
    "a member of an enum in the middle": (
        "    IRON = 2",
        "    LEAD = 3\n    IRON = 2",
        "Tier.IRON stands behind another one",
    ),
    "fields that are compared in another order": (
        "    price: int = 0\n    weight: int = 0",
        "    weight: int = 0\n    price: int = 0",
        "Priced[price] stands behind another one",
    ),
    "fields that are given by place in another order": (
        '    name: str = ""\n    kind: str = ""',
        '    kind: str = ""\n    name: str = ""',
        "tell() gives the values of Line by place to other fields",
    ),
    "a field in front of one that is given by place": (
        '    name: str = ""',
        '    size: int = 0\n    name: str = ""',
        "tell() gives the values of Line by place to other fields",
    ),
    "a field that may be absent": ("(TypedDict)", "(TypedDict, total=False)", "Doc is made in another way"),
    "a dataclass that is frozen": ("@dataclass\n", "@dataclass(frozen=True)\n", "Note is made in another"),
    "a dataclass with an order": ("@dataclass\n", "@dataclass(order=True)\n", "Note is made in another way"),
    "a new special method": (
        '    kind: str = ""',
        '    kind: str = ""\n    def __eq__(self, other): return True',
        "Line has other special or overriding methods",
    ),
    "a new check of a struct": (
        '    text: str = ""',
        '    text: str = ""\n    def __post_init__(self): self.text = ""',
        "Note has other special or overriding methods",
    ),
    "a method that overrides another": (
        "    def lift(self)",
        "    def weigh(self) -> int:\n        return 2\n    def lift(self)",
        "Heavy has other special or overriding methods",
    ),
    "a method of a base class": (
        "        return 1\n\nclass Heavy",
        "        return 2\n\nclass Heavy",
        "weigh() does",
    ),
    "a descriptor": ("return 6", "return 7", "Always.__get__() does something else"),
    "a metaclass": ("return 4", "return 5", "Maker.__call__() does something else"),
    "a cached function": ("return n + 1", "return n + 2", "cached() does something else"),
    "a function for one type": ('return "number"', 'return "int"', "() does something else"),
    "a function for a new type": (
        "getter =",
        "@kind_of.register\ndef _(value: str):\n    return 'text'\ngetter =",
        "tell() does something else",
    ),
    "what a getter gets": ("itemgetter(0)", "itemgetter(1)", "getter has another value"),
    "a default that was evaluated": ("in (2, 3)", "in (2, 4)", "has other defaults"),
    "a method that is found by a text": (
        "    def _one(self) -> int:\n        return 1",
        "    def _one(self) -> int:\n        return 2",
        "_one() does something else",
    ),
    "a variable that is another one": (
        "sold[name] = total",
        "sold[name] = count",
        "buy() does something else",
    ),
    "a variable of the function around": (
        'f"{kind} {pounds}"',
        'f"{pounds} {kind}"',
        "tell() does something else",
    ),
    "the name of a parameter": (
        'def told(kind: str) -> str:\n            return f"{kind} {pounds}"',
        'def told(sort: str) -> str:\n            return f"{sort} {pounds}"',
        "tell() does something else",
    ),
    "a line to a log that may raise": (
        "        total = self.sold",
        "        log.info(self.sold[name])\n        total = self.sold",
        "buy() does",
    ),
    "a line to a log of what has no value yet": (
        "        total = self.sold",
        "        log.info(total)\n        total = self.sold",
        "buy() does",
    ),
    "a line to a log that calls a property": (
        "        total = self.sold",
        "        log.info(self.worth)\n        total = self.sold",
        "buy() does",
    ),
    "a line to what is not a log": (
        "        total = self.sold",
        "        self.sold.update(x=1)\n        total = self.sold",
        "buy() does",
    ),
    "a new argument that is used": (
        "count: int = 1) -> int:\n        total = self.sold.get(name, 0) + count",
        "count: int = 1, more: int = 0) -> int:\n        total = self.sold.get(name, 0) + count + more",
        "buy() does something else",
    ),
    "a new default": ("count: int = 1)", "count: int = 2)", "buy() does something else"),
}
NO_CHANGES: Final = {
    "a new attribute": ("    notes: list[Note] = []", "    notes: list[Note] = []\n    more: int = 0"),
    "a local variable": ("total", "amount"),
    "a variable that is caught": ("error", "failure"),
    "a variable of a comprehension": (
        "len(key) for key in self.sold if key",
        "len(k) for k in self.sold if k",
    ),
    "a parameter of a lambda": ("lambda key: self.sold[key]", "lambda name: self.sold[name]"),
    "a variable that a nested function uses": ("pounds", "weight"),
    "a line to a log": ("        if total", '        log.info("%s: %d", name, total)\n        if total'),
    "a line to a log in a block": (
        "            best =",
        '            log.info(f"{self.sold} {total}")\n            best =',
    ),
    "a line to standard output": ("        if total", "        print(self.sold, total)\n        if total"),
    "a new argument that is not used": ("count: int = 1)", "count: int = 1, more: int = 0)"),
    "a member of an enum at the end": ("    IRON = 2", "    IRON = 2\n    LEAD = 3"),
    "a field at the end": ("    weight: int = 0", "    weight: int = 0\n    size: int = 0"),
    "a field behind those that are given by place": (
        '    kind: str = ""',
        '    kind: str = ""\n    more: int = 0',
    ),
    "a method that overrides nothing": (
        "    def lift(self)",
        "    def drop(self) -> int:\n        return 2\n    def lift(self)",
    ),
    "the size of a cache": ("@functools.lru_cache\n", "@functools.lru_cache(maxsize=9)\n"),
    "a new method that nothing calls": (
        "    @query",
        "    def _two(self) -> int:\n        return 2\n    @query",
    ),
}


def after(folder: Path, old: str, new: str, *, everywhere: bool = False) -> type[StateMachine]:
    """Return the class after this edit, in whichever file it fits."""
    if old in HELPERS and not everywhere:
        return load(folder, MACHINE, edited(HELPERS, old, new))
    return load(folder, MACHINE.replace(old, new) if everywhere else edited(MACHINE, old, new), HELPERS)


def recorded(cls: type[StateMachine], mark: str = "*", *, plain: bool = False) -> dict[str, str]:
    found = behaviour_of(cls, plain=plain)
    return {f"{mark}{name}": element.digest for name, element in found.items()}


@pytest.mark.parametrize("name", list(CHANGES))
def test_a_change_without_a_text_is_refused_by_name(name: str, tmp_path: Path) -> None:
    old, new, said = CHANGES[name]
    before = recorded(load(tmp_path / "before", MACHINE, HELPERS))
    found = list(code_problems(after(tmp_path / "after", old, new), before, 1, ()))
    assert any(said in problem for problem in found), found


@pytest.mark.parametrize("name", list(NO_CHANGES))
def test_what_decides_no_result_is_no_alarm(name: str, tmp_path: Path) -> None:
    old, new = NO_CHANGES[name]
    before = recorded(load(tmp_path / "before", MACHINE, HELPERS))
    changed = after(tmp_path / "after", old, new, everywhere=MACHINE.count(old) > 1)
    assert list(code_problems(changed, before, 1, ())) == []


def test_what_an_earlier_program_recorded_is_compared_as_it_did(tmp_path: Path) -> None:
    before = recorded(load(tmp_path / "before", MACHINE, HELPERS), BEHAVIOUR, plain=True)
    del before["+tell()"]  # its text named the place of a cache in memory
    same = load(tmp_path / "same", MACHINE, HELPERS)
    assert list(code_problems(same, before, 1, ("buy",))) == []
    found = list(code_problems(after(tmp_path / "after", "return n + 1", "return n + 2"), before, 1, ()))
    assert any("cached() does something else" in problem for problem in found), found
