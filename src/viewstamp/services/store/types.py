"""What clients send to the store and get from it, its errors and its limits.

Rules of this file:

- keys and values are bytes; a range is given as etcd gives it: an empty `end` means the one key, `EVERY_END`
  all keys from there on, anything else the keys before it;
- a *revision* is the fencing token of the command that made a change: all changes of one command have the
  same, a later command has a larger one, and none is ever used twice;
- a field may be appended with a default, never moved or removed.
"""

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import msgspec

ANSWER_BYTES_MAX: Final = 1 << 20
"""An answer ends with the item that passes this; `more` says so."""
ITEM_BYTES: Final = 64
"""What an item takes beside its key and value, at most."""
PAGE_ITEMS_MAX: Final = 10_000
OPERATIONS_MAX: Final = 1_024
"""Conditions and operations of one transaction, those of both branches and of inner ones included."""
KEYS_PER_COMMAND_MAX: Final = 65_536
"""Keys that one command deletes, or that one condition over a range looks at."""
EVERY_END: Final = b"\0"
"""The `end` of a range that has none."""
LEASE_MAX: Final = (1 << 63) - 1


class CompactedRevision(Exception):
    """The history no longer reaches back to this revision. Nothing was changed."""


class FutureRevision(Exception):
    """The store has not reached this revision. Nothing was changed."""


class DuplicateKey(Exception):
    """A transaction changes a key twice. Nothing was changed."""


class TooMany(Exception):
    """A command would change, or an answer would hold, more than the store allows. Nothing was changed."""


class LeaseNotFound(Exception):
    """There is no such lease, or another principal has it. Nothing was changed."""


class LeaseExists(Exception):
    """A lease with this number lives. Nothing was changed."""


class InvalidLease(Exception):
    """A lease cannot have this number or this time to live. Nothing was changed."""


