"""Which classes would lose or split state, and why: looked for before a class serves.

A replica keeps what the class declares and nothing else. State anywhere else is gone after a snapshot and a
restart, or is shared by replicas of one process, or differs between nodes. Rules of this file:

- what a class attribute can be is listed; anything else is refused by name, with the line to write instead;
- methods are read as source code: an assignment to an attribute that is not declared, or to anything that
  outlives the instance (a module, a class, a closure), is refused. Where there is no source, the guard of
  `StateMachine.__setattr__` and the check of each snapshot remain;
- a class that overrides `snapshot` and `restore` answers for its own attributes, not for those of others.
"""

import ast
import builtins
import functools
import inspect
from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum
from random import Random
from types import BuiltinFunctionType, FunctionType, MappingProxyType, ModuleType
from typing import Any, ClassVar, Final, Generic, get_origin, get_type_hints

from viewstamp.machine.forbidden_calls import advances_itself, instead_of, rule_of
from viewstamp.machine.lint.mutators import MUTATORS
from viewstamp.machine.lint.scope import bound_names
from viewstamp.machine.lint.source import source_of
from viewstamp.machine.rules import ENTROPY, HIDDEN_STATE, UNDECLARED, Rule, UnsoundMachine
from viewstamp.machine.state_machine import Operation, StateMachine, annotated_state, saves_itself

_MUTABLE: Final = (list, dict, set, bytearray, deque)
_IMMUTABLE: Final = (int, float, complex, str, bytes, bool, type(None), Enum, frozenset, tuple, range)
_OF_THE_LIBRARY: Final = frozenset({"raises", "parts", "version"})
"""Class attributes that the library reads."""
_HELPERS_MAX: Final = 200
"""Functions of the module that are read for one class."""


def require_sound(cls: type[StateMachine]) -> None:
    """Refuse a class that keeps state where no snapshot finds it.

    Raises:
        ConfigurationError: what it is, where, and what to write instead. Nothing was started.
    """
    own = saves_itself(cls)
    declared = annotated_state(cls)
    for name, value in _class_attributes(cls):
        _require_constant(cls, name, value, declared, own=own)
    for name in _class_variables(cls):
        value = inspect.getattr_static(cls, name, None)
        if isinstance(value, _MUTABLE):
            raise UnsoundMachine(
                HIDDEN_STATE,
                f"{cls.__qualname__}.{name}: a ClassVar {type(value).__name__} is shared by all replicas of "
                "a process and is in no snapshot: make it a tuple, a frozenset or an annotated attribute",
            )
    for function in _functions_of(cls):
        _Reader(cls, function, declared, own=own).check()


def _class_attributes(cls: type[StateMachine]) -> Iterator[tuple[str, Any]]:
    for owner in _own_classes(cls):
        for name, value in vars(owner).items():
            if not (name.startswith("__") and name.endswith("__")) and not name.startswith("_StateMachine__"):
                yield name, value


def _class_variables(cls: type[StateMachine]) -> Iterator[str]:
    for owner in _own_classes(cls):
        hints = get_type_hints(owner, include_extras=True)
        own = inspect.get_annotations(owner)
        for name in own:
            hint = hints.get(name)
            if (hint is ClassVar or get_origin(hint) is ClassVar) and name != "parts":
                yield name


def _own_classes(cls: type[StateMachine]) -> list[type]:
    return [owner for owner in cls.__mro__ if owner not in (StateMachine, Generic, object)]


def _require_constant(
    cls: type[StateMachine], name: str, value: Any, declared: Mapping[str, Any], *, own: bool
) -> None:
    where = f"{cls.__qualname__}.{name}"
    if isinstance(value, functools.cached_property):
        raise UnsoundMachine(
            HIDDEN_STATE, f"{where}: a cached_property keeps a value that no snapshot has: use property"
        )
    if name in declared or _is_code(value) or name in _annotated_names(cls) or name in _OF_THE_LIBRARY:
        return
    if name.isupper() and not isinstance(value, _MUTABLE):
        return  # a constant: the guard of __setattr__ refuses to assign it
    if own and isinstance(value, _IMMUTABLE):
        return
    raise UnsoundMachine(
        UNDECLARED,
        f"{where} would be missing from snapshots: annotate it, such as {name}: "
        f"{type(value).__name__} = ..., or spell a constant in capitals",
    )


def _annotated_names(cls: type[StateMachine]) -> set[str]:
    return {name for owner in _own_classes(cls) for name in inspect.get_annotations(owner)}


