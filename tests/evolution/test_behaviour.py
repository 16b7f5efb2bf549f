"""What a class does is compared as far as it reaches, and comments raise no alarm."""

import importlib
import sys
from pathlib import Path
from typing import Final

import pytest

from viewstamp.machine.behaviour import behaviour_of
from viewstamp.machine.interface import code_of
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.replica.code_check import code_problems, uses_of_removed
from viewstamp.replica.compatibility import judge_class
from viewstamp.replica.options import SessionLimits

PRICES: Final = '''
import functools, re
from decimal import Decimal
LIMIT = 10
NAMES = {"tea": 3, "jam": (4, 5)}
WORDS = frozenset({"a", "b", "c"})
PATTERN = re.compile("[a-z]+")
UNUSED = 1

def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args) + 0
    return wrapper

@logged
def price_of(name):
    """What it costs."""
    return rounded(NAMES.get(name, LIMIT)) if PATTERN.match(name) else len(WORDS)

def rounded(value):
    return value // 1

def unused():
    return 1

double = lambda value: 2 * value
'''
MACHINE: Final = """
import dataclasses
from typing import Annotated, Any
import msgspec
from viewstamp import StateMachine, command, query, migration
from shop_under_test import prices
from shop_under_test.prices import price_of
import shop_under_test.prices as p

class Money(msgspec.Struct):
    cents: Annotated[int, msgspec.Meta(ge=0)] = 0
    def __post_init__(self):
        self.cents = min(self.cents, 1_000_000)

@dataclasses.dataclass(frozen=True)
class Rule:
    most: int = 5

class Ends:
    def session_ended(self, client: int) -> None:
        self.left += 1

class Base(StateMachine):
    left: int = 0
    def _tax(self, value: int) -> int:
        return value + self.TAX

class Shop(Ends, Base):
    TAX = 2
    RULE = Rule()
    sold: dict[str, int] = {}
    paid: list[Money] = []

    @property
    def total(self) -> int:
        return sum(self.sold.values())

    @command
    def buy(self, name: str, count: Annotated[int, msgspec.Meta(le=100)] = 1) -> int:
        self.sold[name] = self.sold.get(name, 0) + self._tax(price_of(name)) * count
        return p.double(self.total) + self.RULE.most

    @command
    def pay(self, money: Money) -> int:
        self.paid.append(money)
        return len(self.paid)

    @query
    def size(self, of: str = "") -> int:
        return _measured(self.sold)

def _measured(sold: dict) -> int:
    return len(sold)
"""


GOLDEN: Final = {
    "price_of()": "eaa764987045",
    "rounded()": "c4e4a0c601f2",
    "WORDS": "6bd2f12593b9",
    "NAMES": "5f2d956b02e6",
    "PATTERN": "ee9fe6bf6d3c",
    "RULE": "5c704d11bd7a",
    "buy()": "d19a0aa5d7ef",
    "Money.__post_init__()": "3d9a67476cc0",
    "Money[cents]": "494424b5969e",
    "total()": "427c4c810ad1",
    "session_ended()": "acfa065c82f4",
}
"""Of the class above; a directory that was written with another Python holds the same."""


def load(directory: Path, machine: str = MACHINE, prices: str = PRICES) -> type[StateMachine]:
    """Import a class whose source this is."""
    package = directory / "shop_under_test"
    package.mkdir(parents=True)
    for name, text in (("__init__", ""), ("prices", prices), ("machine", machine)):
        (package / f"{name}.py").write_text(text)
    sys.path.insert(0, str(directory))
    importlib.invalidate_caches()
    try:
        loaded: type[StateMachine] = importlib.import_module("shop_under_test.machine").Shop
        code_of(loaded)
    finally:
        sys.path.remove(str(directory))
        for name in [name for name in sys.modules if name.startswith("shop_under_test")]:
            del sys.modules[name]
    return loaded


