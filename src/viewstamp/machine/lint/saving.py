"""`snapshot` against `restore` in a class that writes its own: what one of them forgets."""

import ast
import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Final

from viewstamp.machine.lint.effects import plain_function
from viewstamp.machine.lint.mutators import MUTATORS
from viewstamp.machine.lint.source import source_of
from viewstamp.machine.state_machine import StateMachine, saves_itself

_WHOLE: Final = frozenset({"vars", "asdict", "encode_state", "decode_state"})
"""Functions that take all attributes together."""
_NOT_CHANGED_BY: Final = frozenset({"snapshot", "restore", "__init__", "__new__"})


def forgotten(cls: type[StateMachine]) -> Iterator[tuple[str, FunctionType, str]]:
    """Yield (attribute, the function at fault, "snapshot" or "restore")."""
    if not saves_itself(cls) or cls.parts:
        return
    snapshot, restore = plain_function(cls.snapshot), plain_function(cls.restore)
    if snapshot is None or restore is None:
        return
    written, whole = _read_by(cls, snapshot), _takes_everything(cls, snapshot)
    rebuilt, all_rebuilt = _set_by(cls, restore), _takes_everything(cls, restore)
    for name in sorted(_changed(cls)):
        if not whole and name not in written and name not in rebuilt:
            yield name, snapshot, "snapshot"
        elif (whole or name in written) and not all_rebuilt and name not in rebuilt:
            yield name, restore, "restore"


def _changed(cls: type[StateMachine]) -> set[str]:
    """Return the attributes that a method changes: what a snapshot has to bring back."""
    found: set[str] = set()
    for owner in cls.__mro__:
        if owner in (StateMachine, object):
            continue
        for name, member in vars(owner).items():
            function = plain_function(member)
            if function is not None and name not in _NOT_CHANGED_BY:
                found |= _set_by(cls, function, follow=False)
    return found


def _methods(cls: type[StateMachine], function: FunctionType) -> Iterator[tuple[ast.AST, str]]:
    """Yield the tree of a method and of its own methods that it calls, with the name of `self`."""
    waiting, seen = [function], {function}
    while waiting:
        source = source_of(waiting.pop())
        if source is None or not source.tree.args.args:
            continue
        name = source.tree.args.args[0].arg
        yield source.tree, name
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name:
                called = plain_function(inspect.getattr_static(cls, node.attr, None))
                if called is not None and called not in seen:
                    seen.add(called)
                    waiting.append(called)


def _read_by(cls: type[StateMachine], function: FunctionType) -> set[str]:
    return {
        node.attr
        for tree, name in _methods(cls, function)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
    }


def _set_by(cls: type[StateMachine], function: FunctionType, *, follow: bool = True) -> set[str]:
    found: set[str] = set()
    for tree, name in _methods(cls, function):
        for node in ast.walk(tree):
            found |= _set_in(node, name)
        if not follow:
            break
    return found


def _set_in(node: ast.AST, name: str) -> set[str]:
    if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
        return _attribute_under(node, name)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        return _attribute_under(node.func.value, name)
    if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in {
        "setattr",
        "__setattr__",
    }:
        return {
            one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)
        }
    return set()


def _attribute_under(node: ast.expr, name: str) -> set[str]:
    """Return the attribute of self that an expression is in; none where it is of something else."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name:
            return {node.attr}
        node = node.func if isinstance(node, ast.Call) else node.value
    return set()


def _takes_everything(cls: type[StateMachine], function: FunctionType) -> bool:
    """Return whether it goes through all attributes: by vars(), __dict__, setattr with a name worked out."""
    for tree, _ in _methods(cls, function):
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in {"__dict__", "__annotations__"}:
                return True
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if called in _WHOLE:
                return True
            computed = len(node.args) > 1 and not isinstance(node.args[1], ast.Constant)
            if called in {"setattr", "getattr", "__setattr__"} and computed:
                return True
            if called in {"snapshot", "restore"}:
                return True
    return False
