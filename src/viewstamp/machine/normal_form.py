"""The syntax of a function without what no result depends on: names of local variables, and logging.

`x = 1` and `count = 1` become the same tree, and so does a function with a line to a log and without it.
Names of parameters stay, because a caller may use them, and names of nested functions and imports.

A statement that logs is left out only where its arguments cannot do anything: constants, names that have a
value there, and attributes of the state. A function that looks at its own names (`locals`) stays as it is.
"""

import ast
import copy
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, TypeVar

from viewstamp.machine.code_text import Tree

Resolve = Callable[[ast.expr], tuple[Any] | None]
"""Returns what an expression stands for outside of a function, in a tuple; None: it is local or unknown."""

_LOOKS_AT_NAMES: Final = frozenset(("locals", "vars", "dir", "eval", "exec", "globals"))
_LOGGERS: Final = frozenset(("logging", "structlog", "loguru"))
_LOG_METHODS: Final = frozenset(
    ("debug", "info", "warning", "warn", "error", "exception", "critical", "log", "trace", "success")
)
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_NAMED: Final = (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
N = TypeVar("N", bound=ast.AST)


def normal_form(tree: Tree, resolve: Resolve, state: Collection[str], *, drop_unused: bool = False) -> Tree:
    """Return the tree in its normal form. The tree itself stays as it is.

    `state` names the attributes that a statement to a log may read. With `drop_unused` parameters that have a
    default and are not used are left out: for a command, whose interface tells them apart.
    """
    binds = logs = deletes = False
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) or (isinstance(node, ast.Name) and node.id in _LOOKS_AT_NAMES):
            return tree
        binds = binds or (isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load))
        binds = binds or (isinstance(node, (*_NAMED, ast.MatchMapping, ast.Lambda)))
        logs = logs or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
        deletes = deletes or isinstance(node, ast.Delete)
    made = tree
    if logs and not deletes and not isinstance(tree, ast.Lambda):
        made = _Logless(resolve, _first(tree), state).tree(tree)
    if drop_unused and not isinstance(made, ast.Lambda):
        made = _without_unused(made)
    return _renamed(made) if binds else made


def _first(tree: Tree) -> str:
    given = [*tree.args.posonlyargs, *tree.args.args]
    return given[0].arg if given else ""


def _with(node: N, **fields: Any) -> N:
    """Return a copy of the node with other fields."""
    made = copy.copy(node)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


# Logging


class _Logless:
    """Leaves out the statements of one function that only write to a log."""

    def __init__(self, resolve: Resolve, me: str, state: Collection[str]) -> None:
        self._resolve = resolve
        self._me = me
        self._state = state

    def tree(self, tree: ast.FunctionDef | ast.AsyncFunctionDef) -> Tree:
        given = {each.arg for each in ast.walk(tree.args) if isinstance(each, ast.arg)}
        return _with(tree, body=self._block(tree.body, given))

    def _block(self, body: list[ast.stmt], defined: set[str]) -> list[ast.stmt]:
        """Return the statements that count; `defined` are the names that have a value before them."""
        defined, kept = set(defined), list[ast.stmt]()
        for each in body:
            if self._only_logs(each, defined):
                continue
            within = defined | set(_targets_within(each))
            blocks = {
                name: self._block(value, within)
                for name, value in ast.iter_fields(each)
                if isinstance(value, list) and value and isinstance(value[0], ast.stmt)
                if not isinstance(each, _FUNCTIONS)
            }
            kept.append(_with(each, **blocks) if blocks else each)
            defined |= set(_targets_after(each))
        return kept

    def _only_logs(self, statement: ast.stmt, defined: Collection[str]) -> bool:
        if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
            return False
        call = statement.value
        if not self._is_log(call.func):
            return False
        given = [*call.args, *(each.value for each in call.keywords if each.arg is not None)]
        return len(given) == len(call.args) + len(call.keywords) and all(
            self._does_nothing(each, defined) for each in given
        )

    def _is_log(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Name):
            return function.id == "print" and self._resolve(function) == (print,)
        if not isinstance(function, ast.Attribute) or function.attr not in _LOG_METHODS:
            return False
        found = self._resolve(function.value)
        if found is None:
            return False
        module = (
            getattr(found[0], "__name__", "")
            if isinstance(found[0], type(ast))
            else type(found[0]).__module__
        )
        return module.partition(".")[0] in _LOGGERS

    def _does_nothing(self, value: ast.expr, defined: Collection[str]) -> bool:
        """Return whether a value can be looked at without doing or raising anything."""
        match value:
            case ast.Constant():
                return True
            case ast.Name():
                return value.id in defined
            case ast.Attribute(value=ast.Name(id=self._me)):
                return value.attr in self._state
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id=self._me), attr="context")):
                return True
            case ast.JoinedStr():
                return all(self._does_nothing(each, defined) for each in value.values)
            case ast.FormattedValue():
                return value.format_spec is None and self._does_nothing(value.value, defined)
            case ast.Tuple() | ast.List():
                return all(self._does_nothing(each, defined) for each in value.elts)
            case _:
                return False