def edited(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, (old, text.count(old))
    return text.replace(old, new)


def problems(
    tmp_path: Path, old: str, new: str, *, version: int = 1, allow: tuple[str, ...] = ()
) -> list[str]:
    """Return what is said of the class after this edit, in whichever file it fits."""
    before = code_of(load(tmp_path / "before"))
    machine, prices = MACHINE, PRICES
    if old in PRICES:
        prices = edited(PRICES, old, new)
    else:
        machine = edited(MACHINE, old, new)
    if version > 1:
        machine = edited(machine, "    RULE", f"    version = {version}\n    RULE")
    return list(code_problems(load(tmp_path / "after", machine, prices), before, 1, allow))


CHANGES: Final = {
    "a helper": ("return value // 1", "return value // 2", "rounded() does something else"),
    "a helper behind a decorator": ("else len(WORDS)", "else 0", "price_of() does something else"),
    "a decorator": ("function(*args) + 0", "function(*args) + 1", "price_of() does something else"),
    "a lambda": ("2 * value", "3 * value", "<lambda>() does something else"),
    "a constant of another module": ("LIMIT = 10", "LIMIT = 11", "LIMIT has another value"),
    "an item of a constant": ("(4, 5)", "(4, 6)", "NAMES has another value"),
    "the order of a constant": ('{"tea": 3, "jam": (4, 5)}', '{"jam": (4, 5), "tea": 3}', "NAMES has"),
    "a member of a set": ('"a", "b", "c"', '"a", "b", "d"', "WORDS has another value"),
    "a pattern": ("[a-z]+", "[a-y]+", "PATTERN has another value"),
    "a constant of the class": ("= 2\n    RULE", "= 3\n    RULE", "TAX has another value"),
    "an object among the constants": ("RULE = Rule()", "RULE = Rule(6)", "RULE has another value"),
    "a default of a class in use": ("most: int = 5", "most: int = 6", "another"),
    "a property": ("sum(self.sold.values())", "len(self.sold)", "total() does something else"),
    "an inherited helper": ("value + self.TAX", "value - self.TAX", "_tax() does something else"),
    "an inherited end of a session": ("self.left += 1", "self.left += 2", "session_ended() does something"),
    "what ends a session is gone": ("class Shop(Ends, Base)", "class Shop(Base)", "session_ended() does"),
    "a struct's own check": ("min(self.cents, 1_000_000)", "self.cents", "Money.__post_init__() does"),
    "a constraint of a field": ("msgspec.Meta(ge=0)", "msgspec.Meta(ge=1)", "Money[cents] has another"),
    "a constraint of an argument": ("msgspec.Meta(le=100)", "msgspec.Meta(le=9)", "buy(1 count) has another"),
    "another function by its name": (
        "prices import price_of", "prices import unused as price_of", "buy() does something else",
    ),
    "a query is removed": ("    @query\n    def size", "    def size", "size() (query -> int) is missing"),
    "a query takes another argument": ('of: str = ""', "of: int = 0", "size(0 of) was str"),
}  # fmt: skip
NO_CHANGES: Final = {
    "a comment": ("return value // 1", "return value // 1  # down"),
    "a docstring": ('"""What it costs."""', '"""Costs."""'),
    "a new docstring": ("def rounded(value):", 'def rounded(value):\n    """Down."""'),
    "lines": ("LIMIT = 10", "\n\n\nLIMIT = 10"),
    "an annotation": ("def rounded(value):", "def rounded(value: float) -> float:"),
    "another way to write it": ("LIMIT = 10", "LIMIT = (0xA)"),
    "the order of a set": ('"a", "b", "c"', '"c", "b", "a"'),
    "what nothing uses": ("UNUSED = 1", "UNUSED = 2"),
    "a function that nothing uses": ("    return 1\n", "    return 2\n"),
    "what a query uses": ("return len(sold)", "return len(sold) + 1"),
    "a new command": (
        "    @query", "    @command\n    def take(self) -> int:\n        return prices.UNUSED\n\n    @query",
    ),
    "a new field": ("] = 0\n", "] = 0\n    unit: str = ''\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CHANGES))
def test_a_change_is_refused_by_name(name: str, tmp_path: Path) -> None:
    old, new, said = CHANGES[name]
    found = problems(tmp_path, old, new)
    assert any(said in problem for problem in found), found
    assert len(found) <= 2, found


@pytest.mark.parametrize("name", [name for name in CHANGES if "query" not in name])
def test_a_change_is_refused_under_a_new_version_when_it_does_not_ask_for_it(
    name: str, tmp_path: Path
) -> None:
    old, new, said = CHANGES[name]
    found = problems(tmp_path, old, new, version=2)
    assert any(said in problem and "whatever version is in force" in problem for problem in found), found


@pytest.mark.parametrize("name", list(NO_CHANGES))
def test_what_changes_no_behaviour_is_no_alarm(name: str, tmp_path: Path) -> None:
    assert problems(tmp_path, *NO_CHANGES[name]) == []


def test_a_helper_may_ask_for_the_version(tmp_path: Path) -> None:
    new = "return value + self.TAX if self.context.version < 2 else value"
    assert problems(tmp_path, "return value + self.TAX", new, version=2) == []
    assert problems(tmp_path / "same", "return value + self.TAX", new) != []


def test_a_change_is_allowed_by_name(tmp_path: Path) -> None:
    old, new, _ = CHANGES["a helper"]
    assert problems(tmp_path, old, new, allow=("rounded",)) == []
    old, new, _ = CHANGES["a query is removed"]
    assert problems(tmp_path / "query", old, new, allow=("size",)) == []


@pytest.mark.parametrize("plain", [False, True])
def test_the_same_source_has_the_same_behaviour_in_every_python(plain: bool, tmp_path: Path) -> None:
    digests = {name: element.digest for name, element in behaviour_of(load(tmp_path), plain=plain).items()}
    assert GOLDEN.items() <= digests.items(), digests
    assert not [name for name, digest in digests.items() if digest.startswith("py")]


def test_what_has_no_source_is_compared_with_the_same_python_only() -> None:
    namespace: dict[str, object] = {"__name__": __name__}
    exec("def helper(value):\n    return value + 1", namespace)
    helper = namespace["helper"]

    class Shop(StateMachine):
        def session_ended(self, client: int) -> None:
            helper(client)  # type: ignore[operator]

        @command
        def add(self) -> None: ...

    before = code_of(Shop)
    assert before["*helper()"].startswith(f"py3.{sys.version_info[1]} ")
    assert list(code_problems(Shop, before, 1, ())) == []
    assert list(code_problems(Shop, before | {"*helper()": "py3.9 0"}, 1, ())) == []
    assert list(code_problems(Shop, before | {"*helper()": f"py3.{sys.version_info[1]} 0"}, 1, ())) != []


USES: Final = """
from viewstamp import StateMachine, command, query, migration
class Shop(StateMachine):
    version = 2
    names: dict[str, str] = {}
    people: dict[str, str] = {}

    @migration(to=2, removes=["names"])
    def _split(self) -> None:
        self.people = dict(self.names)

    @command
    def name(self, person: str) -> int:
        if self.context.version < 2:
            return self._before(person)
        return len(self.people)

    def _before(self, person: str) -> int:
        return len(self.names)

    def _after(self) -> int:
        return len(self.names)

    @command
    def more(self) -> int:
        """


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("return len(self.people)", None),
        ("return self._after()", "_after() uses self.names, which _split() removes at version 2"),
    ],
)
def test_what_a_migration_removes_may_not_be_used_whatever_is_in_force(
    line: str, said: str | None, tmp_path: Path
) -> None:
    found = list(uses_of_removed(load(tmp_path, USES + line), ()))
    assert [said is not None and said in problem for problem in found] == [True] * (said is not None), found


def test_check_refuses_what_uses_a_removed_attribute(tmp_path: Path) -> None:
    verdict = judge_class(load(tmp_path, USES + "return self._after()"), None, (), SessionLimits())
    assert any("_after() uses self.names" in problem for problem in verdict.problems), verdict.problems
