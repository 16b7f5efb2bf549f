"""The text of a constant that a command reads: equal where the values are, in every process and Python."""

import re
from collections.abc import Callable, Iterator
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from viewstamp.machine.type_kinds import field_names

Names = Callable[[Any], str | None]
"""Returns how a function or class is called; None: the value is neither."""
_PLAIN: Final = (bool, int, float, complex, str, bytes, bytearray, type(None), type(Ellipsis))
_TOLD_BY_REPR: Final = frozenset(("datetime", "decimal", "fractions", "operator", "uuid"))
"""Modules of the standard library whose objects tell their value by `repr`, as ranges and slices do."""


class ConstantText:
    """Makes the texts of constants; functions and classes in them are given to `names`."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._open: set[int] = set()
        """Values whose parts are being looked at: a cycle ends there."""

    def of(self, value: Any) -> str:
        """Return the text. Of an object that says nothing of its value it is the name of its class."""
        kind = type(value)
        if kind in _PLAIN:
            return f"int {value:x}" if kind is int else ascii(value)
        if kind in {range, slice} or kind.__module__ in _TOLD_BY_REPR:
            return ascii(value)
        if isinstance(value, re.Pattern):
            return f"pattern {value.pattern!a} {value.flags}"
        name = self._names(value)
        if name is not None:
            return name
        if id(value) in self._open:
            return "..."
        self._open.add(id(value))
        try:
            return f"{self._names(kind) or kind.__name__}({', '.join(self._parts(value))})"
        finally:
            self._open.discard(id(value))

    def _parts(self, value: Any) -> Iterator[str]:
        if isinstance(value, Enum):
            yield value.name
        elif isinstance(value, dict | MappingProxyType):
            yield from (f"{self.of(key)}: {self.of(item)}" for key, item in value.items())
        elif isinstance(value, list | tuple):
            yield from map(self.of, value)
        elif isinstance(value, set | frozenset):
            yield from sorted(map(self.of, value))
        else:
            yield from (f"{name}={self.of(getattr(value, name, None))}" for name in self._fields(value))

    def _fields(self, value: Any) -> tuple[str, ...]:
        names = field_names(value)
        if names or self._names(type(value)) is None:
            return names
        return tuple(sorted(vars(value))) if hasattr(value, "__dict__") else ()
