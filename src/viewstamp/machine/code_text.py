"""What a function does, as text that layout cannot change.

Comments, docstrings, annotations, line numbers and the version of Python leave no trace in the text: it is
made of the syntax tree. Where there is no source, the bytecode stands for it, which only the same version of
Python can compare (`comparable`).
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, Final

Tree = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_OF_THIS_PYTHON: Final = f"py{sys.version_info[0]}.{sys.version_info[1]} "
_LEFT_OUT: Final = frozenset(
    ("ctx", "type_comment", "kind", "type_ignores", "type_params", "annotation", "returns")
)
_FILES_MAX: Final = 1_024
_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


def comparable(before: str, now: str) -> bool:
    """Return whether both were made in a way that lets them be compared."""
    return _made_by(before) == _made_by(now)


def _made_by(text: str) -> str:
    return text.partition(" ")[0] if text.startswith("py") else ""


def code_text(function: FunctionType) -> str:
    """Return what a function does; its name and its own decorators are not in it."""
    tree = tree_of(function)
    if tree is None:
        return _OF_THIS_PYTHON + _bytecode(function.__code__)
    return text_of_tree(tree)


def text_of_tree(tree: Tree) -> str:
    """Return what a function with this syntax does."""
    rest = [tree.body] if isinstance(tree, ast.Lambda) else _without_comment(tree.body)
    return "\n".join(_dump(part) for part in (tree.args, *rest))


def tree_of(function: FunctionType) -> Tree | None:
    """Return the function's syntax; None where its source is not at hand."""
    code = function.__code__
    try:
        found = _functions_in(code.co_filename, code).get((code.co_firstlineno, code.co_name), [])
    except (OSError, TypeError, SyntaxError, ValueError, RecursionError):
        return None
    if len(found) > 1:
        found = [tree for tree in found if _parameters(tree) == code.co_varnames[: len(_parameters(tree))]][
            :1
        ]
    return found[0] if len(found) == 1 else None


def names_in(tree: Tree) -> Iterator[ast.Name | ast.Attribute]:
    """Yield what a function names while it runs: not in annotations, nor in its own decorators."""
    pending: list[ast.AST] = [tree.args, *([tree.body] if isinstance(tree, ast.Lambda) else tree.body)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name | ast.Attribute):
            yield node
        for field, value in ast.iter_fields(node):
            if field not in _LEFT_OUT:
                pending += [
                    each
                    for each in (value if isinstance(value, list) else [value])
                    if isinstance(each, ast.AST)
                ]


class _Key(str):
    """The name of a file, with a code object that stands in it beside: what the cache does not look at."""

    __slots__ = ("code",)
    code: CodeType


def _functions_in(file: str, code: CodeType) -> dict[tuple[int, str], list[Tree]]:
    key = _Key(file)
    key.code = code
    return _read_file(key)


@lru_cache(_FILES_MAX)
def _read_file(file: _Key) -> dict[tuple[int, str], list[Tree]]:
    lines, _ = inspect.findsource(file.code)
    found: dict[tuple[int, str], list[Tree]] = {}
    for node in ast.walk(ast.parse("".join(lines))):
        if isinstance(node, _DEFINITIONS):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            found.setdefault((first, node.name), []).append(node)
        elif isinstance(node, ast.Lambda):
            found.setdefault((node.lineno, "<lambda>"), []).append(node)
    return found


def _parameters(tree: Tree) -> tuple[str, ...]:
    return tuple(each.arg for each in (*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs))


def _bytecode(code: CodeType) -> str:
    constants = (_bytecode(each) if isinstance(each, CodeType) else ascii(each) for each in code.co_consts)
    return ascii((code.co_code, code.co_names, code.co_varnames, sorted(constants)))


def _dump(node: Any) -> str:
    match node:
        case ast.Constant(value=value):
            return f"{type(value).__name__} {value:x}" if type(value) is int else ascii(value)
        case ast.JoinedStr():
            return f"JoinedStr({', '.join(_parts_of_text(node))})"
        case ast.AnnAssign(value=ast.expr()):
            return f"Assign([{_dump(node.target)}], {_dump(node.value)})"
        case ast.Assign():
            return f"Assign([{', '.join(map(_dump, node.targets))}], {_dump(node.value)})"
        case ast.AST():
            return f"{type(node).__name__}({', '.join(_fields(node))})"
        case _:
            return ascii(node)


def _fields(node: ast.AST) -> Iterator[str]:
    for name, value in ast.iter_fields(node):
        if name in _LEFT_OUT or value is None or value == []:
            continue
        if isinstance(value, list):
            kept = _without_comment(value) if name == "body" else value
            yield f"{name}=[{', '.join(map(_dump, kept))}]"
        else:
            yield f"{name}={_dump(value)}"


def _without_comment(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return the statements without strings that stand for themselves, and `pass`: they do nothing."""
    kept = []
    for each in body:
        is_text = isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
        is_declaration = isinstance(each, ast.AnnAssign) and each.value is None
        if not (is_text or is_declaration or isinstance(each, ast.Pass)):
            kept.append(each)
    return kept


def _parts_of_text(node: ast.JoinedStr) -> Iterator[str]:
    """Yield the parts of an f-string. Versions of Python join its constant parts differently."""
    constant = ""
    for part in node.values:
        if isinstance(part, ast.Constant):
            constant += str(part.value)
            continue
        if constant:
            yield ascii(constant)
        constant = ""
        yield _dump(part)
    if constant:
        yield ascii(constant)
