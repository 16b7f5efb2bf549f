"""What a function changes in place: of its machine, and of what it is given."""

import ast
import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any, Final

from viewstamp.machine.lint.mutators import CHANGING_FUNCTIONS, MUTATORS
from viewstamp.machine.lint.scope import Scope
from viewstamp.machine.lint.source import source_of
from viewstamp.machine.lint.types import Inference, is_mutable
from viewstamp.machine.state_machine import Operation

_READERS: Final = frozenset({"get", "setdefault", "values", "items", "__getitem__"})
"""Methods that return what a container holds, itself and not a copy."""


_PICKING: Final = frozenset({"next", "min", "max"})
"""Functions that return one of what they are given."""
_PASSING: Final = frozenset({"list", "tuple", "sorted", "reversed", "iter", "filter", "enumerate", "zip"})
"""Functions whose result holds what their arguments hold."""


class Effects:
    """The changes that one function makes, given the names whose objects are looked after."""

    def __init__(
        self,
        function: FunctionType,
        tree: ast.AST,
        roots: set[str],
        *,
        owner: type | None,
        self_name: str | None,
        kinds: Inference,
        scope: Scope,
    ) -> None:
        self.function = function
        self.tree = tree
        self._owner = owner
        self._self = self_name
        self._kinds = kinds
        self._scope = scope
        self._roots = set(roots)
        for _ in range(2):
            self._follow_aliases()

    def _follow_aliases(self) -> None:
        """Names that stand for something inside a root are roots as well."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and self.is_inside(node.value):
                self._take(node.targets)
            elif isinstance(node, ast.NamedExpr):
                self._take([node.target] if self.is_inside(node.value) else [])
            elif isinstance(node, (ast.For, ast.comprehension)) and self.yields_inside(node.iter):
                self._take([node.target])

    def _take(self, targets: list[ast.expr]) -> None:
        for target in targets:
            for one in ast.walk(target) if isinstance(target, (ast.Name, ast.Tuple, ast.List)) else ():
                if isinstance(one, ast.Name):
                    self._roots.add(one.id)

    def is_inside(self, node: ast.expr) -> bool:
        """Return whether an expression is a root or something that a root holds, and not a copy of it."""
        match node:
            case ast.Name():
                return node.id in self._roots
            case ast.Attribute():
                return self.is_inside(node.value)
            case ast.Subscript():
                return not isinstance(node.slice, ast.Slice) and self.is_inside(node.value)
            case ast.Call(func=ast.Attribute(attr=name, value=base)):
                return name in _READERS and self.is_inside(base)
            case ast.Call(func=ast.Name(id="vars"), args=[base]):
                return self.is_inside(base)
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in _PICKING:
                return self.yields_inside(first)
            case ast.IfExp():
                return self.is_inside(node.body) or self.is_inside(node.orelse)
            case ast.BoolOp():
                return any(self.is_inside(value) for value in node.values)
            case _:
                return False

    def yields_inside(self, node: ast.expr) -> bool:
        """Return whether a loop over it goes through what a root holds, by a copy of the container or not."""
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in _PASSING:
                return any(self.yields_inside(argument) for argument in node.args)
            case ast.List() | ast.Tuple():
                return any(self.is_inside(item) for item in node.elts)
            case ast.Starred():
                return self.yields_inside(node.value)
            case ast.Subscript(slice=ast.Slice()):
                return self.yields_inside(node.value)
            case _:
                return self.is_inside(node)

    def changes(self, node: ast.AST) -> bool:
        """Return whether this node by itself changes something inside a root."""
        match node:
            case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                return self.is_inside(node.value)
            case ast.AugAssign(target=ast.Name()):
                return self.is_inside(node.target) and is_mutable(self._kinds.kind(node.target))
            case ast.Call():
                return self._call_changes(node)
            case _:
                return False

    def all_changes(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield the nodes in here that change something inside a root."""
        return (inner for inner in ast.walk(node) if self.changes(inner))

    def _call_changes(self, node: ast.Call) -> bool:
        function = node.func
        match function:
            case ast.Call(func=ast.Name(id="getattr"), args=[base, ast.Constant(value=str(name)), *_]):
                return name in MUTATORS and self.is_inside(base)
        if isinstance(function, ast.Attribute):
            base = function.value
            if isinstance(base, ast.Name) and base.id == self._self:
                return base.id in self._roots and self._own_method_changes(function.attr)
            if function.attr in MUTATORS and self.is_inside(base):
                return True
            if self.is_inside(base) and self._method_of_value_changes(base, function.attr):
                return True
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name in CHANGING_FUNCTIONS and node.args and self.is_inside(node.args[0]):
            return True
        if name in {"__setattr__", "__delattr__"} and node.args and self.is_inside(node.args[0]):
            return True
        return self._helper_changes(node)

    def _own_method_changes(self, name: str) -> bool:
        member = inspect.getattr_static(self._owner, name, None) if self._owner else None
        function = plain_function(member)
        return function is not None and 0 in changed_parameters(function, self._owner)

    def _method_of_value_changes(self, base: ast.expr, name: str) -> bool:
        kind = self._kinds.kind(base)
        member = inspect.getattr_static(kind, name, None) if isinstance(kind, type) else None
        return isinstance(member, FunctionType) and 0 in changed_parameters(member, kind)

    def _helper_changes(self, node: ast.Call) -> bool:
        if not isinstance(node.func, (ast.Name, ast.Attribute)):
            return False
        found = self._scope.resolve(node.func)
        function = plain_function(found[0]) if found else None
        if function is None or not any(self.is_inside(argument) for argument in node.args):
            return False
        changed = changed_parameters(function, None)
        return any(place in changed and self.is_inside(argument) for place, argument in enumerate(node.args))