def _names_stored(node: ast.AST) -> Iterator[str]:
    return (
        each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    )


def _targets_within(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that have a value inside of the statement."""
    if isinstance(statement, ast.For | ast.AsyncFor):
        return  # its `else` runs without
    if isinstance(statement, ast.With | ast.AsyncWith):
        for item in statement.items:
            if item.optional_vars is not None:
                yield from _names_stored(item.optional_vars)


def _targets_after(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that have a value after the statement, whatever happened in it."""
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            yield from _names_stored(target)
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        yield from _names_stored(statement.target)


# Parameters


def _without_unused(tree: ast.FunctionDef | ast.AsyncFunctionDef) -> Tree:
    used = {node.id for each in tree.body for node in ast.walk(each) if isinstance(node, ast.Name)}
    arguments = tree.args
    with_default = len(arguments.args) - len(arguments.defaults)
    kept = list(arguments.args)
    defaults = list(arguments.defaults)
    while len(kept) > with_default and defaults and kept[-1].arg not in used:
        kept.pop()
        defaults.pop()
    return _with(tree, args=_with(arguments, args=kept, defaults=defaults))


# Local variables


class _Names:
    """The names that one function or comprehension binds, each with the one that stands for it."""

    def __init__(self, bound: Collection[str], outer: "_Names | None", kept: Collection[str] = ()) -> None:
        """`kept` are names that are bound here and stay as they are; they hide those of outside."""
        self._bound = bound
        self._kept = kept
        self._outer = outer
        self._given: dict[str, str] = {}
        self.depth: int = 0 if outer is None else outer.depth + 1

    def of(self, name: str) -> str:
        """Return what stands for a name: numbers count in the order in which names are met."""
        if name in self._bound:
            return self._given.setdefault(name, f"local {self.depth}.{len(self._given)}")
        return name if self._outer is None or name in self._kept else self._outer.of(name)


def _renamed(tree: Tree) -> Tree:
    return _with(tree, body=_Renaming().any(tree.body, _scope(tree, None)))


class _Renaming:
    """Gives the local variables of a function numbers."""

    def any(self, value: Any, names: _Names) -> Any:
        if isinstance(value, list):
            return [self.any(each, names) for each in value]
        return self._node(value, names) if isinstance(value, ast.AST) else value

    def _node(self, node: ast.AST, names: _Names) -> ast.AST:
        if isinstance(node, ast.Name):
            return _with(node, id=names.of(node.id))
        if isinstance(node, _FUNCTIONS):
            return self._function(node, names)
        if isinstance(node, ast.Call):
            return _with(
                node,
                func=self.any(node.func, names),
                args=[self._argument(each, names) for each in node.args],
                keywords=[_with(each, value=self._argument(each.value, names)) for each in node.keywords],
            )
        if isinstance(node, ast.Lambda):
            return self._lambda(node, names, rename_parameters=False)
        if isinstance(node, _COMPREHENSIONS):
            return self._comprehension(node, names)
        made = self._children(node, names)
        if isinstance(node, _NAMED) and node.name:
            made = _with(made, name=names.of(node.name))
        elif isinstance(node, ast.MatchMapping) and node.rest:
            made = _with(made, rest=names.of(node.rest))
        elif isinstance(node, ast.Nonlocal):
            made = _with(made, names=[names.of(each) for each in node.names])
        return made

    def _children(self, node: ast.AST, names: _Names) -> ast.AST:
        changed = {
            name: self.any(value, names)
            for name, value in ast.iter_fields(node)
            if isinstance(value, list | ast.AST)
        }
        return _with(node, **changed) if changed else node

    def _argument(self, node: ast.expr, names: _Names) -> ast.AST:
        """Return the argument of a call: the one that is called gives a lambda its parameters by place."""
        if isinstance(node, ast.Lambda):
            return self._lambda(node, names, rename_parameters=True)
        return self._node(node, names)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, names: _Names) -> ast.AST:
        inner = _scope(node, names)
        return _with(
            node,
            args=self.any(node.args, names),
            decorator_list=self.any(node.decorator_list, names),
            body=self.any(node.body, inner),
        )

    def _lambda(self, node: ast.Lambda, names: _Names, *, rename_parameters: bool) -> ast.AST:
        inner = _scope(node, names, with_parameters=rename_parameters)
        arguments = self.any(node.args, names)
        if rename_parameters:
            arguments = _renamed_parameters(arguments, inner)
        return _with(node, args=arguments, body=self.any(node.body, inner))

    def _comprehension(self, node: ast.AST, names: _Names) -> ast.AST:
        generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
        inner = _Names({name for each in generators for name in _names_stored(each.target)}, names)
        first = self.any(generators[0].iter, names)
        made = self._children(_with(node, generators=generators), inner)
        made.generators[0] = _with(made.generators[0], iter=first)  # type: ignore[attr-defined]
        return made


