"""What decides the results of a class's commands beside its interface, by name, each with a digest.

That is the code of the commands and of what the replica calls itself (`session_ended`), and all that they
reach: helper functions, in other modules too, properties, constants, the classes of the values that they take
and keep with their `__post_init__`, and the constraints of fields and arguments (`msgspec.Meta`).

The library's own code, the standard library and installed packages are not looked into; a class that is
installed itself is, with its package. Migrations and queries are not in it: a migration runs once, and
replicas share nothing that a query returns.

Names: `buy()` a command, `price_of()` a function that one calls, `LIMIT` a constant, `Item.__post_init__()`,
`Item[price]` and `buy(0 item)` the constraints of a field and of an argument.
"""

import ast
import inspect
import re
import sys
from collections.abc import Collection, Iterator
from enum import Enum
from functools import cached_property, partial, singledispatchmethod
from itertools import count
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MappingProxyType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final

import msgspec
import xxhash
from msgspec import inspect as kinds

from viewstamp.machine.class_traits import GIVEN, configuration, finds_methods, given_by_place, traits
from viewstamp.machine.code_text import Tree, code_text, names_in, text_of_tree, tree_of
from viewstamp.machine.constant_text import ConstantText
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.evolution import migrations_of
from viewstamp.machine.lint.scope import Scope
from viewstamp.machine.normal_form import normal_form
from viewstamp.machine.schema import inner_types, parts_of
from viewstamp.machine.state_machine import Operation, Query, StateMachine, annotated_state

HOOKS: Final = (
    "__init__", "__setattr__", "__getattr__", "__getattribute__", "session_ended", "pending_notifications",
    "pending_notifications_for", "snapshot", "restore",
)  # fmt: skip
"""What a replica calls without a client."""
DEFAULTS: Final = " defaults"
MADE: Final = " made"
_NOT_THERE: Final = "none"
_GENERATORS: Final = ("dataclasses.py", "reprlib.py")
_CONSTRAINTS: Final = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "tz")
_DIGEST_LETTERS: Final = 12
_STANDARD: Final = frozenset(sys.stdlib_module_names)
_INSTALLED: Final = ("site-packages", "dist-packages")
_OWN: Final = "viewstamp"
_SERVICES: Final = "viewstamp.services"
_CALLABLES: Final = (
    FunctionType, Operation, staticmethod, classmethod, property, cached_property, partial, MethodType,
    singledispatchmethod,
)  # fmt: skip
_BUILT_IN: Final = (MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)
"""Methods of built-in types, whose texts name no address of this process."""
_MADE_BY: Final = re.compile(r"py\d+\.\d+ ")
"""How a text begins that only one version of Python can compare."""


class Element(msgspec.Struct, frozen=True):
    """Something that decides results."""

    digest: str
    asks_for_version: bool
    """Whether it looks at the version in force, so that it may do both, what it did and what it does now."""


def behaviour_of(cls: type[StateMachine], *, plain: bool = False) -> dict[str, Element]:
    """Return all that decides the results of a class's commands, by name.

    `plain` is how earlier programs recorded it: names of local variables counted, and traits did not.
    """
    found: dict[str, Element] = {}
    for prefix, part in parts_of(cls, ""):
        _Closure(part, prefix, found, plain=plain).read()
    return found


