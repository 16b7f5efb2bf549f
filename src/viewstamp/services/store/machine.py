"""The commands and queries of the store, as one machine.

Rules of this file:

- a command's revision is its fencing token; what raises has changed nothing;
- each command forgets a bounded part of the history that has left its window;
- a query of the past is exact or refused.
"""

from collections.abc import Iterator
from typing import ClassVar, Final

from viewstamp.core.ids import fencing_token
from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.services.kv import InvalidKey, NoKey, ValueTooLong
from viewstamp.services.store import images
from viewstamp.services.store.changes import news
from viewstamp.services.store.history import MICROSECONDS_PER_MS
from viewstamp.services.store.leases import Lease
from viewstamp.services.store.table import Table, check_key
from viewstamp.services.store.transactions import Running
from viewstamp.services.store.types import (
    LEASE_MAX,
    Compacted,
    CompactedRevision,
    Delete,
    Deleted,
    DuplicateKey,
    Found,
    FutureRevision,
    Get,
    InvalidLease,
    LeaseExists,
    LeaseNotFound,
    LeaseState,
    News,
    Put,
    PutDone,
    StoreLimits,
    TooMany,
    Txn,
    TxnDone,
    Watch,
    span,
)

LEASES_SHOWN_MAX: Final = 10_000
ERRORS: Final[tuple[type[Exception], ...]] = (
    NoKey,
    InvalidKey,
    ValueTooLong,
    CompactedRevision,
    FutureRevision,
    DuplicateKey,
    TooMany,
    LeaseNotFound,
    LeaseExists,
    InvalidLease,
)


