"""Floats as text: where a text of a float is kept, returned or read back."""

import ast
import re
from collections.abc import Iterator
from typing import Final

from viewstamp.machine.lint.types import Inference, plain_or

_KEEPING: Final = frozenset({
    "get", "pop", "setdefault", "add", "append", "insert", "discard", "remove", "float",
})  # fmt: skip
"""Calls that look a text up, or keep it, or make a number of it."""
_CONVERSIONS: Final = re.compile(r"%[^%a-zA-Z]*[sra]")
_FORMATS: Final = re.compile(r"\{[^{}]*:[^{}]+\}")
_MAKERS: Final = frozenset({"str", "repr", "format"})


class FloatText:
    """Finds where a float becomes text in a command, other than for a message."""

    def __init__(
        self, kinds: Inference, tree: ast.AST, parents: dict[ast.AST, ast.AST], *, is_query: bool
    ) -> None:
        self._kinds = kinds
        self._tree = tree
        self._parents = parents
        self._is_query = is_query

    def of_call(self, node: ast.Call) -> str | None:
        """Say what is wrong with `str(x)`, `format(x)`, `"{}".format(x)`, `float(text of a float)`."""
        name = called_name(node)
        if name in _MAKERS and node.args and isinstance(node.func, ast.Name):
            return self._of_value(node.args[0], node, is_exact=len(node.args) > 1)
        if name == "format" and isinstance(node.func, ast.Attribute):
            exact = isinstance(node.func.value, ast.Constant) and bool(
                _FORMATS.search(str(node.func.value.value))
            )
            return self._first(node.args, node, is_exact=exact)
        if name == "dumps" and node.args:
            return self._first(_values(node.args[0]), node, is_exact=False)
        if name == "float" and node.args and self._is_own_text(node.args[0]):
            return "turns a text of a float back into a number"
        return None

    def of_text(self, node: ast.JoinedStr) -> str | None:
        """Say what is wrong with a formatted text."""
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                text = self._of_value(value.value, node, is_exact=value.format_spec is not None)
                if text is not None:
                    return text
        return None

    def of_operator(self, node: ast.BinOp) -> str | None:
        """Say what is wrong with `"%s" % x`."""
        left = node.left
        if not (
            isinstance(node.op, ast.Mod) and isinstance(left, ast.Constant) and isinstance(left.value, str)
        ):
            return None
        items = node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
        return self._first(items, node, is_exact=not _CONVERSIONS.search(left.value))

    def _first(self, items: list[ast.expr], text: ast.expr, *, is_exact: bool) -> str | None:
        found = (self._of_value(item, text, is_exact=is_exact) for item in items)
        return next((one for one in found if one is not None), None)

    def _of_value(self, value: ast.expr, text: ast.expr, *, is_exact: bool) -> str | None:
        if self._is_query or plain_or(self._kinds.kind(value)) is not float or self._is_in_message(text):
            return None
        if is_exact and not self._is_kept(text):
            return None
        return f"keeps or returns the float {ast.unparse(value)} as text"

    def _is_in_message(self, node: ast.AST) -> bool:
        """Return whether the text is that of an exception, whose text no replica compares."""
        while (parent := self._parents.get(node)) is not None:
            if isinstance(parent, (ast.Raise, ast.Assert)) or is_of_log(parent):
                return True
            node = parent
        return False

    def _is_kept(self, node: ast.expr) -> bool:
        """Return whether the text goes into the state or becomes a key."""
        parent = self._parents.get(node)
        while isinstance(parent, (ast.JoinedStr, ast.FormattedValue, ast.BinOp, ast.Tuple, ast.IfExp)):
            node, parent = parent, self._parents.get(parent)
        if isinstance(parent, ast.Subscript):
            return parent.slice is node
        if isinstance(parent, ast.Call):
            return called_name(parent) in _KEEPING
        if isinstance(parent, ast.Assign):
            if any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in parent.targets):
                return True
            names = {target.id for target in parent.targets if isinstance(target, ast.Name)}
            return any(self._is_kept(one) for one in self._loads(names))
        return False

    def _loads(self, names: set[str]) -> Iterator[ast.Name]:
        for one in ast.walk(self._tree):
            if isinstance(one, ast.Name) and one.id in names and isinstance(one.ctx, ast.Load):
                yield one

    def _is_own_text(self, node: ast.expr) -> bool:
        """Return whether the expression makes a text of a float right here."""
        for one in ast.walk(node):
            if isinstance(one, ast.JoinedStr) or (isinstance(one, ast.Call) and called_name(one) in _MAKERS):
                parts = [part for part in ast.walk(one) if isinstance(part, (ast.Name, ast.Attribute))]
                return any(plain_or(self._kinds.kind(part)) is float for part in parts)
        return False


def _values(node: ast.expr) -> list[ast.expr]:
    """Return the values of a dict or list that is written out; else the expression itself."""
    match node:
        case ast.Dict():
            return [inner for value in node.values for inner in _values(value)]
        case ast.List() | ast.Tuple():
            return [inner for value in node.elts for inner in _values(value)]
        case _:
            return [node]


def is_of_log(node: ast.AST) -> bool:
    """Return whether it is a call such as `log.debug(...)` or `print(...)`."""
    if not isinstance(node, ast.Call):
        return False
    name = called_name(node)
    return name in {"print", "debug", "info", "warning", "error", "exception", "critical"}


def called_name(node: ast.Call) -> str:
    """Return the last part of the name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