class _Closure:
    """What one class, which is not composed, reaches from its commands."""

    def __init__(
        self, cls: type[StateMachine], prefix: str, found: dict[str, Element], *, plain: bool
    ) -> None:
        self._cls = cls
        self._plain = plain
        self._prefix = prefix
        self._found = found
        self._package = cls.__module__.partition(".")[0]
        self._known: dict[tuple[str, int], str] = {}
        """The name of each object that was seen, by its `id`; of a constant, by its own name and its `id`.

        Equal constants are one object: the name of one must not depend on whether the other is seen.
        """
        self._kept: list[Any] = []
        """Holds those objects, so that no other gets such an `id`."""
        self._constants = ConstantText(self._name_of)
        self._migrations = {one.name for one in migrations_of(cls)}

    def read(self) -> None:
        for name in dir(self._cls):
            member = inspect.getattr_static(self._cls, name)
            if isinstance(member, Operation) and not isinstance(member, Query):
                self._member(self._cls, name, member)
        for name in HOOKS:
            owner = next((each for each in self._cls.__mro__ if name in vars(each)), object)
            if self._is_users(owner):
                self._member(self._cls, name, vars(owner)[name])
            else:
                self._add(f"{name}()", _NOT_THERE)
        for hint in annotated_state(self._cls).values():
            self._type(hint)
        for name, hint in annotated_state(self._cls).items():
            self._add(name, _constraints(kinds.type_info(hint)))
        self._arguments()

    def _arguments(self) -> None:
        for method in MachineDefinition.of(self._cls).methods.values():
            if method.kind == "command":
                self._type(method.result_type)
                for place, field in enumerate(msgspec.structs.fields(method.arguments)):
                    self._type(field.type)
                    self._add(
                        f"{method.name}({place} {field.name})", _constraints(kinds.type_info(field.type))
                    )

    # Names

    def _add(self, name: str, text: str, *, asks: bool = False) -> None:
        made_by = _MADE_BY.match(text)
        digest = f"{made_by[0] if made_by else ''}{_digest(text)}"
        self._found[f"{self._prefix}{name}"] = Element(digest, asks)

    def _claim(self, value: Any, name: str, constant: str = "") -> str:
        """Return the name of an object that was not seen before."""
        taken = set(self._known.values())
        free = next(each for each in _numbered(name) if each not in taken)
        self._known[constant, id(value)] = free
        self._kept.append(value)
        return free

    def _is_users(self, value: Any) -> bool:
        """Return whether a function or class is the user's own."""
        module = str(getattr(value, "__module__", None) or "")
        top = module.partition(".")[0]
        if top == _OWN:
            return f"{module}.".startswith(f"{_SERVICES}.")
        if top == self._package:
            return True
        file = str(getattr(sys.modules.get(module), "__file__", None) or "")
        return (
            bool(top) and top not in _STANDARD and file != "" and not any(each in file for each in _INSTALLED)
        )

    def _name_of(self, value: Any) -> str | None:
        """Return how a function or class is called, and look into it; None: it is something else."""
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, BuiltinFunctionType | ModuleType):
            return value.__name__
        functions = list(functions_of(value))
        if functions:
            names = [self._function(each, _plain_name(each), None) for each in functions]
            given = [self._constants.of((value.args, value.keywords))] if isinstance(value, partial) else []
            return " ".join([*names, *given])
        if isinstance(value, _BUILT_IN):
            return str(value)
        wrapped = inspect.getattr_static(value, "__wrapped__", None)
        return self._name_of(wrapped) if isinstance(wrapped, FunctionType) else None

    # Functions

    def _member(self, owner: type[Any], name: str, member: Any) -> str:
        where = name if owner is self._cls else f"{owner.__name__}.{name}"
        is_command = isinstance(member, Operation)
        return " ".join(
            self._function(each, where, owner, is_command=is_command) for each in functions_of(member)
        )

    def _function(
        self, function: FunctionType, name: str, owner: type[Any] | None, *, is_command: bool = False
    ) -> str:
        known = self._known.get(("", id(function)))
        if known is not None:
            return known
        if not self._is_users(function):
            return f"{function.__module__}.{function.__qualname__}"
        name = self._claim(function, f"{name}()")
        tree = tree_of(function)
        if tree is None:
            self._add(name, f"{code_text(function)}\n", asks=True)
            return name
        scope = _scope_of(function, tree, owner)
        if not self._plain:
            found, tree = tree, normal_form(tree, scope.resolve, _state_of(self._cls), drop_unused=is_command)
            scope = scope if tree is found else _scope_of(function, tree, owner)
            self._implied(name, function, tree, scope, owner)
        uses = "\n".join(self._references(scope, tree, owner))
        self._add(name, f"{text_of_tree(tree)}\n{uses}", asks=asks_for_version(tree, owner))
        return name

    def _implied(
        self, name: str, function: FunctionType, tree: Tree, scope: Scope, owner: type[Any] | None
    ) -> None:
        """Follow what a function does without a name for it: values given by place, or found by a text."""
        for cls, text in given_by_place(tree, scope.resolve):
            if self._is_users(cls):
                self._add(f"{name}{GIVEN}{self._class(cls)}", text)
        defaults = [*tree.args.defaults, *(each for each in tree.args.kw_defaults if each is not None)]
        if not all(isinstance(each, ast.Constant) for each in defaults):
            values = function.__defaults__, function.__kwdefaults__
            self._add(f"{name}{DEFAULTS}", self._constants.of(values))

        if scope.self_name is not None and owner is not None and finds_methods(tree, scope.self_name):
            for called in dir(owner):
                member = inspect.getattr_static(owner, called)
                if list(functions_of(member)) and not isinstance(member, Query):
                    self._own(owner, called)

    def _references(self, scope: Scope, tree: Tree, owner: type[Any] | None) -> Iterator[str]:
        """Yield what a function names outside of itself, each with what that is."""
        me = scope.self_name
        found: dict[str, str] = {}
        for node in names_in(tree):
            if isinstance(node, ast.Attribute) and owner is not None and _is_own(node.value, me, owner):
                found[f"self.{node.attr}"] = self._own(owner, node.attr)
            elif (outside := scope.resolve(node)) is not None and not isinstance(outside[0], ModuleType):
                text = ast.unparse(node)
                found[text] = self._outside(text, outside[0])
        yield from (f"{name} is {what}" for name, what in sorted(found.items()) if what)

    def _own(self, owner: type[Any], name: str) -> str:
        """Follow what a method names of its own class."""
        if name in self._migrations:
            return ""
        texts: list[str] = []
        for each in owner.__mro__:
            if name not in vars(each) or not self._is_users(each) or name in _state_of(owner):
                continue
            member = vars(each)[name]
            if list(functions_of(member)):
                texts.append(self._member(each if texts else owner, name, member))
            elif not hasattr(member, "__set__"):  # a slot
                texts.append(self._outside(name, member))
        return " ".join(texts)

    def _outside(self, name: str, value: Any) -> str:
        """Follow what a function names: another function, a class, or a constant."""
        called = self._name_of(value)
        if called is not None:
            return called
        name = name.rpartition(".")[2]
        known = self._known.get((name, id(value)))
        if known is None:
            known = self._claim(value, name, name)
            self._add(known, self._constants.of(value))
        return known

    # Classes

    def _type(self, hint: Any) -> None:
        """Follow the classes in a type."""
        pending, seen = [kinds.type_info(hint)], set[int]()
        while pending:
            info = pending.pop()
            cls = getattr(info, "cls", None)
            cls = getattr(cls, "__origin__", cls)
            if id(cls) in seen:
                continue
            if isinstance(cls, type):
                seen.add(id(cls))
                self._class(cls)
            pending += inner_types(info)

    def _class(self, cls: type[Any]) -> str:
        known = self._known.get(("", id(cls)))
        if known is not None:
            return known
        if not self._is_users(cls) or issubclass(cls, StateMachine):
            return f"{cls.__module__}.{cls.__qualname__}"
        name = self._claim(cls, cls.__name__)
        bases = [self._class(base) for base in cls.__bases__ if base is not object]
        self._add(name, f"{_configuration(cls)} {' '.join(bases)}")
        fields = _fields(cls)
        if not self._plain:
            self._traits(cls, name)
        if issubclass(cls, Enum):
            for member in cls:
                self._add(f"{name}.{member.name}", self._constants.of(member.value))
        for called in sorted(vars(cls).keys() - {field.name for field in fields}):
            self._class_member(cls, name, called, vars(cls)[called])
        for field in fields:
            self._add(f"{name}[{field.encode_name}]", _constraints(field.type))
            if not field.required:
                self._add(f"{name}[{field.encode_name}] =", self._default(field))
        return name

    def _traits(self, cls: type[Any], name: str) -> None:
        made_by = self._class(type(cls)) if self._is_users(type(cls)) else ""
        self._add(f"{name}{MADE}", f"{configuration(cls)} {made_by}")
        for called, text in traits(cls, _is_own_function):
            self._add(f"{name}{called}", text)

    def _class_member(self, cls: type[Any], called: str, name: str, value: Any) -> None:
        if isinstance(value, _CALLABLES):
            for function in functions_of(value):
                if not _is_generated(name, function):
                    self._function(function, f"{called}.{name}", cls)
        elif hasattr(value, "__get__"):
            if not self._plain and self._is_users(type(value)):
                self._add(f"{called}.{name}", self._constants.of(value))
        elif not name.startswith("_") and not isinstance(value, cls):
            self._add(f"{called}.{name}", self._constants.of(value))

    def _default(self, field: Any) -> str:
        if field.default is not msgspec.NODEFAULT:
            return self._constants.of(field.default)
        if field.default_factory is not msgspec.NODEFAULT:
            return self._name_of(field.default_factory) or "made"
        return ""


