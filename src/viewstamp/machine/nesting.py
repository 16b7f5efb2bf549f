"""How deep arguments and results may be nested, decided alike on every replica.

A decoder and an encoder in C stop at a depth that depends on where they are called from. So what may be
deeper than its type says is measured here, without recursion, before it can make a difference.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any, Final

import msgspec

DEPTH_MAX: Final = 32
"""Nesting of one argument."""
RESULT_DEPTH_MAX: Final = 64
"""Nesting of a result, or of a notification."""

_UNBOUNDED: Final = (msgspec.inspect.AnyType, msgspec.inspect.RawType)
_CONTAINERS: Final = (list, tuple, dict, set, frozenset)


class TooDeep(ValueError):
    """A value is nested deeper than it may be."""


def is_bounded(hint: Any) -> bool:
    """Return whether the type alone bounds how deep its values are: no `Any`, no recursive type."""
    pending: list[tuple[Any, frozenset[Any]]] = [(msgspec.inspect.type_info(hint), frozenset())]
    while pending:
        info, around = pending.pop()
        cls = getattr(info, "cls", None)
        if isinstance(info, _UNBOUNDED) or cls in around:
            return False
        within = around if cls is None else around | {cls}
        pending += ((child, within) for child in _children(info))
    return True


def deeper_than(value: Any, depth: int) -> bool:
    """Return whether a value that was decoded is nested deeper. It is finite, so this ends."""
    level: list[Any] = [value]
    for _ in range(depth + 1):
        level = [child for each in level for child in _parts(each)]
        if not level:
            return False
    return True


def require_depth(data: bytes, depth: int) -> None:
    """Raise `TooDeep` where encoded data is nested deeper."""
    if len(data) <= depth:
        return  # each level takes a byte
    try:
        too_deep = deeper_than(msgspec.msgpack.decode(data), depth)
    except RecursionError:
        too_deep = True
    if too_deep:
        raise TooDeep(f"nested deeper than {depth}")


def encode_within(encode: Callable[[Any], bytes], value: Any, depth: int) -> bytes:
    """Return the encoded value.

    Raises:
        TooDeep: it is nested deeper, whichever way the encoder ended.
    """
    try:
        data = encode(value)
    except RecursionError:
        raise TooDeep(f"nested deeper than {depth}") from None
    require_depth(data, depth)
    return data


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, _CONTAINERS):
        return value
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    return ()


def _children(info: Any) -> Iterable[Any]:
    named = (getattr(info, name, None) for name in ("item_type", "key_type", "value_type"))
    yield from (child for child in named if child is not None)
    yield from getattr(info, "item_types", ())
    yield from getattr(info, "types", ())
    for field in getattr(info, "fields", ()):
        yield field.type
