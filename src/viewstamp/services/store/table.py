"""The keys as they are now, with their history and their leases: every change of the store goes through here.

Rules of this file:

- a change is checked before it is made: what raises has changed nothing;
- each change makes one step of the history, under the revision of its command;
- a key with a lease is attached to it, and no other key is.
"""

from collections.abc import Iterator
from heapq import merge
from itertools import islice

from viewstamp.services.kv import KEY_BYTES_MAX, VALUE_BYTES_MAX, InvalidKey, ValueTooLong
from viewstamp.services.sorted_names import SortedKeys
from viewstamp.services.store.history import History, Record, Step, step_of
from viewstamp.services.store.leases import Leases
from viewstamp.services.store.types import (
    ANSWER_BYTES_MAX,
    EVERY_END,
    ITEM_BYTES,
    KEYS_PER_COMMAND_MAX,
    PAGE_ITEMS_MAX,
    CompactedRevision,
    Found,
    FutureRevision,
    Get,
    KeyValue,
    StoreLimits,
    TooMany,
)


class Table:
    """The keys and values of one store."""

    __slots__ = ("floor", "history", "keys", "leases", "records", "revision")

    def __init__(self, limits: StoreLimits) -> None:
        self.records: dict[bytes, Record] = {}
        """Read-only for callers."""
        self.keys: SortedKeys[bytes] = SortedKeys()
        """Those of `records`, in order."""
        self.history = History(limits.history_bytes_max, limits.history_ms_max)
        self.leases = Leases()
        self.revision = 0
        """Of the last change."""
        self.floor = 0
        """Highest version, under the rules of `services.kv`, that any deleted key had."""

    # Changes

    def put(self, key: bytes, value: bytes, lease: int, revision: int, time: int) -> Record | None:
        """Write a key that was checked, with a lease that lives (0: none); return what was there before."""
        before = self.records.get(key)
        if before is None:
            record = Record(value, revision, revision, 1, lease, self.floor)
            self.keys.add(key)
        else:
            record = Record(value, before.create, revision, before.version + 1, lease, before.base)
        self.records[key] = record
        if before is not None and before.lease:
            self.leases.detach(before.lease, key)
        self.leases.attach(lease, key)
        self._changed(step_of(revision, time, key, record, before))
        return before

    def delete(self, key: bytes, revision: int, time: int) -> Record:
        """Delete a key that exists; return what it was."""
        before = self.records.pop(key)
        self.keys.remove(key)
        self.leases.detach(before.lease, key)
        self.floor = max(self.floor, before.base + before.version)
        self._changed(step_of(revision, time, key, None, before))
        return before

    def _changed(self, step: Step) -> None:
        assert step.revision >= self.revision, (step.revision, self.revision)
        self.revision = step.revision
        self.history.add(step)

    # Reads

    def within(self, key: bytes, end: bytes) -> Iterator[bytes]:
        """Yield the keys of a range, in order."""
        if not end:
            return iter((key,) if key in self.records else ())
        return self.keys.within(key, None if end == EVERY_END else end)

    def require_few(self, key: bytes, end: bytes, what: str) -> list[bytes]:
        """Return the keys of a range.

        Raises:
            TooMany: there are more than one command may look at.
        """
        keys = list(islice(self.within(key, end), KEYS_PER_COMMAND_MAX + 1))
        if len(keys) > KEYS_PER_COMMAND_MAX:
            raise TooMany(f"{what} more than {KEYS_PER_COMMAND_MAX} keys: take a part; nothing was changed")
        return keys

    def count(self, key: bytes, end: bytes) -> int:
        """Return how many keys a range has."""
        if not end:
            return int(key in self.records)
        return self.keys.count(key, None if end == EVERY_END else end)

    def read(self, get: Get, room_bytes: int = ANSWER_BYTES_MAX) -> Found:
        """Return what a range holds, now or at a revision.

        Raises:
            CompactedRevision, FutureRevision: it cannot be read at that revision.
        """
        revision = get.revision
        if revision and revision != self.revision:
            self.require_known(revision)
            return self._page(get, self._past(get.key, get.end, revision), room_bytes, None)
        count = self.count(get.key, get.end)
        if get.count_only:
            return Found(self.revision, [], False, count)
        records = self.records
        return self._page(
            get, ((key, records[key]) for key in self.within(get.key, get.end)), room_bytes, count
        )

    def require_known(self, revision: int) -> None:
        """Raise what `read` raises."""
        if revision < self.history.compacted:
            raise CompactedRevision(
                f"revision {revision} is compacted: the history begins after {self.history.compacted}"
            )
        if revision > self.revision:
            raise FutureRevision(f"revision {revision} is in the future: the last one is {self.revision}")

    def _past(self, key: bytes, end: bytes, revision: int) -> Iterator[tuple[bytes, Record]]:
        """Yield the keys of a range as they were at a revision that is known."""
        history, records = self.history, self.records
        until = None if end == EVERY_END else end or key + b"\0"
        for each in merge(self.keys.within(key, until), history.gone.within(key, until)):
            record = history.at(each, revision, records.get(each))
            if record is not None:
                yield each, record

    def _page(
        self, get: Get, found: Iterator[tuple[bytes, Record]], room_bytes: int, count: int | None
    ) -> Found:
        """Return one answer's worth of what was found; `count` None: count it as far as it is looked at."""
        items: list[KeyValue] = []
        limit = min(get.limit or PAGE_ITEMS_MAX, PAGE_ITEMS_MAX)
        seen, more = 0, False
        for key, record in found:
            if not get.count_only:
                if len(items) >= limit or room_bytes <= 0:
                    more = True
                    break
                value = b"" if get.keys_only else record.value
                items.append(shown(key, record, value))
                room_bytes -= len(key) + len(value) + ITEM_BYTES
            seen += 1
        return Found(self.revision, items, more, seen if count is None else count)


def shown(key: bytes, record: Record, value: bytes | None = None) -> KeyValue:
    """Return a key as clients get it."""
    return KeyValue(
        key,
        record.value if value is None else value,
        record.create,
        record.mod,
        record.version,
        record.lease,
    )


def shown_or_none(key: bytes, record: Record | None) -> KeyValue | None:
    """Return a key as clients get it, or None for one that does not exist."""
    return None if record is None else shown(key, record)


def check_key(key: bytes) -> None:
    """Raise `InvalidKey` for a key that the store does not take."""
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise InvalidKey(f"a key has from 1 to {KEY_BYTES_MAX} bytes, not {len(key)}; nothing was changed")


def check_value(value: bytes) -> None:
    """Raise `ValueTooLong` for a value that the store does not take."""
    if len(value) > VALUE_BYTES_MAX:
        raise ValueTooLong(
            f"a value has up to {VALUE_BYTES_MAX} bytes, not {len(value)}: nothing was changed"
        )
