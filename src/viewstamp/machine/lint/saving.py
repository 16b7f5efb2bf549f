"""`snapshot` against `restore` in a class that writes its own: what one of them forgets."""

import ast
import inspect
import re
from collections.abc import Iterator
from types import FunctionType
from typing import Final, get_args

from viewstamp.machine.lint.effects import plain_function
from viewstamp.machine.lint.float_text import called_name
from viewstamp.machine.lint.mutators import MUTATORS
from viewstamp.machine.lint.source import source_of
from viewstamp.machine.rules import RESTORE_DIFFERS, SNAPSHOT_OMITS, Rule
from viewstamp.machine.state_machine import StateMachine, annotated_state, saves_itself

_WHOLE: Final = frozenset({"vars", "asdict", "encode_state", "decode_state"})
"""Functions that take all attributes together."""
_NOT_CHANGED_BY: Final = frozenset({"snapshot", "restore", "__init__", "__new__"})

_CONVERTING: Final = (ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp, ast.For)
"""What goes through the parts of what was read: a `restore` with one of them is believed."""


def forgotten(cls: type[StateMachine]) -> Iterator[tuple[str, FunctionType, str]]:
    """Yield (attribute, the function at fault, "snapshot" or "restore")."""
    if not saves_itself(cls) or cls.parts:
        return
    snapshot, restore = plain_function(cls.snapshot), plain_function(cls.restore)
    if snapshot is None or restore is None:
        return
    written, whole = _read_by(cls, snapshot), _takes_everything(cls, snapshot)
    rebuilt, all_rebuilt = _set_by(cls, restore) | _handed_by(cls, restore), _takes_everything(cls, restore)
    for name in sorted(_changed(cls)):
        if not whole and name not in written and name not in rebuilt:
            yield name, snapshot, "snapshot"
        elif (whole or name in written) and not all_rebuilt and name not in rebuilt:
            yield name, restore, "restore"


def altered(cls: type[StateMachine]) -> Iterator[tuple[Rule, FunctionType, ast.AST, str]]:
    """Yield (rule, function, node, text) where a class saves a part only, or makes something else of it."""
    if not saves_itself(cls) or cls.parts:
        return
    snapshot, restore = plain_function(cls.snapshot), plain_function(cls.restore)
    if snapshot is None or restore is None:
        return
    source, back = source_of(snapshot), source_of(restore)
    if source is None or back is None:
        return
    converts = any(
        isinstance(one, _CONVERTING) for tree, _ in _methods(cls, restore) for one in ast.walk(tree)
    )
    for node in ast.walk(source.tree):
        for rule, text in _altered_by(node, _hints(cls), converts=converts):
            yield rule, snapshot, node, text
    for node in ast.walk(back.tree):
        if isinstance(node, ast.AugAssign) and _attribute_under(node.target, "self"):
            yield RESTORE_DIFFERS, restore, node, f"changes what was saved: {ast.unparse(node)}"


def _altered_by(node: ast.AST, hints: dict[str, str], *, converts: bool) -> Iterator[tuple[Rule, str]]:
    """Yield what an expression of `snapshot` does to an attribute: cut it, sort it, or write it as JSON."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        for name in _attribute_under(node, "self"):
            yield SNAPSHOT_OMITS, f"writes only a part of {name}: {ast.unparse(node)}"
    if not (isinstance(node, ast.Call) and node.args):
        return
    if called_name(node) == "sorted":
        for name in _attribute_under(node.args[0], "self"):
            if re.match(r"(list|List)\b", hints.get(name, "")):
                yield RESTORE_DIFFERS, f"writes {name} in another order"
    if called_name(node) == "dumps" and not converts:
        for name in sorted(_attributes_in(node)):
            why = _changed_by_json(hints.get(name, ""))
            if why:
                yield RESTORE_DIFFERS, f"writes {name} as JSON, which {why}"


def _attributes_in(node: ast.AST) -> set[str]:
    return {
        one.attr
        for one in ast.walk(node)
        if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == "self"
    }


def _hints(cls: type[StateMachine]) -> dict[str, str]:
    """Return the annotations of attributes as text, those in `__init__` included."""
    found = {name: ast.unparse(node) for name, node in _annotated_in_class(cls)}
    source = source_of(cls.__init__) if isinstance(cls.__init__, FunctionType) else None
    for node in ast.walk(source.tree) if source is not None else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            found[node.target.attr] = ast.unparse(node.annotation)
    return found


def _annotated_in_class(cls: type[StateMachine]) -> Iterator[tuple[str, ast.expr]]:
    for name, hint in annotated_state(cls).items():
        try:
            yield name, ast.parse(hint if isinstance(hint, str) else _text_of(hint), mode="eval").body
        except SyntaxError:
            continue


def _text_of(hint: object) -> str:
    return (
        hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
    )


def _changed_by_json(hint: str) -> str:
    """Say what JSON does to values of a type; "": it keeps them."""
    if re.search(r"(?:dict|Dict)\[(int|float|bool|tuple|bytes)", hint):
        return "makes texts of the keys"
    return "makes lists of tuples" if re.search(r"(?:tuple|Tuple)\[", hint) else ""


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


def _handed_by(cls: type[StateMachine], function: FunctionType) -> set[str]:
    """Return the attributes that it gives to a function as they are: that one fills them."""
    return {
        argument.attr
        for tree, name in _methods(cls, function)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for argument in node.args
        if isinstance(argument, ast.Attribute)
        and isinstance(argument.value, ast.Name)
        and argument.value.id == name
    }


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