class CoordinationStore(StateMachine):
    """Keys with revisions, history, watches and leases."""

    raises: ClassVar[tuple[type[Exception], ...]] = ERRORS
    """What clients get as these very exceptions."""
    limits: ClassVar[StoreLimits] = StoreLimits()

    def __init__(self) -> None:
        self._table = Table(self.limits)

    def __len__(self) -> int:
        return len(self._table.records)

    # Keys

    @command(keys=("put.key",))
    def kv_put(self, put: Put) -> PutDone:
        """Write a key; with a lease it is deleted when that ends, and without one it leaves any lease.

        Raises:
            InvalidKey, ValueTooLong, NoKey, LeaseNotFound, TooMany: see there.
        """
        running = self._begin()
        done = running.put(put)
        self._finish(running.revision)
        return done

    @command(ranges=(("delete.key", "delete.until"),), frees=True)
    def kv_delete(self, delete: Delete) -> Deleted:
        """Delete a key or a range.

        Raises:
            InvalidKey, TooMany: see there.
        """
        running = self._begin()
        done = running.delete(delete)
        self._finish(running.revision)
        return done

    @command(ranges=(("txn.firsts", "txn.ends"),))
    def kv_txn(self, txn: Txn) -> TxnDone:
        """Run a transaction.

        Raises:
            InvalidKey, ValueTooLong, NoKey, LeaseNotFound, DuplicateKey, TooMany: see there.
            CompactedRevision, FutureRevision: a read in it is of such a revision.
        """
        running = self._begin()
        done = running.transact(txn)
        self._finish(running.revision)
        return done

    @query(ranges=(("get.key", "get.until"),))
    def kv_range(self, get: Get) -> Found:
        """Read a key or a range, as it is or as it was.

        Raises:
            InvalidKey, CompactedRevision, FutureRevision: see there.
        """
        check_key(get.key)
        return self._table.read(get)

    @query(keys=())
    def kv_revision(self) -> int:
        """Return the revision of the last change."""
        return self._table.revision

    @query(ranges=(("watch.key", "watch.until"),))
    def kv_changes(self, watch: Watch) -> News | Compacted:
        """Return what changed in a range after a revision: a part at a time, nothing twice, nothing left out.

        Asked by `WaitFor` it waits until there is something to tell.

        Raises:
            InvalidKey: see there.
        """
        check_key(watch.key)
        context = self.context
        told = news(self._table, watch, fencing_token(context.viewstamp.seqno, 0))
        if isinstance(told, News) and not told.changes and not told.skip and self._has_told_all(told):
            first, end = span(watch.key, watch.end)
            context.wait_for(first, end or None)
        return told

    def _has_told_all(self, told: News) -> bool:
        return told.revision >= self._table.revision

    @command(frees=True)  # it touches every key: only a grant without prefixes covers it
    def kv_compact(self, revision: int) -> int:
        """Forget what was before this revision: from now on it is the oldest that can be read.

        Returns it, or a later one where the history begins later already. The keys as they are stay.

        Raises:
            FutureRevision: the store has not reached it.
        """
        table = self._table
        if revision > table.revision:
            raise FutureRevision(f"revision {revision} is in the future: the last one is {table.revision}")
        table.history.compact(revision)
        table.history.trim(self.context.now)
        return table.history.compacted

    @command
    def kv_window(self, bytes_max: int, ms_max: int) -> None:
        """Keep at most as many bytes of history, and as long a time of it. What is kept now goes by and by.

        Raises:
            TooMany: a number is negative.
        """
        if bytes_max < 0 or ms_max < 0:
            raise TooMany("the window of the history cannot be negative: nothing was changed")
        history = self._table.history
        history.bytes_max, history.ms_max = bytes_max, ms_max
        history.trim(self.context.now)

    # Leases

    @command(keys=())
    def lease_grant(self, ttl_ms: int, lease: int = 0) -> int:
        """Grant a lease that ends when `lease_keep_alive` is not called for this time of the log; return it.

        Args:
            ttl_ms: how long, in milliseconds of log time.
            lease: its number, which no lease has; 0: the store chooses one that none ever had.

        Raises:
            InvalidLease, LeaseExists, TooMany: see there.
        """
        context, leases, limits = self.context, self._table.leases, self.limits
        if not (limits.ttl_min_ms <= ttl_ms <= limits.ttl_max_ms and 0 <= lease <= LEASE_MAX):
            raise InvalidLease(
                f"a lease lives from {limits.ttl_min_ms} to {limits.ttl_max_ms} ms, and its number is from 0 "
                f"to {LEASE_MAX}: nothing was granted"
            )
        number = lease or context.token
        if number in leases:
            raise LeaseExists(f"lease {number} lives already: nothing was granted")
        if len(leases) >= limits.leases_max:
            raise TooMany(f"the store keeps {limits.leases_max} leases already: nothing was granted")
        ttl_us = ttl_ms * MICROSECONDS_PER_MS
        leases.grant(Lease(number, ttl_us, context.now + ttl_us, context.principal))
        return number

    @command(keys=())
    def lease_keep_alive(self, lease: int) -> int:
        """Let a lease live for its time from now on; return that time, in milliseconds.

        Raises:
            LeaseNotFound: see there.
        """
        found = self._table.leases.of(lease, self.context.principal)
        self._table.leases.keep_alive(found, self.context.now)
        return found.ttl_us // MICROSECONDS_PER_MS

    @command(keys=(), frees=True)
    def lease_revoke(self, lease: int) -> int:
        """End a lease and delete its keys, all under one revision, which is returned.

        Raises:
            LeaseNotFound: see there.
        """
        self._end(self._table.leases.of(lease, self.context.principal))
        return self._table.revision

    @command(keys=())
    def lease_time_to_live(self, lease: int, keys: bool = False) -> LeaseState:  # noqa: FBT001, FBT002  on the wire
        """Return how long a lease lives without another sign: a command, because only the log knows its time.

        Raises:
            LeaseNotFound: see there.
        """
        found = self._table.leases.of(lease, self.context.principal)
        left_us = max(0, found.ends_at - self.context.now)
        names = sorted(found.keys) if keys else []
        ttl_ms, left_ms = found.ttl_us // MICROSECONDS_PER_MS, left_us // MICROSECONDS_PER_MS
        return LeaseState(lease, ttl_ms, left_ms, names)

    @query(keys=())
    def lease_leases(self, after: int = 0) -> list[int]:
        """Return the caller's leases that live, by number, 10,000 at a time: those higher than `after`."""
        own = (each.lease for each in self._table.leases if each.principal == self.context.principal)
        return sorted(number for number in own if number > after)[:LEASES_SHOWN_MAX]

    def next_alarm(self) -> int | None:
        """Return when the first lease ends."""
        return self._table.leases.next_end

    def alarm(self) -> None:
        """End the lease that is due first."""
        lease = self._table.leases.overdue(self.context.now)
        if lease is not None:
            self._end(lease)

    def _end(self, lease: Lease) -> None:
        running = self._begin()
        for key in sorted(lease.keys):
            running.table.delete(key, running.revision, running.time)
        running.table.leases.end(lease)
        self._finish(running.revision)

    # State

    def life_begins(self) -> None:
        """Make every watch list again: this cluster may never have seen what the other one told."""
        self._table.history.compact(max(self._table.revision, self.context.token))
        self._table.revision = self.context.token

    def snapshot(self) -> Iterator[bytes]:
        """Yield the store in pieces (`images`)."""
        return images.pieces(self._table)

    def restore(self, snapshot: bytes) -> None:
        """Set the state of a fresh store; raise ValueError where the bytes are not a snapshot of one."""
        images.fill(self._table, snapshot)

    def _begin(self) -> Running:
        context = self.context
        return Running(self._table, context.token, context.now, context.principal)

    def _finish(self, revision: int) -> None:
        """Tell which keys a command has changed, and forget what has left the window."""
        context, table = self.context, self._table
        if context.listens and table.revision == revision:
            steps, first = table.history.after(revision - 1)
            for step in steps[first:]:
                context.changed(step.key)
        table.history.trim(context.now)