def _state_of(owner: type[Any]) -> Collection[str]:
    return annotated_state(owner) if issubclass(owner, StateMachine) else ()


def _plain_name(function: FunctionType) -> str:
    return function.__qualname__.rpartition("<locals>.")[2]


def _is_own(node: ast.expr, me: str | None, owner: type[Any]) -> bool:
    """Return whether an expression stands for the instance, its class, or what it is derived from."""
    if isinstance(node, ast.Name):
        return node.id in {me, owner.__name__}
    if isinstance(node, ast.Attribute):
        return node.attr == "__class__" and _is_own(node.value, me, owner)
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"super", "type"}
    )


def functions_of(value: Any) -> Iterator[FunctionType]:
    """Yield the functions that a member of a class, or what stands for a function, consists of."""
    if isinstance(value, FunctionType):
        yield value
        yield from functions_of(getattr(value, "__wrapped__", None))
        yield from _dispatched(value)
    elif isinstance(value, Operation):
        yield from functions_of(value.function)
    elif isinstance(value, staticmethod | classmethod | MethodType):
        yield from functions_of(value.__func__)
    elif isinstance(value, singledispatchmethod):
        yield from _dispatched(value.dispatcher)
    elif isinstance(value, property):
        for each in (value.fget, value.fset, value.fdel):
            yield from functions_of(each)
    elif isinstance(value, cached_property | partial):
        yield from functions_of(value.func)


