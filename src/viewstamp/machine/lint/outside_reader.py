"""Reads one function for what it does with objects outside of its class."""

import ast
import contextlib
import decimal
import functools
import sys
from collections.abc import Callable
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any, Final

from viewstamp.machine.forbidden_calls import rule_of
from viewstamp.machine.lint import outside
from viewstamp.machine.lint.float_text import called_name
from viewstamp.machine.lint.reader import FAILURES, Reader
from viewstamp.machine.lint.types import plain_or
from viewstamp.machine.rules import CLOCK, HIDDEN_STATE, IDENTITY, SWALLOWED, Rule

Report = Callable[[Rule, ast.AST, str], None]
_TEXTS: Final = frozenset({"str", "repr", "format", "ascii"})
_SHARED_SETTINGS: Final = (decimal.getcontext,)
"""Functions that return an object of the whole process."""


class OutsideReader:
    """One function under the rules that concern objects of the module and of the process."""

    def __init__(self, reader: Reader, report: Report) -> None:
        self._reader = reader
        self._report = report
        self._resolve = reader.scope.resolve
        self.functions: list[FunctionType] = []
        """Functions that it reaches by a table or as a default: they are read as well."""

    def read(self) -> None:
        """Report everything in the function."""
        for node in ast.walk(self._reader.source.tree):
            if node in self._reader.annotations:
                continue
            match node:
                case ast.Call():
                    self._call(node)
                case ast.Attribute(ctx=ast.Store() | ast.Del()):
                    self._store(node)
                case ast.Subscript(ctx=ast.Store() | ast.Del()):
                    self._store_item(node)
                case ast.Name(ctx=ast.Load()) | ast.Attribute(ctx=ast.Load()):
                    self._load(node)
                case ast.JoinedStr():
                    for value in node.values:
                        if isinstance(value, ast.FormattedValue):
                            self._text(value.value, node)

    # Calls

    def _call(self, node: ast.Call) -> None:
        self._table(node)
        if called_name(node) in _TEXTS and isinstance(node.func, ast.Name) and node.args:
            self._text(node.args[0], node)
        if called_name(node) == "__sizeof__":
            self._report(IDENTITY, node, "calls __sizeof__, which differs between processes")
        found = self._resolve(node.func) if isinstance(node.func, (ast.Name, ast.Attribute)) else None
        if found is None:
            return
        called = found[0]
        if called is contextlib.suppress:
            self._suppressed(node)
        elif isinstance(called, functools.partial):
            self._partial(called, node)
        elif isinstance(called, type):
            self._made(called, node)
        elif type(called).__name__ == "_lru_cache_wrapper":
            self._cached(node)
        elif called in (setattr, delattr) and node.args and self._is_outside(node.args[0]):
            self._report(HIDDEN_STATE, node, f"sets an attribute of {ast.unparse(node.args[0])}, {_NOBODY}")

    def _table(self, node: ast.Call) -> None:
        base = node.func.value if isinstance(node.func, ast.Subscript) else None
        if base is None and isinstance(node.func, ast.Call) and called_name(node.func) == "get":
            base = getattr(node.func.func, "value", None)
        found = self._resolve(base) if base is not None else None
        if found is None:
            return
        broken = outside.of_table(found[0])
        if broken is not None:
            self._report(broken[0], node, f"may call {broken[1]}, which differs between replicas")
        self.functions += outside.functions_of_table(found[0])

    def _partial(self, called: Any, node: ast.Call) -> None:
        function, given = outside.behind_partial(called, len(node.args) + len(node.keywords))
        clock, broken = outside.reads_clock(function, given), rule_of(function)
        if clock is not None:
            self._report(CLOCK, node, f"calls {clock} without a time, which reads the clock")
        elif broken is not None:
            self._report(broken[0], node, f"calls {broken[1]}, which differs between replicas")
        elif isinstance(function, FunctionType):
            self.functions.append(function)

    def _made(self, made: type, node: ast.Call) -> None:
        for factory in outside.factories(made):
            broken = rule_of(factory)
            if broken is not None:
                text = f"makes a {made.__name__}, whose default calls {broken[1]}"
                self._report(broken[0], node, text)
            elif isinstance(factory, FunctionType):
                self.functions.append(factory)

    def _cached(self, node: ast.Call) -> None:
        given = [*node.args, *(word.value for word in node.keywords)]
        if any(isinstance(one, ast.Name) and one.id == self._reader.self_name for one in given):
            self._report(HIDDEN_STATE, node, f"calls {ast.unparse(node.func)}, whose cache no snapshot holds")

    def _suppressed(self, node: ast.Call) -> None:
        for argument in node.args:
            found = self._resolve(argument)
            if found is not None and found[0] in FAILURES:
                what = f"suppresses {ast.unparse(argument)}, which each Python raises at another place"
                self._report(SWALLOWED, node, what)

    # Texts

    def _text(self, value: ast.expr, node: ast.AST) -> None:
        kind = plain_or(self._reader.kinds.kind(value))
        if outside.has_no_text(kind):
            what = f"writes {ast.unparse(value)} as text, which shows its address: give {kind.__name__}"
            self._report(IDENTITY, node, f"{what} a __repr__")

    # Objects of the module

    def _store(self, node: ast.Attribute) -> None:
        base = node.value
        if self._is_outside(base) or self._is_class_of_itself(base):
            self._report(HIDDEN_STATE, node, f"sets {ast.unparse(node)}, {_NOBODY}")

    def _store_item(self, node: ast.Subscript) -> None:
        """Report an item of an attribute of a class or module; of a name of the module others report it."""
        found = self._resolve(node.value) if isinstance(node.value, ast.Attribute) else None
        if found is not None and isinstance(found[0], (dict, list, bytearray)):
            self._report(HIDDEN_STATE, node, f"changes {ast.unparse(node.value)}, {_NOBODY}")

    def _is_class_of_itself(self, node: ast.expr) -> bool:
        """Return whether it is `type(x)` or `x.__class__`."""
        if isinstance(node, ast.Attribute):
            return node.attr == "__class__"
        return isinstance(node, ast.Call) and called_name(node) == "type" and len(node.args) == 1

    def _is_outside(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Call):
            found = self._resolve(node.func) if isinstance(node.func, (ast.Name, ast.Attribute)) else None
            return found is not None and found[0] in _SHARED_SETTINGS
        if not isinstance(node, (ast.Name, ast.Attribute)):
            return False
        found = self._resolve(node)
        if found is None or found[0] is None:
            return False
        value = found[0]
        return isinstance(value, (ModuleType, FunctionType, type, Enum)) or hasattr(value, "__dict__")

    def _load(self, node: ast.Name | ast.Attribute) -> None:
        found = self._resolve(node)
        moving = outside.of_object(found[0]) if found is not None else None
        if moving is not None:
            self._report(moving[0], node, f"uses {ast.unparse(node)}, {moving[1]}")
            return
        made = self._made_at_import(node)
        if made is not None and not self._reader.is_in_log(node):
            rule, call = made
            self._report(rule, node, f"reads {ast.unparse(node)}, which was worked out by {call} at import")

    def _made_at_import(self, node: ast.Name | ast.Attribute) -> tuple[Rule, str] | None:
        function = self._reader.function
        if isinstance(node, ast.Name):
            if node.id in self._reader.scope.bound or node.id not in function.__globals__:
                return None
            return outside.made_at_import(sys.modules.get(function.__module__), node.id)
        if not isinstance(node.value, ast.Name):
            return None
        owner = self._reader.owner if node.value.id == self._reader.self_name else None
        if owner is None:
            found = self._resolve(node.value)
            owner = found[0] if found is not None and isinstance(found[0], type) else None
            if found is not None and isinstance(found[0], ModuleType) and self._is_near(found[0]):
                return outside.made_at_import(found[0], node.attr)
        for base in owner.__mro__ if owner is not None else ():
            if node.attr in vars(base):
                return outside.made_at_import(sys.modules.get(base.__module__), node.attr, base)
        return None

    def _is_near(self, module: ModuleType) -> bool:
        return module.__name__.split(".")[0] == self._reader.function.__module__.split(".")[0]


_NOBODY: Final = "which no replica keeps"
