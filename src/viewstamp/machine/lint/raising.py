"""What an expression may raise because of what a client gave: a missing key, a text that makes no number.

Accused is only what the function does not look at first: a comparison, `in`, `get`, or a `try` around it.
"""

import ast
import base64
import binascii
import decimal
import fractions
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

from viewstamp.machine.lint.effects import Effects
from viewstamp.machine.lint.reader import Reader
from viewstamp.machine.lint.types import is_dict, origin_of, plain_or

_WITH_DEFAULT: Final = (Counter, defaultdict)
_SEQUENCES: Final = (list, tuple)
_CONVERSIONS: Final[dict[Any, str]] = {
    int: "ValueError", float: "ValueError", decimal.Decimal: "InvalidOperation",
    fractions.Fraction: "ValueError", json.loads: "JSONDecodeError",
    base64.b64decode: "binascii.Error", binascii.unhexlify: "binascii.Error",
}  # fmt: skip
"""What makes a value of a text, by identity, and what it raises for other texts."""
_CONVERTING_METHODS: Final = frozenset({"fromisoformat", "fromhex", "strptime"})


class Raising:
    """What may raise in one command."""

    def __init__(self, reader: Reader, effects: Effects) -> None:
        self._reader = reader
        self._effects = effects
        self._tree = reader.source.tree
        arguments = self._tree.args
        self._given = {argument.arg for argument in arguments.args[1:] + arguments.kwonlyargs}
        """Names that stand for what a client gave, or a part of it."""
        for _ in range(2):
            self._given |= set(self._parts_of_given())

    def _parts_of_given(self) -> Iterator[str]:
        for node in ast.walk(self._tree):
            if isinstance(node, (ast.For, ast.comprehension)) and self._is_given(node.iter):
                yield from (one.id for one in ast.walk(node.target) if isinstance(one, ast.Name))

    def why(self, node: ast.AST) -> str | None:
        """Return the name of the exception that this node may raise; None: none that can be seen."""
        match node:
            case ast.Subscript():
                return self._of_subscript(node)
            case ast.Call():
                return self._of_call(node)
            case ast.BinOp(op=ast.Div() | ast.FloorDiv() | ast.Mod()):
                divided = plain_or(self._reader.kinds.kind(node.left)) is not str
                is_free = divided and self._is_given(node.right) and not self._is_compared(node.right)
                return "ZeroDivisionError" if is_free else None
            case ast.Assign(targets=[ast.Tuple() | ast.List() as target]):
                return self._of_unpacking(target, node.value)
            case _:
                return None

    def _of_subscript(self, node: ast.Subscript) -> str | None:
        is_assigned = isinstance(node.ctx, ast.Store) and not self._is_augmented(node)
        if self._is_key_unchecked(node.value, node.slice, node):
            return None if is_assigned else "KeyError"
        kind = origin_of(plain_or(self._reader.kinds.kind(node.value)))
        is_place = kind in _SEQUENCES and self._effects.is_inside(node.value) and self._is_given(node.slice)
        return (
            "IndexError" if is_place and not self._is_compared(node.slice) and not self._attempts() else None
        )

    def _of_call(self, node: ast.Call) -> str | None:
        function = node.func
        if isinstance(function, ast.Attribute) and len(node.args) == 1:
            base, argument = function.value, node.args[0]
            if function.attr == "pop":
                return "KeyError" if self._is_key_unchecked(base, argument, node) else None
            kind = origin_of(plain_or(self._reader.kinds.kind(base)))
            if function.attr in {"remove", "index"} and kind is list and self._effects.is_inside(base):
                is_free = self._is_given(argument) and not self._is_compared(argument)
                return "ValueError" if is_free and not self._attempts() else None
        return self._of_conversion(node)

    def _of_conversion(self, node: ast.Call) -> str | None:
        if not node.args or not self._is_given(node.args[0]) or self._attempts():
            return None
        found = self._reader.scope.resolve(node.func)
        called = found[0] if found else None
        kind = plain_or(self._reader.kinds.kind(node.args[0]))
        is_text = kind in {str, bytes}
        if isinstance(called, type) and issubclass(called, Enum):
            return "ValueError" if not self._is_compared(node.args[0]) and kind in {str, int} else None
        if not is_text:
            return None
        if isinstance(node.func, ast.Attribute) and node.func.attr in _CONVERTING_METHODS:
            return "ValueError"
        if self._is_looked_at(node.args[0]):
            return None
        if getattr(called, "__module__", "") == "uuid" and isinstance(called, type):
            return "ValueError"
        try:
            return _CONVERSIONS.get(called)
        except TypeError:  # what is called cannot be hashed
            return None

    def _of_unpacking(self, target: ast.Tuple | ast.List, value: ast.expr) -> str | None:
        if any(isinstance(one, ast.Starred) for one in target.elts) or self._attempts():
            return None
        is_split = isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)
        if is_split and value.func.attr in {"split", "rsplit"} and self._is_given(value.func.value):  # type: ignore[attr-defined]
            return None if self._is_looked_at(value.func.value) else "ValueError"  # type: ignore[attr-defined]
        return None

    # What the function looks at

    def _is_given(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in self._given

    def _attempts(self) -> bool:
        return any(isinstance(one, ast.Try) for one in ast.walk(self._tree))

    def _is_looked_at(self, node: ast.expr) -> bool:
        """Return whether a text is asked for anything, such as `isdigit`, or compared."""
        text = ast.unparse(node)
        asked = any(
            isinstance(one, (ast.If, ast.IfExp, ast.While))
            and text in {ast.unparse(part) for part in ast.walk(one.test) if isinstance(part, ast.expr)}
            for one in ast.walk(self._tree)
        )
        return asked or self._is_compared(node)

    def _is_augmented(self, node: ast.Subscript) -> bool:
        return any(isinstance(one, ast.AugAssign) and one.target is node for one in ast.walk(self._tree))

    def _is_compared(self, node: ast.expr) -> bool:
        text = ast.unparse(node)
        for one in ast.walk(self._tree):
            if isinstance(one, ast.Compare) and any(
                ast.unparse(part) == text for part in [one.left, *one.comparators]
            ):
                return True
            if isinstance(one, (ast.If, ast.IfExp, ast.While)) and text in {
                ast.unparse(part) for part in ast.walk(one.test) if isinstance(part, ast.expr)
            }:
                return True
        return False

    def _is_key_unchecked(self, base: ast.expr, key: ast.expr, node: ast.AST) -> bool:
        """Return whether a client's key is looked up in a mapping of the state that may not have it."""
        kind = plain_or(self._reader.kinds.kind(base))
        if not is_dict(kind) or origin_of(kind) in _WITH_DEFAULT:
            return False
        if not (self._is_given(key) and self._effects.is_inside(base)):
            return False
        text, key_text = ast.unparse(base), ast.unparse(key)
        if any(_looks(one, text, key_text, getattr(node, "lineno", 0)) for one in ast.walk(self._tree)):
            return False
        return not self._attempts()


def _looks(node: ast.AST, text: str, key: str, line: int) -> bool:
    """Return whether a node asks a mapping for its keys, or puts or finds this key before a line."""
    if isinstance(node, ast.Compare) and any(ast.unparse(part) == text for part in node.comparators):
        return True
    if getattr(node, "lineno", line) >= line:
        return False
    if isinstance(node, ast.Subscript):
        return (ast.unparse(node.value), ast.unparse(node.slice)) == (text, key)
    if not (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == text
        and node.args
    ):
        return False
    first = node.args[0]
    if node.func.attr == "update" and isinstance(first, ast.Dict):
        return key in {ast.unparse(one) for one in first.keys if one is not None}
    return node.func.attr in {"get", "setdefault"} and ast.unparse(first) == key
