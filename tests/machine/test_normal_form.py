"""Two functions that do the same have the same normal form, whatever their variables are called."""

import ast
import logging
from typing import Any

import pytest

from viewstamp.machine.code_text import Tree, text_of_tree
from viewstamp.machine.normal_form import normal_form

LOG = logging.getLogger("shop")
OUTSIDE: dict[str, Any] = {"log": LOG, "logging": logging, "print": print, "update": dict.update}


def resolve(node: ast.expr) -> tuple[Any] | None:
    name = node.id if isinstance(node, ast.Name) else ""
    return (OUTSIDE[name],) if name in OUTSIDE else None


def form(source: str, *, drop_unused: bool = False) -> str:
    tree: Any = ast.parse(source).body[0]
    before = ast.dump(tree)
    made: Tree = normal_form(tree, resolve, {"stock"}, drop_unused=drop_unused)
    assert ast.dump(tree) == before, "the tree itself stays as it is"
    return text_of_tree(made)


SAME = {
    "assigned": ("def f(self):\n x = 1\n return x", "def f(self):\n y = 1\n return y"),
    "a loop": (
        "def f(s):\n for a, b in s: print(a)\n return b",
        "def f(s):\n for c, d in s: print(c)\n return d",
    ),
    "a comprehension": ("def f(s): return [x for x in s if x]", "def f(s): return [y for y in s if y]"),
    "the first source of a comprehension": (
        "def f(s):\n x = s\n return [x for x in x]",
        "def f(s):\n y = s\n return [z for z in y]",
    ),
    "a walrus": (
        "def f(s): return [y for x in s if (y := x)]",
        "def f(s): return [b for a in s if (b := a)]",
    ),
    "caught": ("def f():\n try: g()\n except E as e: h(e)", "def f():\n try: g()\n except E as x: h(x)"),
    "matched": (
        "def f(s):\n match s:\n  case {'a': a, **r}: return a, r\n  case [h, *t]: return h, t",
        "def f(s):\n match s:\n  case {'a': b, **q}: return b, q\n  case [i, *u]: return i, u",
    ),
    "of the function around": (
        "def f():\n n = 0\n def g():\n  nonlocal n\n  n += 1\n return g",
        "def f():\n m = 0\n def g():\n  nonlocal m\n  m += 1\n return g",
    ),
    "a lambda's parameter": (
        "def f(s): return sorted(s, key=lambda x: x)",
        "def f(s): return sorted(s, key=lambda y: y)",
    ),
    "a line to a log": ("def f(s):\n log.info('%s', s)\n return s", "def f(s):\n return s"),
    "a line to a log in a block": (
        "def f(self, s):\n if s:\n  t = s\n  log.info(f'{t} {self.stock}')\n return s",
        "def f(self, s):\n if s:\n  t = s\n return s",
    ),
    "a module that logs": ("def f(s):\n logging.error(s)\n return s", "def f(s):\n return s"),
    "the state in a log": ("def f(self):\n print(self.stock, self.context.time)", "def f(self): pass"),
}
OTHER = {
    "another variable": ("def f(a):\n x = 1\n y = 2\n return x", "def f(a):\n x = 1\n y = 2\n return y"),
    "two made one": ("def f(a):\n x = 1\n y = 2\n return x", "def f(a):\n x = 1\n x = 2\n return x"),
    "a parameter": ("def f(a): return a", "def f(b): return b"),
    "what is outside": ("def f(): return a", "def f(): return b"),
    "a local that hides what is outside": ("def f():\n x = 1\n return y", "def f():\n y = 1\n return y"),
    "a global": ("def f():\n global x\n x = 1", "def f():\n global y\n y = 1"),
    "an import": ("def f():\n import a\n return a", "def f():\n import b\n return b"),
    "an attribute": ("def f(s): s.a = 1", "def f(s): s.b = 1"),
    "a lambda's parameter that a caller may name": (
        "def f():\n g = lambda x: x\n return g(x=1)",
        "def f():\n g = lambda y: y\n return g(x=1)",
    ),
    "what looks at names": ("def f():\n x = 1\n return locals()", "def f():\n y = 1\n return locals()"),
    "a log of what has no value": ("def f():\n log.info(x)\n x = 1", "def f():\n x = 1"),
    "a log of what has a value in one branch": (
        "def f(s):\n if s: x = 1\n log.info(x)\n return s",
        "def f(s):\n if s: x = 1\n return s",
    ),
    "a log of what was deleted": ("def f(s):\n del s\n log.info(s)", "def f(s):\n del s"),
    "a log that calls": ("def f(s): log.info(s.pop())", "def f(s): pass"),
    "a log that reads an item": ("def f(s): log.info(s[0])", "def f(s): pass"),
    "a log of a property": ("def f(self): log.info(self.worth)", "def f(self): pass"),
    "a log with a format that may raise": ("def f(s): log.info(f'{s:d}')", "def f(s): pass"),
    "a log with arguments of any kind": ("def f(s): log.info(*s)", "def f(s): pass"),
    "a call of something else": ("def f(s): update(s, s)", "def f(s): pass"),
    "a method of that name": ("def f(self): self.info('a')", "def f(self): pass"),
}


@pytest.mark.parametrize("name", list(SAME))
def test_what_does_the_same_is_the_same(name: str) -> None:
    assert form(SAME[name][0]) == form(SAME[name][1])


@pytest.mark.parametrize("name", list(OTHER))
def test_what_does_something_else_differs(name: str) -> None:
    assert form(OTHER[name][0]) != form(OTHER[name][1])


def test_parameters_of_a_command_that_are_not_used_are_left_out() -> None:
    before, after = "def f(self, a, b=1): return b", "def f(self, a, b=1, c=2, d=3): return b"
    assert form(before, drop_unused=True) == form(after, drop_unused=True)
    assert form(before) != form(after), "a function that others call may be called with it"
    used = "def f(self, a, b=1, c=2): return b + c"
    assert form(before, drop_unused=True) != form(used, drop_unused=True)
