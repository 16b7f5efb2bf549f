"""Cores as values: an independent copy of one, and a fingerprint by which equal ones are recognised.

A core is a graph of plain objects with `__slots__`, lists, dictionaries, sets and deques over immutable
leaves. Both functions walk it by the types it is made of; a protocol has nothing to do for it but to keep to
these.

A fingerprint leaves out what cannot influence behaviour (counters, the random number generator of a world
without chance) and tells moments relative to the core's own `now`: by convention, attributes that end in
`_at` are moments. So a core that did the same an hour later has the same fingerprint.
"""

from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from random import Random
from types import FunctionType, MethodType
from typing import Any, Final

import msgspec

_NEVER: Final = 1 << 61
"""Larger numbers are not moments: they mean never."""
IGNORED: Final = frozenset({"now", "counters", "rng"})

_LEAVES: Final = (int, str, bytes, float, type(None), Enum, frozenset, msgspec.Struct, Random, FunctionType)


def _slots(kind: type) -> tuple[str, ...]:
    names: list[str] = []
    for base in kind.__mro__:
        declared = base.__dict__.get("__slots__", ())
        names += [declared] if isinstance(declared, str) else sorted(declared)
    assert names, f"{kind.__name__} has no slots: it cannot be copied"
    return tuple(names)


class Copier:
    """Copies and fingerprints; remembers how for each type."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[type, tuple[str, ...]] = {}

    def copy(self, value: Any) -> Any:
        """Return a copy that shares nothing mutable with `value`."""
        return self._copy(value, {})

    def fingerprint(self, value: Any, now: int) -> int:
        """Return a number that is equal for values that behave alike from `now` on."""
        return hash(self._describe(value, now, {}))

    def _slots_of(self, kind: type) -> tuple[str, ...]:
        names = self._names.get(kind)
        if names is None:
            names = self._names[kind] = _slots(kind)
        return names

    def _copy(self, value: Any, done: dict[int, Any]) -> Any:
        if isinstance(value, _LEAVES):
            return value
        key = id(value)
        if key in done:
            return done[key]
        if isinstance(value, tuple):
            return tuple(self._copy(part, done) for part in value)
        if isinstance(value, MethodType):
            return MethodType(value.__func__, self._copy(value.__self__, done))
        if isinstance(value, list | set | deque):
            kind: Callable[..., Any] = type(value)
            copied = done[key] = kind(self._copy(part, done) for part in value)
            return copied
        if isinstance(value, dict):
            return self._copy_dict(value, done)
        return self._copy_object(value, done)

    def _copy_dict(self, value: dict[Any, Any], done: dict[int, Any]) -> Any:
        copied: dict[Any, Any] = Counter() if isinstance(value, Counter) else {}
        done[id(value)] = copied
        for name, part in value.items():
            copied[name] = self._copy(part, done)
        return copied

    def _copy_object(self, value: Any, done: dict[int, Any]) -> Any:
        kind = type(value)
        copied = done[id(value)] = object.__new__(kind)
        for name in self._slots_of(kind):
            object.__setattr__(copied, name, self._copy(getattr(value, name), done))
        return copied

    def _describe(self, value: Any, now: int, seen: dict[int, int]) -> Any:
        if isinstance(value, MethodType):
            return value.__name__
        if isinstance(value, Random | FunctionType):
            return None
        if isinstance(value, _LEAVES):
            return value
        if id(value) in seen:
            return ("again", seen[id(value)])
        seen[id(value)] = len(seen)
        if isinstance(value, tuple | list | deque):
            return tuple(self._describe(part, now, seen) for part in value)
        if isinstance(value, set):
            return frozenset(value)
        if isinstance(value, dict):
            return tuple((name, self._describe(part, now, seen)) for name, part in value.items())
        return self._describe_object(value, now, seen)

    def _describe_object(self, value: Any, now: int, seen: dict[int, int]) -> Any:
        parts = []
        for name in self._slots_of(type(value)):
            if name not in IGNORED:
                part = getattr(value, name)
                if name.endswith("_at") and isinstance(part, int) and part < _NEVER:
                    part -= now
                parts.append(part if isinstance(part, int) else self._describe(part, now, seen))
        return (type(value).__name__, *parts)
