"""Bytes of a value that are equal on all replicas whose values are equal, in whatever process.

Sets have no order that could be relied on, and msgspec sorts them only where Python can compare their
members. Rules of this file:

- where msgspec's order is one, it is used: it is fast;
- members of sets that cannot be compared (of several types, structs, enums), or only partly (sets in sets),
  are sorted by their bytes;
- dicts keep their order, or are sorted by the bytes of their keys, as the caller says.
"""

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, Protocol

import msgspec

from viewstamp.machine.type_kinds import field_names, kinds_of, set_field, types_in

_ENCODER: Final = msgspec.msgpack.Encoder()
_SORTING_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")
_SCALARS: Final = frozenset((int, float, str, bytes, bool, type(None)))
_SETS: Final = (msgspec.inspect.SetType, msgspec.inspect.FrozenSetType)


class Encodes(Protocol):
    """Makes bytes of a value."""

    def encode(self, value: Any, /) -> bytes:
        """Return the value as msgpack; raise what msgspec raises where that cannot be."""
        ...


class _Ordered:
    """Sorts sets, and dicts where `sorts_dicts`, by the bytes of what is in them."""

    def __init__(self, *, sorts_dicts: bool) -> None:
        self._sorts_dicts = sorts_dicts

    def encode(self, value: Any, /) -> bytes:
        return _ENCODER.encode(self._of(value))

    def _of(self, value: Any) -> Any:
        """Return the value with a sorted tuple in the place of each set; what holds one is copied."""
        if isinstance(value, set | frozenset):
            return tuple(sorted(map(self._of, value), key=_ENCODER.encode))
        if isinstance(value, dict):
            items = [(self._of_key(key), self._of(item)) for key, item in value.items()]
            return dict(sorted(items, key=_key_bytes) if self._sorts_dicts else items)
        if type(value) in {list, tuple}:
            return tuple(map(self._of, value))
        return self._of_fields(value)

    def _of_key(self, key: Any) -> Any:
        return key if isinstance(key, str | int) else self._of(key)

    def _of_fields(self, value: Any) -> Any:
        names = field_names(value)
        if not names:
            return value
        fresh = copy.copy(value)
        for name in names:
            set_field(fresh, name, self._of(getattr(value, name)))
        return fresh


_SETS_SORTED: Final = _Ordered(sorts_dicts=False)
_ALL_SORTED: Final = _Ordered(sorts_dicts=True)


class _SortedByMsgspec:
    """Lets msgspec sort sets and dicts, and sorts them itself where msgspec cannot."""

    def encode(self, value: Any, /) -> bytes:
        try:
            return _SORTING_ENCODER.encode(value)
        except TypeError:  # of members and keys; what cannot be encoded at all raises again
            return _ALL_SORTED.encode(value)


class _OfAny:
    """The same for values of which no type says whether they hold sets in sets."""

    def encode(self, value: Any, /) -> bytes:
        if type(value) in _SCALARS:
            return _ENCODER.encode(value)
        return (_ALL_SORTED if _has_set_in_set(value) else _SORTED_BY_MSGSPEC).encode(value)


_SORTED_BY_MSGSPEC: Final = _SortedByMsgspec()
_OF_ANY: Final = _OfAny()


@cache
def encoder_of(hint: Any) -> Encodes:
    """Return the encoder for a value of this type that keeps the order inside dicts."""
    if not holds_set(hint):
        return _ENCODER
    kinds = set(kinds_of(hint))
    if msgspec.inspect.DictType in kinds or _sets_in_sets(hint):
        return _SETS_SORTED
    return _SORTED_BY_MSGSPEC


@cache
def sorting_encoder_of(hint: Any) -> Encodes:
    """Return the encoder for a value of this type that sorts dicts too, where sets are near."""
    if not (holds_set(hint) or holds_any(hint)):
        return _ENCODER
    if _sets_in_sets(hint):
        return _ALL_SORTED
    return _OF_ANY if holds_any(hint) else _SORTED_BY_MSGSPEC


def sorted_bytes(value: Any) -> bytes:
    """Return bytes that are equal where values are, whatever the order in their sets and dicts."""
    return _OF_ANY.encode(value)


def holds_set(hint: Any) -> bool:
    """Return whether a value of this type may hold a set."""
    return not set(_SETS).isdisjoint(kinds_of(hint))


def holds_any(hint: Any) -> bool:
    """Return whether a value of this type may hold values of types that it does not name."""
    return msgspec.inspect.AnyType in kinds_of(hint)


def _sets_in_sets(hint: Any) -> bool:
    return any(isinstance(inner, _SETS) for member in _members(hint) for inner in types_in(member))


def _members(hint: Any) -> Iterator[Any]:
    """Yield the types of the members of all sets in a type."""
    for info in types_in(msgspec.inspect.type_info(hint)):
        if isinstance(info, _SETS):
            yield info.item_type


def _key_bytes(item: tuple[Any, Any]) -> bytes:
    return _ENCODER.encode(item[0])


def _has_set_in_set(value: Any) -> bool:
    """Return whether a set holds what Python orders only partly: msgspec's order is none then."""
    if isinstance(value, set | frozenset):
        return any(isinstance(member, frozenset) or _has_set_in_set(member) for member in value)
    if isinstance(value, dict):
        return any(map(_has_set_in_set, value)) or any(map(_has_set_in_set, value.values()))
    if isinstance(value, list | tuple):
        return not _SCALARS.issuperset(map(type, value)) and any(map(_has_set_in_set, value))
    return any(_has_set_in_set(getattr(value, name)) for name in field_names(value))
