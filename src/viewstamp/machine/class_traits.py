"""What of a class decides results beside its code: which special methods it has, and the order of its parts.

A class that gets an `__eq__`, or overrides a method of its base, does something else without a change of
anything that was there. Neither does a place that moves change any text: `Line("tea", 2)` gives its fields
by place, and an enum is iterated in the order of its members.

What is appended at the end moves nothing.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final, is_typeddict

import msgspec

METHODS: Final = " methods"
PLACE: Final = " place"
GIVEN: Final = " gives "
"""How the names of these elements end, or are divided."""
_DATACLASS: Final = ("eq", "order", "unsafe_hash", "frozen")


def configuration(cls: type[Any]) -> str:
    """Return what decorators and bases make of a class, beside its fields and methods."""
    given = getattr(cls, "__dataclass_params__", None)
    made = [bool(getattr(given, name)) for name in _DATACLASS] if given is not None else []
    config = getattr(cls, "__struct_config__", None)
    made += [bool(getattr(config, name)) for name in ("weakref", "dict")] if config is not None else []
    return ascii((made, is_typeddict(cls) and sorted(cls.__required_keys__)))


def traits(cls: type[Any], is_own_function: Callable[[str, Any], bool]) -> Iterator[tuple[str, str]]:
    """Yield the traits of a class: how the name of each begins after that of the class, and its text.

    `is_own_function` says of a name and a value whether it is a method that somebody wrote.
    """
    yield METHODS, " ".join(sorted(_methods(cls, is_own_function)))
    if issubclass(cls, Enum):
        yield from _places(".{}", [member.name for member in cls])
    elif _is_ordered(cls):
        yield from _places("[{}]", _fields(cls))


def _methods(cls: type[Any], is_own_function: Callable[[str, Any], bool]) -> Iterator[str]:
    """Yield the methods that are called, or called instead of others, without being named."""
    bases = [vars(base) for base in cls.__mro__[1:] if base is not object]
    for name, value in vars(cls).items():
        is_special = name.startswith("__") and name.endswith("__")
        if is_own_function(name, value) and (is_special or any(name in each for each in bases)):
            yield name


def _is_ordered(cls: type[Any]) -> bool:
    """Return whether the order of the fields decides how two values compare, or what they consist of."""
    config = getattr(cls, "__struct_config__", None)
    given = getattr(cls, "__dataclass_params__", None)
    return bool(
        getattr(config, "order", False)
        or getattr(given, "order", False)
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    )


def _fields(cls: type[Any]) -> list[str]:
    if is_dataclass(cls):
        return [field.name for field in fields(cls)]
    return list(getattr(cls, "__struct_fields__", ()) or getattr(cls, "_fields", ()))


def _places(form: str, names: list[str]) -> Iterator[tuple[str, str]]:
    for before, name in zip(["", *names], names, strict=False):
        yield f"{form.format(name)}{PLACE}", before


def given_by_place(
    tree: ast.AST, resolve: Callable[[ast.expr], tuple[Any] | None]
) -> Iterator[tuple[type[Any], str]]:
    """Yield the classes of values that a function makes, or takes apart, by place, and their fields there."""
    most: dict[type[Any], int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            named, count = node.func, len(node.args)
            if any(isinstance(each, ast.Starred) for each in node.args):
                count = 1 << 16
        elif isinstance(node, ast.MatchClass):
            named, count = node.cls, len(node.patterns)
        else:
            continue
        found = resolve(named) if count and isinstance(named, ast.Name | ast.Attribute) else None
        if found is not None and _has_places(found[0]):
            most[found[0]] = max(most.get(found[0], 0), count)
    for cls, count in most.items():
        yield cls, " ".join(_by_place(cls)[:count])


def finds_methods(tree: ast.AST, me: str) -> bool:
    """Return whether a method finds attributes of its instance by names that are not in its text."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "getattr"
        and len(node.args) > 1
        and isinstance(node.args[0], ast.Name)
        and node.args[0].id == me
        and not isinstance(node.args[1], ast.Constant)
        for node in ast.walk(tree)
    )


def _has_places(value: Any) -> bool:
    return isinstance(value, type) and (is_dataclass(value) or issubclass(value, msgspec.Struct))


def _by_place(cls: type[Any]) -> tuple[str, ...]:
    """Return the fields that are given by place, in order."""
    return tuple(getattr(cls, "__match_args__", ()))