def _is_code(value: Any) -> bool:
    kinds = (
        FunctionType,
        BuiltinFunctionType,
        Operation,
        staticmethod,
        classmethod,
        property,
        type,
        ModuleType,
    )
    return isinstance(value, kinds) or hasattr(type(value), "__get__")


def _functions_of(cls: type[StateMachine]) -> Iterator[FunctionType]:
    for owner in _own_classes(cls):
        for value in vars(owner).values():
            for function in _unwrapped(value):
                if isinstance(function, FunctionType):
                    yield function


def _unwrapped(value: Any) -> Iterator[Any]:
    if isinstance(value, Operation):
        yield from _unwrapped(value.function)
    elif isinstance(value, (staticmethod, classmethod)):
        yield from _unwrapped(value.__func__)
    elif isinstance(value, property):
        yield from (each for each in (value.fget, value.fset, value.fdel) if each is not None)
    elif value is not None:
        yield inspect.unwrap(value) if isinstance(value, FunctionType) else value


class _Reader(ast.NodeVisitor):
    """Reads one function, and the functions of its module that it calls, for writes that no snapshot sees."""

    def __init__(
        self, cls: type[StateMachine], function: FunctionType, declared: Mapping[str, Any], *, own: bool
    ) -> None:
        self._cls = cls
        self._declared = declared
        self._own = own
        self._method = function
        self._seen: set[FunctionType] = set()
        self._function = function
        self._self: str | None = None
        self._bound: set[str] = set()

    def check(self) -> None:
        """Raise `ConfigurationError` for the first write found."""
        parameters = self._method.__code__.co_varnames[: self._method.__code__.co_argcount]
        is_method = self._cls.__dict__.get(self._method.__name__) is not None or bool(parameters)
        self._read(self._method, parameters[0] if parameters and is_method else None)

    def _read(self, function: FunctionType, self_name: str | None) -> None:
        if function in self._seen or len(self._seen) >= _HELPERS_MAX:
            return
        self._seen.add(function)
        source = source_of(function)
        if source is None:
            return
        tree = source.tree
        before = self._function, self._self, self._bound
        self._function, self._self = function, self_name
        self._bound = bound_names(tree)
        self.generic_visit(tree)
        self._function, self._self, self._bound = before

    # What is written

    def visit_Global(self, node: ast.Global) -> None:
        self._refuse(f"writes {', '.join(node.names)} of its module, which no replica keeps", node)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        outer = [name for name in node.names if name in self._function.__code__.co_freevars]
        if outer:
            what = f"writes {', '.join(outer)} of the function around the class, which no replica keeps"
            self._refuse(what, node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, (ast.Store, ast.Del)):
            self._attribute_written(node)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, (ast.Store, ast.Del)):
            self._container_written(node.value, "writes into")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        self._require_equal_everywhere(function)
        if isinstance(function, ast.Attribute):
            self._method_called(function, node)
        elif isinstance(function, ast.Name):
            self._name_called(function.id, node)
        self.generic_visit(node)

    # Judged

    def _require_equal_everywhere(self, function: ast.expr) -> None:
        found = self._resolve(function, bound=True)
        if found is None:
            return
        differs = instead_of(found[0])
        if differs is not None:
            known = rule_of(found[0])
            rule = ENTROPY if known is None else known[0]
            what = f"calls {differs[0]}, which differs between replicas: use {differs[1]}"
            self._refuse(what, function, rule)
        if advances_itself(found[0]) and isinstance(function, ast.Name):
            self._refuse(f"calls {function.id}, which changes an object that no replica keeps", function)

    def _attribute_written(self, node: ast.Attribute) -> None:
        base = node.value
        if self._is_self(base):
            self._require_declared(node.attr)
        elif self._is_own_class(base):
            self._refuse(
                f"writes the class attribute {node.attr}, which all replicas of a process share", node
            )
        elif (found := self._resolve(base)) is not None and isinstance(found[0], (type, ModuleType)):
            self._refuse(f"writes {ast.unparse(node)}, which no replica keeps", node)
        else:
            self._container_written(base, "writes into")

    def _require_declared(self, name: str) -> None:
        if self._own or name in self._declared or name.startswith("_StateMachine__"):
            return
        descriptor = inspect.getattr_static(self._cls, name, None)
        if isinstance(descriptor, property) or hasattr(type(descriptor), "__set__"):
            return
        raise UnsoundMachine(
            UNDECLARED,
            f"{self._cls.__qualname__}.{name} would be missing from snapshots: {self._method.__name__} sets "
            f"it, so annotate it in the class, such as {name}: int = 0",
        )

    def _method_called(self, function: ast.Attribute, node: ast.Call) -> None:
        if function.attr in {"__setattr__", "__delattr__"} and len(node.args) > 1:
            self._constant_name_set(node.args[-2] if len(node.args) > 2 else node.args[0])
        elif function.attr in MUTATORS:
            if self._is_dict_of_self(function.value):
                self._refuse(
                    "writes into self.__dict__: assign declared attributes instead", node, UNDECLARED
                )
            self._container_written(function.value, f"calls .{function.attr} of")

    def _name_called(self, name: str, node: ast.Call) -> None:
        if name in {"setattr", "delattr"} and name not in self._bound and len(node.args) > 1:
            if self._is_self(node.args[0]):
                self._constant_name_set(node.args[1])
            elif self._is_own_class(node.args[0]) or self._resolve(node.args[0]) is not None:
                self._refuse(f"calls {name} on {ast.unparse(node.args[0])}, which no replica keeps", node)
        elif name == "next" and name not in self._bound and node.args and self._resolve(node.args[0]):
            self._refuse(
                f"draws from {ast.unparse(node.args[0])}, which every replica advances for itself", node
            )
        elif (found := self._global(name)) is not None and self._is_helper(found[0]):
            self._read(found[0], None)

    def _is_helper(self, found: Any) -> bool:
        return isinstance(found, FunctionType) and found.__module__ == self._cls.__module__

    def _constant_name_set(self, name: ast.expr) -> None:
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            self._require_declared(name.value)

    def _container_written(self, base: ast.expr, doing: str) -> None:
        if self._is_dict_of_self(base):
            self._refuse("writes into self.__dict__: assign declared attributes instead", base, UNDECLARED)
        found = self._resolve(base)
        if found is None or isinstance(found[0], (MappingProxyType, FunctionType)):
            return
        if isinstance(found[0], _IMMUTABLE) and not isinstance(found[0], Enum):
            return
        if doing.startswith("calls") and not isinstance(found[0], _MUTABLE):
            return
        self._refuse(
            f"{doing} {ast.unparse(base)}, which is not an attribute of it: no replica keeps that", base
        )

    # Names

    def _is_self(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id == self._self

    def _is_own_class(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Attribute):
            return node.attr == "__class__" and self._is_self(node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return node.func.id == "type" and len(node.args) == 1 and self._is_self(node.args[0])
        return False

    def _is_dict_of_self(self, node: ast.expr) -> bool:
        if self._own:
            return False
        if isinstance(node, ast.Attribute):
            return node.attr == "__dict__" and self._is_self(node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return node.func.id == "vars" and len(node.args) == 1 and self._is_self(node.args[0])
        return False

    def _resolve(self, node: ast.expr, *, bound: bool = False) -> tuple[Any] | None:
        """Return, in a tuple, the outside object that an expression names; None if it is local."""
        if isinstance(node, ast.Name):
            return self._global(node.id)
        if isinstance(node, ast.Attribute):
            if self._is_self(node.value) or self._is_own_class(node.value):
                return None
            outer = self._resolve(node.value)
            if outer is None:
                return None
            try:
                # Bound methods are made by getattr; of modules and built-in types that runs no user's code.
                trusted = bound and isinstance(outer[0], (ModuleType, type, Random))
                read = getattr if trusted else inspect.getattr_static
                return (read(outer[0], node.attr),)
            except AttributeError:
                return None
        if isinstance(node, ast.Subscript):
            return self._resolve(node.value)
        return None

    def _global(self, name: str) -> tuple[Any] | None:
        if name in self._bound or name == self._self:
            return None
        cells = dict(zip(self._function.__code__.co_freevars, self._function.__closure__ or (), strict=False))
        if name in cells:
            try:
                return (cells[name].cell_contents,)
            except ValueError:
                return None
        if name in self._function.__globals__:
            return (self._function.__globals__[name],)
        return (getattr(builtins, name),) if hasattr(builtins, name) else None

    def _refuse(self, what: str, node: ast.AST, rule: Rule = HIDDEN_STATE) -> None:
        source = source_of(self._function)
        if source is not None and source.allows(rule.code, node):
            return
        helper = "" if self._function is self._method else f" (in {self._function.__qualname__})"
        raise UnsoundMachine(rule, f"{self._cls.__qualname__}.{self._method.__name__}{helper} {what}")