def _dispatched(value: Any) -> Iterator[FunctionType]:
    """Yield what `functools.singledispatch` chooses from."""
    registry = getattr(value, "registry", None)
    if isinstance(registry, MappingProxyType):
        for function in registry.values():
            if function is not getattr(value, "__wrapped__", None):
                yield from functions_of(function)


def _scope_of(function: FunctionType, tree: Tree, owner: type[Any] | None) -> Scope:
    parameters = [*tree.args.posonlyargs, *tree.args.args]
    return Scope(function, tree, parameters[0].arg if owner is not None and parameters else None, owner)


def _is_own_function(name: str, value: Any) -> bool:
    if not isinstance(value, _CALLABLES):
        return False
    functions = list(functions_of(value))
    return bool(functions) and not all(_is_generated(name, each) for each in functions)


def _is_generated(name: str, function: FunctionType) -> bool:
    """Return whether a special method was made by a decorator or a metaclass of others."""
    file = function.__code__.co_filename
    return name.startswith("__") and (file.startswith("<") or file.endswith(_GENERATORS))


def _fields(cls: type[Any]) -> tuple[Any, ...]:
    try:
        return tuple(getattr(kinds.type_info(cls), "fields", ()))
    except (TypeError, NameError, AttributeError):
        return ()


def _configuration(cls: type[Any]) -> str:
    config = getattr(cls, "__struct_config__", None)
    names = (
        "frozen",
        "eq",
        "order",
        "array_like",
        "tag",
        "tag_field",
        "omit_defaults",
        "forbid_unknown_fields",
    )
    return ascii([getattr(config, name) for name in names]) if config is not None else ""


def _constraints(info: Any) -> str:
    """Return the constraints in a type; classes in it have their own."""
    found: list[str] = []
    pending: list[tuple[str, Any]] = [("", info)]
    while pending:
        where, each = pending.pop()
        if isinstance(each, kinds.Metadata):
            pending.append((where, each.type))
            continue
        values = ((name, getattr(each, name, None)) for name in _CONSTRAINTS)
        found += (f"{where}{name}={value!a}" for name, value in values if value is not None)
        if not isinstance(getattr(each, "cls", None), type):
            pending += ((f"{where}{place}.", child) for place, child in enumerate(inner_types(each)))
    return " ".join(sorted(found))


def asks_for_version(tree: Tree, owner: type[Any] | None) -> bool:
    """Return whether a function looks at the version in force, or is given it."""
    given = owner is None and any(
        each.arg == "version" for each in ast.walk(tree.args) if isinstance(each, ast.arg)
    )
    return given or any(isinstance(node, ast.Attribute) and node.attr == "version" for node in ast.walk(tree))


def _numbered(name: str) -> Iterator[str]:
    yield name
    plain, call = (name[:-2], "()") if name.endswith("()") else (name, "")
    yield from (f"{plain} {number}{call}" for number in count(2))


def _digest(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode(errors="backslashreplace"))[:_DIGEST_LETTERS]
