"""An optimistic transaction without input or output: what was read becomes conditions, what is written waits.

Rules of this file:

- all reads are of one revision, that of the first one, and see the transaction's own writes;
- the transaction is executed if nothing that it read has changed since, keys that appeared in a range that it
  read included, and else it is not executed at all.
"""

from viewstamp.core.errors import InvalidCall, NotExecuted
from viewstamp.services.store.types import Compare, Delete, Found, Get, Plain, Put, Txn


class Conflict(NotExecuted):
    """Something that the transaction read was changed meanwhile. Nothing was written: do it again."""


class Optimism:
    """What one transaction has read and will write."""

    __slots__ = ("_conditions", "_ended", "_writes", "revision")

    def __init__(self) -> None:
        self.revision = 0
        """At which the reads are; 0: nothing was read."""
        self._conditions: dict[tuple[bytes, bytes], list[Compare]] = {}
        self._writes: dict[bytes, Put | Delete] = {}
        self._ended = False

    def written(self, key: bytes) -> tuple[bool, bytes | None]:
        """Return whether the transaction writes this key, and its value then; None: it deletes it."""
        write = self._writes.get(key)
        return write is not None, write.value if isinstance(write, Put) else None

    def reading(self, key: bytes, end: bytes = b"") -> Get:
        """Return what to ask the store."""
        return Get(key, end, 0, self.revision)

    def read(self, get: Get, found: Found) -> None:
        """Take in what the store answered."""
        self.revision = self.revision or found.revision
        conditions = [Compare(item.key, "mod", "=", item.mod) for item in found.items]
        if get.end:
            # Nothing in the range has appeared or changed since; what it held is still there.
            conditions.append(Compare(get.key, "mod", "<", self.revision + 1, get.end))
        elif not found.items:
            conditions.append(Compare(get.key, "version", "=", 0))
        self._conditions.setdefault((get.key, get.end), conditions)

    def write(self, operation: Put | Delete) -> None:
        """Remember a write of one key; a later one takes its place.

        Raises:
            InvalidCall: the transaction was committed.
        """
        self._require_open()
        self._writes[operation.key] = operation

    def _require_open(self) -> None:
        """Refuse a second end: what was written would be written again."""
        if self._ended:
            raise InvalidCall("the transaction was committed: begin another; nothing was written now")

    def end(self) -> Txn | None:
        """Return what to execute; None: nothing was written.

        Raises:
            InvalidCall: the transaction was committed.
        """
        self._require_open()
        self._ended = True
        if not self._writes:
            return None
        writes: list[Plain] = list(self._writes.values())
        when = [condition for conditions in self._conditions.values() for condition in conditions]
        return Txn(when, [*writes])
