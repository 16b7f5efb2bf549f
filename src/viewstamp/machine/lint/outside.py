"""What a function uses outside of its class: objects that move on, remember, or were made at import.

Everything here asks the objects themselves, by identity: nothing of the user's is run.
"""

import ast
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any, Final

import msgspec

from viewstamp.machine.forbidden_calls import host_value, is_environment, rule_of, rule_of_object
from viewstamp.machine.lint.source import module_tree
from viewstamp.machine.rules import CLOCK, ENTROPY, HIDDEN_STATE, HOST, INPUT_OUTPUT, Rule

Resolve = Callable[[ast.expr], tuple[Any] | None]
_TIME_ARGUMENTS: Final = {"gmtime": 1, "asctime": 1, "strftime": 2}
"""Functions of `time` that read the clock where they are given fewer arguments."""
_DIFFERING: Final = (CLOCK, ENTROPY, HOST, INPUT_OUTPUT)
_PLAIN: Final = (int, float, str, bytes, tuple, list, dict, set, frozenset)
_PLAIN_MODULES: Final = frozenset({"datetime", "uuid"})
"""Their values are plain as well; this package may not import them."""
_TABLES: Final = (dict, list, tuple)


def behind_partial(called: Any, given: int) -> tuple[Any, int]:
    """Return what a `functools.partial` calls, and with how many arguments in all."""
    while isinstance(called, functools.partial):
        given += len(called.args) + len(called.keywords)
        called = called.func
    return called, given


def reads_clock(called: Any, given: int) -> str | None:
    """Return the name of a function of `time` that is given no time, and so reads the clock."""
    if getattr(called, "__module__", None) != "time":
        return None
    name = getattr(called, "__name__", "")
    return f"time.{name}" if given < _TIME_ARGUMENTS.get(name, 0) else None


def of_table(table: Any) -> tuple[Rule, str] | None:
    """Return (rule, name) of a forbidden function in a table of the module; None: there is none."""
    if not isinstance(table, _TABLES):
        return None
    values = table.values() if isinstance(table, dict) else table
    return next((found for value in values if callable(value) and (found := rule_of(value))), None)


def functions_of_table(table: Any) -> Iterator[FunctionType]:
    """Yield the functions in a table of the module: one of them is called."""
    if isinstance(table, _TABLES):
        values = table.values() if isinstance(table, dict) else table
        yield from (value for value in values if isinstance(value, FunctionType))


def of_object(value: Any) -> tuple[Rule, str] | None:
    """Return (rule, what) of an object of the module that moves on by itself; None: it does not."""
    if isinstance(value, type):
        return None
    if hasattr(type(value), "__next__"):
        return HIDDEN_STATE, f"an iterator ({type(value).__name__}), which no replica keeps"
    found = rule_of_object(value)
    return None if found is None else (found[0], f"{found[1]}, which no replica keeps")


def factories(made: type) -> Iterator[Any]:
    """Yield the functions that make the defaults of a dataclass or Struct."""
    if dataclasses.is_dataclass(made):
        for field in dataclasses.fields(made):
            if field.default_factory is not dataclasses.MISSING:
                yield field.default_factory
    elif issubclass(made, msgspec.Struct):
        yield from (value.factory for value in made.__struct_defaults__ if hasattr(value, "factory"))


def has_no_text(kind: Any) -> bool:
    """Return whether the text of its instances is their address."""
    if not isinstance(kind, type) or kind is object:
        return False
    return all(
        inspect.getattr_static(kind, name) is inspect.getattr_static(object, name)
        for name in ("__repr__", "__str__", "__format__")
    )


def made_at_import(module: Any, name: str, owner: type | None = None) -> tuple[Rule, str] | None:
    """Return (rule, call) where a module, or a class of it, works a plain value out by a forbidden call."""
    tree = module_tree(module) if isinstance(module, ModuleType) else None
    if tree is None:
        return None
    body = tree.body if owner is None else _body_of(tree, owner.__qualname__)
    holder = vars(module) if owner is None else vars(owner)
    held = holder.get(name)
    if not isinstance(held, _PLAIN) and type(held).__module__ not in _PLAIN_MODULES:
        return None
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if value is not None and any(isinstance(one, ast.Name) and one.id == name for one in targets):
            return _forbidden_in(value, module)
    return None


def _body_of(tree: ast.Module, qualified: str) -> list[ast.stmt]:
    body = tree.body
    for part in qualified.split("."):
        found = next((one for one in body if isinstance(one, ast.ClassDef) and one.name == part), None)
        if found is None:
            return []
        body = found.body
    return body


def _forbidden_in(value: ast.expr, module: ModuleType) -> tuple[Rule, str] | None:
    for node in ast.walk(value):
        if isinstance(node, ast.Call):
            called = _in_module(node.func, module)
            broken = rule_of(called) if callable(called) else None
            clock = reads_clock(called, len(node.args))
            if clock is not None:
                return CLOCK, clock
            if broken is not None and broken[0] in _DIFFERING:
                return broken
        if isinstance(node, (ast.Name, ast.Attribute)) and is_environment(_in_module(node, module)):
            return HOST, "os.environ"
        if isinstance(node, ast.Attribute):
            found = host_value(_in_module(node.value, module), node.attr)
            if found is not None:
                return HOST, found
    return None


def _in_module(node: ast.expr, module: ModuleType) -> Any:
    match node:
        case ast.Name():
            return vars(module).get(node.id, getattr(sys.modules["builtins"], node.id, None))
        case ast.Attribute():
            base = _in_module(node.value, module)
            return getattr(base, node.attr, None) if isinstance(base, (ModuleType, type)) else None
        case _:
            return None