def plain_function(member: Any) -> FunctionType | None:
    """Return the function behind an operation, a static or class method, or a wrapper."""
    if isinstance(member, Operation):
        return plain_function(member.function)
    if isinstance(member, (staticmethod, classmethod)):
        return plain_function(member.__func__)
    if isinstance(member, property):
        return plain_function(member.fget)
    wrapped = getattr(member, "__wrapped__", None)
    if not isinstance(member, FunctionType) and wrapped is not None:
        return plain_function(wrapped)
    return inspect.unwrap(member) if isinstance(member, FunctionType) else None


_KNOWN: Final[dict[tuple[FunctionType, type | None], frozenset[int]]] = {}


def changed_parameters(function: FunctionType, owner: type | None) -> frozenset[int]:
    """Return the places of the parameters of which the function changes something in place."""
    known = _KNOWN.get((function, owner))
    if known is not None:
        return known
    _KNOWN[function, owner] = frozenset()  # for the time while it is worked out: a recursion adds nothing
    source = source_of(function)
    if source is None:
        return frozenset()
    names = [argument.arg for argument in [*source.tree.args.posonlyargs, *source.tree.args.args]]
    found = {place for place, name in enumerate(names) if changes_name(function, owner, name)}
    _KNOWN[function, owner] = frozenset(found)
    return _KNOWN[function, owner]


def changes_name(function: FunctionType, owner: type | None, name: str) -> bool:
    """Return whether the function changes in place what one of its parameters stands for."""
    source = source_of(function)
    if source is None:
        return False
    names = [argument.arg for argument in [*source.tree.args.posonlyargs, *source.tree.args.args]]
    self_name = names[0] if owner is not None and names else None
    scope = Scope(function, source.tree, self_name, owner)
    kinds = Inference({}, self_name, scope.resolve, owner)
    effects = Effects(
        function, source.tree, {name}, owner=owner, self_name=self_name, kinds=kinds, scope=scope
    )
    return any(True for _ in effects.all_changes(source.tree))
