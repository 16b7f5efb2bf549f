"""The source of a function as a tree, where it stands, and which rules its comments allow."""

import ast
import inspect
import re
import textwrap
from functools import lru_cache
from types import FunctionType
from typing import Any, Final

import msgspec

_ALLOW: Final = re.compile(r"#\s*viewstamp:\s*allow\s+(VS\d{3}(?:\s*,\s*VS\d{3})*)[ \t:,-]*(\S.*)?$")
_CACHED: Final = 4_096
_STATEMENT_LINES_MAX: Final = 20


class Source(msgspec.Struct, frozen=True):
    """A function's own source."""

    tree: ast.FunctionDef | ast.AsyncFunctionDef
    file: str
    first_line: int
    lines: tuple[str, ...]
    above: str
    """The line before the first."""

    def line(self, node: ast.AST) -> int:
        """Return the line of the file where a node begins."""
        return self.first_line + int(getattr(node, "lineno", 1)) - 1

    def allows(self, code: str, node: ast.AST) -> bool:
        """Return whether a comment with a reason allows this rule here, above, or for the whole function."""
        at = int(getattr(node, "lineno", 1))
        end = min(int(getattr(node, "end_lineno", at) or at), at + _STATEMENT_LINES_MAX)
        places = [] if node is self.tree else [at - 1, *range(at, end + 1)]
        return any(self._allows(code, number) for number in [*places, *range(self.tree.body[0].lineno)])

    def _allows(self, code: str, number: int) -> bool:
        return code in allowed(self._text(number))

    def _text(self, number: int) -> str:
        """Return a line of the function; the one before it is number 0."""
        if number < 1:
            return self.above
        return self.lines[number - 1] if number <= len(self.lines) else ""


def allowed(line: str) -> frozenset[str]:
    """Return the codes that a comment on this line allows. One without a reason allows nothing."""
    found = _ALLOW.search(line)
    if found is None or not found[2]:
        return frozenset()
    return frozenset(re.findall(r"VS\d{3}", found[1]))


@lru_cache(_CACHED)
def source_of(function: FunctionType) -> Source | None:
    """Return the source of a function; None where it is not at hand."""
    try:
        lines, first = inspect.getsourcelines(function)
        whole = inspect.findsource(function)[0]
        parsed = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, ValueError, IndentationError):
        return None
    found = parsed.body[0] if parsed.body else None
    if not isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return None
    return Source(
        found, function.__code__.co_filename, first, tuple(lines), whole[first - 2] if first > 1 else ""
    )


@lru_cache(_CACHED)
def module_tree(module: Any) -> ast.Module | None:
    """Return the tree of a whole module; None where its source is not at hand."""
    try:
        return ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
