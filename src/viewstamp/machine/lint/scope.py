"""Names: what an expression in a function stands for outside of it, without running anything."""

import ast
import builtins
import inspect
import sys
from collections.abc import Iterator
from random import Random
from types import FunctionType, ModuleType
from typing import Any, Final

BINDERS: Final = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar,
)  # fmt: skip
"""Syntax that binds its `name`."""
_STANDARD: Final = frozenset(sys.stdlib_module_names)


def bound_names(tree: ast.AST) -> set[str]:
    """Return what the function binds itself: parameters, assignments, loops, imports, nested functions."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, BINDERS) and node is not tree and node.name:
            names.add(node.name)
    return names


class Scope:
    """The names of one function."""

    def __init__(
        self, function: FunctionType, tree: ast.AST, self_name: str | None, owner: type | None
    ) -> None:
        self.function = function
        self._self = self_name
        self._owner = owner
        self.bound = bound_names(tree)
        self._imported = dict(_imports(tree))
        self._aliases = dict(_aliases(tree))
        self._following: set[str] = set()
        declared = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
        self.bound -= declared
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        self._cells = dict(cells)

    @property
    def self_name(self) -> str | None:
        """The name of the instance in a method; None: it is none."""
        return self._self

    def resolve(self, node: ast.expr) -> tuple[Any] | None:
        """Return, in a tuple, the outside object that an expression names; None if it is local or unknown."""
        match node:
            case ast.Name():
                return self._of_name(node.id)
            case ast.Attribute():
                return self._of_attribute(node)
            case ast.Call():
                return self._of_call(node)
            case _:
                return None

    def _of_name(self, name: str) -> tuple[Any] | None:
        if name in self._imported:
            return _import(*self._imported[name])
        if name in self._aliases and name not in self._following:
            self._following.add(name)
            try:
                return self.resolve(self._aliases[name])
            finally:
                self._following.discard(name)
        if name in self.bound or name == self._self:
            return None
        if name in self._cells:
            try:
                return (self._cells[name].cell_contents,)
            except ValueError:
                return None
        if name in self.function.__globals__:
            return (self.function.__globals__[name],)
        return (getattr(builtins, name),) if hasattr(builtins, name) else None

    def _of_attribute(self, node: ast.Attribute) -> tuple[Any] | None:
        if isinstance(node.value, ast.Name) and node.value.id == self._self and self._self is not None:
            return None
        outer = self.resolve(node.value)
        if outer is None:
            return None
        # Bound methods are made by getattr; of modules and built-in types that runs no user's code.
        trusted = isinstance(outer[0], (ModuleType, type, Random))
        try:
            return ((getattr if trusted else inspect.getattr_static)(outer[0], node.attr),)
        except AttributeError:
            return None

    def _of_call(self, node: ast.Call) -> tuple[Any] | None:
        """Return what `getattr(module, "name")` and `__import__("module")` stand for."""
        constants = [
            one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)
        ]
        called = self.resolve(node.func) if isinstance(node.func, (ast.Name, ast.Attribute)) else None
        if called is None or not constants:
            return None
        if called[0] is getattr and len(node.args) == 2:
            return self._of_attribute(ast.Attribute(node.args[0], constants[0], ast.Load()))
        if getattr(called[0], "__name__", "") in {"__import__", "import_module"}:
            return _import(constants[0], None)
        return None


def _imports(tree: ast.AST) -> Iterator[tuple[str, tuple[str, str | None]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.split(".")[0]
                yield alias.asname or name, (name, None)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, (node.module, alias.name)


def _aliases(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield names that are assigned once, from a name or attribute: `clock = time.time`."""
    assigned: dict[str, list[ast.expr]] = {}
    others: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            assigned.setdefault(node.targets[0].id, []).append(node.value)
        elif isinstance(node, (ast.AugAssign, ast.For, ast.comprehension)):
            others |= {one.id for one in ast.walk(node.target) if isinstance(one, ast.Name)}
    for name, values in assigned.items():
        if (
            len(values) == 1
            and name not in others
            and isinstance(values[0], (ast.Name, ast.Attribute, ast.Call))
        ):
            yield name, values[0]


def _import(module: str, name: str | None) -> tuple[Any] | None:
    """Return what an import statement binds; only the standard library is imported for it."""
    found = sys.modules.get(module)
    if found is None and module.split(".", maxsplit=1)[0] in _STANDARD:
        try:
            __import__(module)
        except ImportError:
            return None
        found = sys.modules.get(module)
    if found is None:
        return None
    if name is None:
        return (found,)
    return (getattr(found, name),) if hasattr(found, name) else None
