"""Conditions and operations of transactions, in words: `version("a") == 3`, `missing("b")`, `put("a", b"x")`.

A key is text, which goes as UTF-8, or bytes.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from viewstamp.core.errors import ConfigurationError
from viewstamp.replica.key_spans import prefix_end
from viewstamp.services.store.types import (
    EVERY_END,
    Compare,
    Delete,
    Get,
    Inner,
    Innermost,
    Operator,
    Put,
    Target,
    Txn,
)

Key: TypeAlias = str | bytes | bytearray | memoryview
Operation: TypeAlias = Put | Delete | Get | Innermost | Inner


def encoded(key: Key) -> bytes:
    """Return a key as the store has it.

    Raises:
        ConfigurationError: it is neither text nor bytes, or the text cannot be encoded. Nothing was sent.
    """
    if isinstance(key, bytes):
        return key
    if isinstance(key, bytearray | memoryview):
        return bytes(key)
    if not isinstance(key, str):
        raise ConfigurationError(f"the key {key!r:.100} is neither text nor bytes: nothing was sent")
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"the key {key!a} is not UTF-8 text: nothing was sent") from None


class Range(NamedTuple):
    """A key, or all keys with a prefix, or those of a range, as the store has it."""

    key: bytes
    end: bytes

    @classmethod
    def of(cls, key: Key | None, prefix: Key | None, end: Key | None = None) -> "Range":
        """Return the range that a caller names: by `key`, by `key` and `end`, or by `prefix`.

        An empty prefix is every key.

        Raises:
            ConfigurationError: neither is given, or both are.
        """
        if (key is None) == (prefix is None) or (end is not None and key is None):
            raise ConfigurationError("give a key, a key and an end, or a prefix")
        if prefix is not None:
            first = encoded(prefix)
            return cls(first or b"\0", prefix_end(first) or EVERY_END)
        assert key is not None
        return cls(encoded(key), b"" if end is None else encoded(end))


class Subject:
    """What a condition is about: compare it with `==`, `!=`, `<` or `>`."""

    __slots__ = ("_key", "_target")

    __hash__ = None  # type: ignore[assignment]  # comparing it makes a condition

    def __init__(self, key: Key, target: Target) -> None:
        self._key = encoded(key)
        self._target = target

    def _compare(self, op: Operator, operand: Any) -> Compare:
        wanted = bytes if self._target == "value" else int
        if not isinstance(operand, wanted):
            raise ConfigurationError(
                f"{self._target} is compared with {wanted.__name__}, not with {operand!r}"
            )
        return Compare(self._key, self._target, op, operand)

    def __eq__(self, operand: object) -> Compare:  # type: ignore[override]
        return self._compare("=", operand)

    def __ne__(self, operand: object) -> Compare:  # type: ignore[override]
        return self._compare("!=", operand)

    def __lt__(self, operand: int | bytes) -> Compare:
        return self._compare("<", operand)

    def __gt__(self, operand: int | bytes) -> Compare:
        return self._compare(">", operand)


def version(key: Key) -> Subject:
    """The number of changes since the key was created; 0: it does not exist."""
    return Subject(key, "version")


def created(key: Key) -> Subject:
    """The revision at which the key was created; 0: it does not exist."""
    return Subject(key, "create")


def modified(key: Key) -> Subject:
    """The revision of the key's last change; 0: it does not exist."""
    return Subject(key, "mod")


def value(key: Key) -> Subject:
    """The key's value. No condition about it holds where the key does not exist."""
    return Subject(key, "value")


def leased(key: Key) -> Subject:
    """The key's lease; 0: it has none, or does not exist."""
    return Subject(key, "lease")


def missing(key: Key) -> Compare:
    """The key does not exist."""
    return version(key) == 0


def exists(key: Key) -> Compare:
    """The key exists."""
    return version(key) > 0


class Leased(Protocol):
    """A lease that a client holds: `coordination.Lease`, `coordination_blocking.BlockingLease`."""

    @property
    def number(self) -> int:
        """The lease as the store knows it."""
        ...


def number_of(lease: Leased | int) -> int:
    """Return the number of a lease."""
    return lease if isinstance(lease, int) else lease.number


def put(key: Key, data: bytes, *, lease: Leased | int = 0, prev: bool = False) -> Put:
    """Write a key; with a lease it is deleted when that ends."""
    return Put(encoded(key), data, number_of(lease), prev)


def delete(key: Key | None = None, *, prefix: Key | None = None, prev: bool = False) -> Delete:
    """Delete a key, or all keys with a prefix."""
    span = Range.of(key, prefix)
    return Delete(span.key, span.end, prev)


def get(key: Key | None = None, *, prefix: Key | None = None, limit: int = 0) -> Get:
    """Read a key, or all keys with a prefix."""
    span = Range.of(key, prefix)
    return Get(span.key, span.end, limit)


_TOO_DEEP: Final = "transactions are nested three deep at most"


def txn(
    when: Sequence[Compare] = (),
    then: Sequence[Operation] = (),
    otherwise: Sequence[Operation] = (),
) -> Innermost | Inner:
    """Make a transaction that stands within another one.

    Raises:
        ConfigurationError: it would be nested deeper than three.
    """
    operations = [*then, *otherwise]
    if any(isinstance(each, Inner) for each in operations):
        raise ConfigurationError(_TOO_DEEP)
    kind = Inner if any(isinstance(each, Innermost) for each in operations) else Innermost
    return kind(list(when), list(then), list(otherwise))  # type: ignore[arg-type]


def whole(when: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation]) -> Txn:
    """Make the transaction that is sent."""
    return Txn(list(when), list(then), list(otherwise))
