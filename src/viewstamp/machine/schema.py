"""What a machine's snapshots consist of: names and types, to be compared with those of another version.

The schema covers what stands in a snapshot: the state's attributes, and the fields of the structs in them,
by name and type. It does not cover methods and defaults, nor what a class writes that overrides `snapshot`
and `restore`.

A class may change compatibly: it may have new methods, and new attributes, and new fields with a default.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import inspect as kinds

from viewstamp.machine.state_machine import StateMachine, annotated_state

REQUIRED: Final = " (required)"
"""Stands after the type of a field that has no default."""


def schema_of(cls: type[StateMachine]) -> dict[str, str]:
    """Return the type of each attribute of the state, and of each field of the structs in it, by name."""
    schema: dict[str, str] = {}
    for prefix, part in parts_of(cls, ""):
        if part.snapshot is not StateMachine.snapshot:
            schema[f"{prefix}()"] = "its own snapshot"
            continue
        for name, hint in annotated_state(part).items():
            info = kinds.type_info(hint)
            schema[f"{prefix}{name}"] = text_of(info)
            _add_structs(info, schema)
    return schema


def incompatible(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say in a few words what of a snapshot of schema `before` cannot be read under `now`; empty: nothing."""
    for name, kind in before.items():
        if name not in now:
            return f"{name} ({kind}) is missing"
        if now[name].removesuffix(REQUIRED) != kind.removesuffix(REQUIRED):
            return f"{name} was {kind} and is {now[name]}"
    new = (name for name in now if name not in before and now[name].endswith(REQUIRED))
    return next((f"{name} is new and has no default" for name in new if _struct_known(name, before)), "")


def _struct_known(field: str, before: Mapping[str, str]) -> bool:
    return field.partition("[")[0] in before


def parts_of(cls: type[StateMachine], prefix: str) -> Iterator[tuple[str, type[StateMachine]]]:
    """Yield the parts of a class that are not composed, each with what stands before its names."""
    if not cls.parts:
        yield prefix, cls
    for name, part in cls.parts.items():
        yield from parts_of(part, f"{prefix}{name}." if name else prefix)


def _add_structs(info: Any, schema: dict[str, str]) -> None:
    """Add the fields of the structs in this type; each struct is entered once."""
    fields = getattr(info, "fields", ())
    if fields:
        name = struct_name(info)
        if name in schema:
            return
        is_array = getattr(info, "array_like", False)
        schema[name] = f"{'array' if is_array else 'map'} {getattr(info, 'tag', None)}"
        for place, field in enumerate(fields):
            where = f"{place} " if is_array else ""
            required = REQUIRED if field.required else ""
            schema[f"{name}[{where}{field.encode_name}]"] = f"{text_of(field.type)}{required}"
    for child in inner_types(info):
        _add_structs(child, schema)


def inner_types(info: Any) -> Iterator[Any]:
    """Yield the types that a type is made of."""
    for name in ("item_type", "key_type", "value_type"):
        child = getattr(info, name, None)
        if child is not None:
            yield child
    yield from getattr(info, "item_types", ())
    yield from getattr(info, "types", ())
    for field in getattr(info, "fields", ()):
        yield field.type


def struct_name(info: Any) -> str:
    """Return the name under which a struct stands in a schema."""
    name: str = getattr(info, "cls", type(info)).__name__
    return f"struct {name}"


def text_of(info: Any) -> str:
    """Return a type as text; a struct by its name."""
    if isinstance(info, kinds.Metadata):
        return text_of(info.type)
    if getattr(info, "fields", ()):
        return struct_name(info)
    inner = getattr(info, "cls", None)
    plain: str = inner.__name__ if inner is not None else type(info).__name__.removesuffix("Type").lower()
    if isinstance(info, kinds.UnionType):
        return " | ".join(sorted(map(text_of, info.types)))
    if isinstance(info, kinds.LiteralType):
        return f"literal[{', '.join(map(repr, info.values))}]"
    children = [text_of(child) for child in inner_types(info)]
    return f"{plain}[{', '.join(children)}]" if children else plain