def _renamed_parameters(arguments: ast.arguments, names: _Names) -> ast.arguments:
    def renamed(each: ast.arg) -> ast.arg:
        return _with(each, arg=names.of(each.arg))

    return _with(
        arguments,
        posonlyargs=[renamed(each) for each in arguments.posonlyargs],
        args=[renamed(each) for each in arguments.args],
    )


def _scope(tree: Tree, outer: _Names | None, *, with_parameters: bool = False) -> _Names:
    """Return the names of one function; of its parameters those that are given by place, if at all."""
    bound, kept, outside = set[str](), set[str](), set[str]()
    for each in tree.body if isinstance(tree.body, list) else [tree.body]:
        _collect(each, bound, kept, outside)
    by_place = {each.arg for each in (*tree.args.posonlyargs, *tree.args.args)}
    given = {each.arg for each in ast.walk(tree.args) if isinstance(each, ast.arg)}
    kept |= given - by_place if with_parameters else given
    if with_parameters:
        bound |= by_place
    return _Names(bound - kept - outside, outer, kept)


def _collect(node: ast.AST, bound: set[str], kept: set[str], outside: set[str]) -> None:
    """Add the names that a piece of a function binds in it.

    `bound` are its local variables, `kept` the names that stay, `outside` variables of functions around it.
    """
    if isinstance(node, _FUNCTIONS):
        kept.add(node.name)
    elif isinstance(node, _COMPREHENSIONS):
        bound.update(each.target.id for each in ast.walk(node) if isinstance(each, ast.NamedExpr))
    elif not isinstance(node, ast.Lambda):
        if isinstance(node, ast.alias):
            kept.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Global | ast.Nonlocal):
            (kept if isinstance(node, ast.Global) else outside).update(node.names)
        else:
            bound.update(_bound_by(node))
        for child in ast.iter_child_nodes(node):
            _collect(child, bound, kept, outside)


def _bound_by(node: ast.AST) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        return () if isinstance(node.ctx, ast.Load) else (node.id,)
    name = node.name if isinstance(node, _NAMED) else getattr(node, "rest", None)
    return (name,) if isinstance(name, str) else ()
