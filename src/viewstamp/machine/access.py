"""What a method declares of the keys that it touches and of its callers, and how a call is denied.

Rules of this file:

- a call touches *spans* of keys: every key that it reads or writes lies in one of them;
- what cannot be said touches every key: no declaration, a missing argument, a type that is not a key's;
- keys are compared as text, by code point, which is also the order of their UTF-8: bytes are keys where they
  are UTF-8, and else may mean any key;
- an integer as a key is its decimal text. In a range or a prefix it may mean any key: the order of numbers is
  not that of their texts.

The declaration stands in the class, so that it is equal on every replica. Whose calls may touch which keys
stands in the grants of the nodes (`replica.authorization`).
"""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.principals import role_of

_LAST: Final = chr(0x10FFFF)
KEY_CHARACTERS_MAX: Final = 200
"""Of a key in a denial."""


class Span(NamedTuple):
    """The keys from `start` on that come before `end`; None: all that follow."""

    start: str
    end: str | None

    def within(self, prefix: str) -> bool:
        """Return whether every key of this span begins with `prefix`."""
        if self.end is not None and self.end <= self.start:
            return True  # it holds no key
        after = successor(prefix)
        if not self.start.startswith(prefix):
            return False
        return after is None or (self.end is not None and self.end <= after)


EVERY_KEY: Final = Span("", None)


def successor(prefix: str) -> str | None:
    """Return the first text after all that begin with `prefix`; None: there is none."""
    shorter = prefix.rstrip(_LAST)
    return shorter[:-1] + chr(ord(shorter[-1]) + 1) if shorter else None


class Access(msgspec.Struct, frozen=True):
    """What the decorator of a method says. Names are those of arguments, or paths into them: `order.id`."""

    keys: tuple[str, ...] | None = None
    """Arguments that are a key, or hold several: a list of them, or a dict by key. None: not declared."""
    prefixes: tuple[str, ...] = ()
    """Arguments that stand for all keys that begin with them."""
    ranges: tuple[tuple[str, str], ...] = ()
    """(first, end): the keys from the one argument on that come before the other; an empty end is none."""
    roles: tuple[str, ...] = ()
    """Roles, or globs of principals, that may call it; empty: every caller."""
    frees: bool = False
    """Whether it gives room back: it is taken even where the disk is nearly full."""

    @property
    def is_declared(self) -> bool:
        """Whether the class says which keys the method touches."""
        return self.keys is not None or bool(self.prefixes or self.ranges)

    def check(self, where: str, parameters: Iterable[str]) -> None:
        """Raise `ConfigurationError` where a path does not begin with a parameter, or a role is empty."""
        known = set(parameters)
        ends = [end for both in self.ranges for end in both]
        for path in (*(self.keys or ()), *self.prefixes, *ends):
            if path.split(".")[0] not in known:
                raise ConfigurationError(
                    f"{where}: it has no argument {path.split('.')[0]!r}: keys, prefixes and ranges name "
                    "arguments"
                )
        if not all(self.roles):
            raise ConfigurationError(f"{where}: a role has a name")

    def spans(self, arguments: Any) -> Iterator[Span]:
        """Yield spans that hold every key which a call with these arguments touches."""
        if not self.is_declared:
            yield EVERY_KEY
        for path in self.keys or ():
            for key in _texts(arguments, path):
                yield EVERY_KEY if key is None else Span(key, key + "\0")
        for path in self.prefixes:
            for prefix in _texts(arguments, path, ordered=True):
                yield EVERY_KEY if prefix is None else Span(prefix, successor(prefix))
        for first, end in self.ranges:
            yield from _ranges(_texts(arguments, first, ordered=True), _texts(arguments, end, ordered=True))


NOT_DECLARED: Final = Access()


def _ranges(firsts: Iterator[str | None], ends: Iterator[str | None]) -> Iterator[Span]:
    every, until = list(firsts), list(ends)
    if len(every) != len(until):
        yield EVERY_KEY
        return
    for first, end in zip(every, until, strict=True):
        yield Span(first or "", end or None)


def _texts(arguments: Any, path: str, *, ordered: bool = False) -> Iterator[str | None]:
    """Yield what stands at a path, as texts; None: what is there is not a key, so it may mean any.

    With `ordered` only what the class orders as its text is ordered.
    """
    for value in _values(arguments, tuple(path.split("."))):
        yield None if ordered and isinstance(value, int) else _text(value)


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return None
    return None


def _values(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _values(item, path)
    elif isinstance(value, Mapping):
        for item in value.values() if path else value:
            yield from _values(item, path)
    elif path:
        yield from _values(getattr(value, path[0], None), path[1:])
    else:
        yield value


class Denial(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why a call is denied. It is the payload of a `core.messages.DENIED` result."""

    principal: str
    """Of the connection over which the call came."""
    method: str
    """Empty: it was not a call, but a request for a session."""
    missing: str
    """grant: the principal has none. method: none names this method. key: none covers it. role."""
    key: str | None = None
    """A key that no grant covers, or where a span begins that none covers; cut at `KEY_CHARACTERS_MAX`."""
    needs: str = ""
    """The roles that may call it, where that is what is missing."""

    @property
    def text(self) -> str:
        """One line: who was denied what, and what is missing."""
        what = f"call {self.method}" if self.method else "use this cluster"
        if self.missing == "key":
            what += f" on {self.key!a}" if self.key else " on every key"
        why = _WHY.get(self.missing, "it is not permitted")
        needs = f" {self.needs}" if self.needs else ""
        return f"not executed: {self.principal} may not {what}: {why}{needs}"


_WHY: Final = {
    "grant": "no [[grants]] of the cluster file names it",
    "method": "no [[grants]] of its own names this method",
    "key": "no [[grants]] of its own covers that",
    "role": "the class lets only this role call it:",
}


def has_role(principal: str, roles: Iterable[str]) -> bool:
    """Return whether a principal has one of these roles, or is one that their globs name."""
    role = role_of(principal).value
    return any(role == wanted or fnmatchcase(principal, wanted) for wanted in roles)


def shown(key: str) -> str:
    """Return a key as it may stand in a denial: cut."""
    return key if len(key) <= KEY_CHARACTERS_MAX else key[:KEY_CHARACTERS_MAX] + "..."