class KeyValue(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A key as it is at some revision."""

    key: bytes
    value: bytes
    create: int
    """Revision at which the key was created."""
    mod: int
    """Revision of its last change."""
    version: int
    """1 when it was created, and 1 more for each change since."""
    lease: int = 0
    """The lease with which it is deleted; 0: none."""

    @property
    def name(self) -> str:
        """The key as text."""
        return self.key.decode(errors="backslashreplace")


Target: TypeAlias = Literal["version", "create", "mod", "value", "lease"]
Operator: TypeAlias = Literal["=", "!=", "<", ">"]


class Compare(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A condition: `target` of the key, or of each key of a range, is related to `operand`.

    A key that does not exist has 0 as its version, its revisions and its lease, and a value that no condition
    holds for. A range without a key is taken for such a key.
    """

    key: bytes
    target: Target
    op: Operator
    operand: int | bytes
    end: bytes = b""


class Put(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Write a key."""

    key: bytes
    value: bytes = b""
    lease: int = 0
    prev: bool = False
    """Return what was there before."""
    keep_value: bool = False
    """Leave the value as it is; the key must exist."""
    keep_lease: bool = False
    """Leave the lease as it is; the key must exist."""


class Delete(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Delete a key or a range."""

    key: bytes
    end: bytes = b""
    prev: bool = False
    """Return what was deleted."""

    @property
    def until(self) -> bytes:
        """The end of the range, for grants; empty: it has none."""
        return span(self.key, self.end)[1]


class Get(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Read a key or a range."""

    key: bytes
    end: bytes = b""
    limit: int = 0
    """At most as many items; 0: as many as fit into an answer."""
    revision: int = 0
    """As it was at this revision; 0: as it is."""
    keys_only: bool = False
    """Leave the values out."""
    count_only: bool = False
    """Leave the items out."""

    @property
    def until(self) -> bytes:
        """The end of the range, for grants; empty: it has none."""
        return span(self.key, self.end)[1]


class Watch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Ask for the changes of a key or a range."""

    key: bytes
    end: bytes = b""
    after: int = 0
    """Those with a higher revision."""
    skip: int = 0
    """Of the steps after `after`, those that were looked at before: as `News` says."""
    prev: bool = False
    """Tell what was there before each change."""

    @property
    def until(self) -> bytes:
        """The end of the range, for grants; empty: it has none."""
        return span(self.key, self.end)[1]


Plain: TypeAlias = Put | Delete | Get


class Innermost(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A transaction within an inner one. See `Txn`."""

    when: list[Compare] = []
    then: list[Plain] = []
    otherwise: list[Plain] = []


class Inner(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A transaction within a transaction. See `Txn`."""

    when: list[Compare] = []
    then: list[Plain | Innermost] = []
    otherwise: list[Plain | Innermost] = []


AnyTxn: TypeAlias = "Txn | Inner | Innermost"


class Txn(msgspec.Struct, frozen=True, array_like=True):
    """If all conditions hold, do `then`, and else `otherwise`: at once, under one revision.

    All conditions, also those of inner transactions, are about the state before the first change. A read sees
    the changes before it. Transactions may be nested three deep: types without recursion have a depth that
    every replica bounds alike.
    """

    when: list[Compare] = []
    then: list[Plain | Innermost | Inner] = []
    otherwise: list[Plain | Innermost | Inner] = []

    @property
    def firsts(self) -> list[bytes]:
        """The first key of each range that the transaction may touch, in both branches; for grants."""
        return [first for first, _ in spans(self)]

    @property
    def ends(self) -> list[bytes]:
        """The end of each of these ranges; empty: it has none."""
        return [end for _, end in spans(self)]


def spans(txn: AnyTxn) -> Iterator[tuple[bytes, bytes]]:
    """Yield (first key, end) of each range that a transaction names; an empty end is none."""
    for compare in txn.when:
        yield span(compare.key, compare.end)
    for operation in (*txn.then, *txn.otherwise):
        if isinstance(operation, Put):
            yield span(operation.key, b"")
        elif isinstance(operation, Delete | Get):
            yield span(operation.key, operation.end)
        else:
            yield from spans(operation)


def span(key: bytes, end: bytes) -> tuple[bytes, bytes]:
    """Return a range as (first key, end); an empty end is none."""
    return (key, key + b"\0") if not end else (key, b"" if end == EVERY_END else end)


class PutDone(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A key was written."""

    revision: int
    prev: KeyValue | None = None
    """What was there before, if it was asked for."""


class Deleted(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Keys were deleted, or there was none."""

    revision: int
    """The store's: that of this command where it changed something."""
    count: int
    prevs: list[KeyValue] = []
    """What was deleted, if it was asked for."""


class Found(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """What a read found, in the order of the keys."""

    revision: int
    """The store's, whatever revision was read."""
    items: list[KeyValue]
    more: bool
    """There is more in the range: read on behind the last key."""
    count: int
    """Keys in the whole range; in the past, where `more` is set, only those that were looked at."""


PlainDone: TypeAlias = PutDone | Deleted | Found


class InnermostDone(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """How an `Innermost` ended."""

    revision: int
    succeeded: bool
    results: list[PlainDone]


class InnerDone(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """How an `Inner` ended."""

    revision: int
    succeeded: bool
    results: list[PlainDone | InnermostDone]


class TxnDone(msgspec.Struct, frozen=True, array_like=True):
    """How a transaction ended."""

    revision: int
    """The store's after it."""
    succeeded: bool
    """Whether the conditions held."""
    results: list[PlainDone | InnermostDone | InnerDone]
    """One for each operation of the branch that was taken, in order."""


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One key changed."""

    key: bytes
    item: KeyValue | None
    """As it is from then on; None: it was deleted."""
    before: KeyValue | None = None
    """As it was, if that was asked for."""

    @property
    def name(self) -> str:
        """The key as text."""
        return self.key.decode(errors="backslashreplace")


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What one command changed in a range, in the order in which it did."""

    revision: int
    events: list[Event]
    more: bool = False
    """This is a fragment: the next change goes on with the same revision."""


class News(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What changed in a range after a revision."""

    changes: list[Change]
    revision: int
    """Everything up to here was told: ask for what comes after it."""
    skip: int = 0
    """Of the change after `revision`, as many events of the range were told."""


class Compacted(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """The history begins later than what was asked for: list the range, and watch from there."""

    oldest: int
    """The changes after this revision are known."""


class LeaseState(msgspec.Struct, frozen=True, array_like=True):
    """A lease as it is at some moment of the log."""

    lease: int
    ttl_ms: int
    left_ms: int
    """Of log time, without another `lease_keep_alive`."""
    keys: list[bytes] = []
    """The keys that are deleted with it, if they were asked for."""


class StoreLimits(msgspec.Struct, frozen=True):
    """What one store bears. Equal on all members: a refusal is a result like any other."""

    history_bytes_max: int = 64 << 20
    """Of the changes that are kept for watches and reads of the past."""
    history_ms_max: int = 3_600_000
    """How long they are kept, in log time."""
    leases_max: int = 100_000
    ttl_min_ms: int = 100
    ttl_max_ms: int = 10 * 366 * 86_400_000
