"""The default snapshot of a machine: its annotated attributes, in order of definition, by msgspec.

The order inside a dict is state, since a machine may depend on it; it is kept. Sets have no order that a
machine may depend on; they are sorted, unless a dict is near them, whose order counts for more.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import msgspec

_ENCODER: Final = msgspec.msgpack.Encoder()
_SORTING_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")
_PIECE: Final[msgspec.msgpack.Decoder[list[tuple[str, msgspec.Raw]]]] = msgspec.msgpack.Decoder(
    list[tuple[str, msgspec.Raw]]
)


def encode_state(machine: Any, state: Mapping[str, Any]) -> bytes:
    """Return the attributes as one msgpack array of (name, value).

    Raises:
        TypeError: an attribute holds what msgspec cannot encode.
    """
    attributes = [
        (name, msgspec.Raw(encoder_of(hint).encode(getattr(machine, name)))) for name, hint in state.items()
    ]
    return _ENCODER.encode(attributes)


def decode_state(machine: Any, state: Mapping[str, Any], snapshot: bytes) -> None:
    """Set the attributes from `encode_state`'s bytes; one that is missing there keeps its default.

    Raises:
        ValueError: these bytes are not the state of such a machine.
    """
    found = dict(_PIECE.decode(snapshot))
    unknown = found.keys() - state.keys()
    if unknown:
        raise ValueError(f"a snapshot with the unknown attribute {min(unknown)!r}")
    for name, raw in found.items():
        setattr(machine, name, msgspec.msgpack.decode(raw, type=state[name]))


@cache
def _sorts(hint: Any) -> bool:
    kinds = set(_kinds(msgspec.inspect.type_info(hint), frozenset()))
    holds_set = bool(kinds & {msgspec.inspect.SetType, msgspec.inspect.FrozenSetType})
    return holds_set and msgspec.inspect.DictType not in kinds


def encoder_of(hint: Any) -> msgspec.msgpack.Encoder:
    """Return the encoder that makes equal bytes of equal values of this type on every replica."""
    return _SORTING_ENCODER if _sorts(hint) else _ENCODER


def _kinds(info: Any, seen: frozenset[Any]) -> Iterator[type[Any]]:
    """Yield the kinds of all types in this type; a recursive class is entered once."""
    yield type(info)
    inner = getattr(info, "cls", None)
    if inner in seen:
        return
    below = seen if inner is None else seen | {inner}
    for child in _children(info):
        yield from _kinds(child, below)


def _children(info: Any) -> Iterable[Any]:
    named = (getattr(info, name, None) for name in ("item_type", "key_type", "value_type"))
    yield from (child for child in named if child is not None)
    yield from getattr(info, "item_types", ())
    yield from getattr(info, "types", ())
    for field in getattr(info, "fields", ()):
        yield field.type
