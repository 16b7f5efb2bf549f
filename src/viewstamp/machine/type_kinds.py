"""What a type is made of, and the fields of a value."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec


def field_names(value: Any) -> tuple[str, ...]:
    """Return the names of the fields of a struct or dataclass; of anything else there are none."""
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    return tuple(field.name for field in fields(value)) if is_dataclass(value) else ()


def set_field(value: Any, name: str, field: Any) -> None:
    """Set a field of a struct or dataclass, a frozen one too: for a copy that nobody has seen yet."""
    if isinstance(value, msgspec.Struct):
        msgspec.structs.force_setattr(value, name, field)
    else:
        object.__setattr__(value, name, field)


def kinds_of(hint: Any) -> frozenset[type[Any]]:
    """Return the kinds (`msgspec.inspect`) of all types in this type."""
    return frozenset(map(type, types_in(msgspec.inspect.type_info(hint))))


def types_in(info: Any) -> Iterator[Any]:
    """Yield a type as msgspec describes it, and all types in it; a recursive class is entered once."""
    yield from _types_in(info, frozenset())


def _types_in(info: Any, seen: frozenset[Any]) -> Iterator[Any]:
    yield info
    inner = getattr(info, "cls", None)
    if inner in seen:
        return
    below = seen if inner is None else seen | {inner}
    for child in _children(info):
        yield from _types_in(child, below)


def _children(info: Any) -> Iterable[Any]:
    named = (getattr(info, name, None) for name in ("item_type", "key_type", "value_type"))
    yield from (child for child in named if child is not None)
    yield from getattr(info, "item_types", ())
    yield from getattr(info, "types", ())
    for field in getattr(info, "fields", ()):
        yield field.type
