"""The coordination store for tasks: keys, transactions, watches, leases. `viewstamp.coordination` makes it.

The blocking front is `coordination_blocking`; what both do without input or output is in `watching`,
`optimism`, `conditions` and `lease_clock`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Self

from viewstamp.clients.conditions import Key, Leased, Operation, Range, encoded, number_of, whole
from viewstamp.clients.lease_clock import LeaseClock, Standing, ttl_ms
from viewstamp.clients.optimism import Conflict, Optimism
from viewstamp.clients.watch_failures import failure_of_answer
from viewstamp.core.errors import (
    ConfigurationError,
    NotExecuted,
    OutcomeUnknown,
    SessionExpired,
    ViewstampError,
)
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.client import AsyncClient
from viewstamp.runtime.config import TlsFiles
from viewstamp.runtime.discovery import Where
from viewstamp.runtime.proxies import make_proxy, with_options
from viewstamp.runtime.system import boottime_us, fresh_rng
from viewstamp.runtime.tokens import TokenSource
from viewstamp.services.store import CoordinationStore
from viewstamp.services.store.types import (
    Compacted,
    CompactedRevision,
    Compare,
    Delete,
    Found,
    FutureRevision,
    Get,
    KeyValue,
    LeaseNotFound,
    Put,
    TxnDone,
    Watch,
)
from viewstamp.services.store.watching import ANSWER_S, Changes, Progress, Resync, Told, Watching

__all__ = ["Changes", "Conflict", "Coordination", "Keys", "Lease", "Progress", "Resync", "Transaction"]

_UNANSWERED: Final = (NotExecuted, OutcomeUnknown, SessionExpired)
"""What ends a call because of the cluster, not because of what it asks."""


class Coordination:
    """A client of a cluster's coordination store. Enter it with `async with`, or `start` and `close` it."""

    def __init__(
        self,
        where: Where,
        *,
        part: str = "",
        timeout_s: float = 10.0,
        options: ClientOptions | None = None,
        token: TokenSource | None = None,
        tls: TlsFiles | None = None,
        operator: bool = False,
    ) -> None:
        """Prepare a client.

        Args:
            where: an address, several of them, or a cluster file, as for `viewstamp.connect`.
            part: the store's name in the cluster's machine; "" for the stock server, and where the machine is
                the store itself.
            timeout_s: how long one call may take.
            options: limits and times of the client underneath.
            token: proves the name of a client that has no certificate.
            tls: names this client's certificate, where the cluster file does not.
            operator: prove that the caller is an operator, by the secret that the cluster file names.

        Raises:
            ConfigurationError: `where` names no cluster, or a setting makes no sense.
        """
        self.client = AsyncClient(
            where, timeout_s=timeout_s, options=options, token=token, tls=tls, operator=operator
        )
        self.store: type[CoordinationStore] = make_proxy(CoordinationStore, self.client, part=part)
        """The store's own methods, such as `await c.store.kv_txn(...)`."""
        self.kv = Keys(self.client, self.store, part)
        """The keys."""
        self._leases: set[Lease] = set()
        self._withdrawing: set[asyncio.Future[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Find the cluster.

        Raises:
            NotExecuted: only addresses were given, and none of them answered in time.
        """
        await self.client.start()

    async def close(self) -> None:
        """End watches and calls, and keep no lease alive any longer; the leases end by themselves."""
        for lease in list(self._leases):
            lease.abandon()
        await self.client.close()

    async def lease(self, ttl_s: float, *, number: int = 0) -> "Lease":
        """Grant a lease that lives while this process keeps it alive, and up to `ttl_s` longer.

        What is granted to a caller that was cancelled is revoked.

        Raises:
            InvalidLease, LeaseExists, TooMany: nothing was granted.
            NotExecuted, OutcomeUnknown: an unknown one ends by itself.
        """
        sent = boottime_us()
        granting = asyncio.ensure_future(self.store.lease_grant(ttl_ms(ttl_s), number))
        try:
            granted = await asyncio.shield(granting)
        except asyncio.CancelledError:
            withdrawing = asyncio.ensure_future(self._withdraw(granting))
            self._withdrawing.add(withdrawing)
            withdrawing.add_done_callback(self._withdrawing.discard)
            raise
        lease = Lease(self.store, LeaseClock(granted, ttl_s, sent, boottime_us), self._leases)
        self._leases.add(lease)
        return lease

    async def _withdraw(self, granting: asyncio.Future[int]) -> None:
        """Revoke what a caller that was cancelled is granted: nobody else knows of it."""
        with suppress(ViewstampError, LeaseNotFound):
            await self.store.lease_revoke(await granting)


class Keys:
    """The keys of the store."""

    __slots__ = ("_client", "_part", "_store")

    def __init__(self, client: AsyncClient, store: type[CoordinationStore], part: str) -> None:
        self._client = client
        self._store = store
        self._part = part

    async def put(self, key: Key, data: bytes, *, lease: Leased | int = 0) -> int:
        """Write a key and return the revision; with a lease it is deleted when that ends.

        Raises:
            InvalidKey, ValueTooLong, LeaseNotFound, TooMany: nothing was changed.
        """
        done = await self._store.kv_put(Put(encoded(key), data, number_of(lease)))
        return done.revision

    async def get(self, key: Key, *, revision: int = 0) -> KeyValue | None:
        """Return a key, as it is or as it was at a revision; None: it does not exist.

        Raises:
            CompactedRevision, FutureRevision: it cannot be read at that revision.
        """
        found = await self._store.kv_range(Get(encoded(key), revision=revision))
        return found.items[0] if found.items else None

    async def range(
        self,
        key: Key | None = None,
        *,
        prefix: Key | None = None,
        end: Key | None = None,
        limit: int = 0,
        revision: int = 0,
    ) -> Found:
        """Return the keys of a range, all of them as they were at one revision.

        Args:
            key: the first key, with `end`.
            prefix: all keys that begin with it; empty: every key.
            end: the first key behind the range.
            limit: at most as many; 0: all of them, page by page.
            revision: as it was at this revision; 0: as it is.

        Raises:
            CompactedRevision, FutureRevision: it cannot be read at that revision, or a page that took long
                no longer can.
            ConfigurationError: `limit` is negative, or the range is not named as above.
        """
        if limit < 0:
            raise ConfigurationError(f"limit is {limit}: give a number, or 0 for all; nothing was sent")
        span = Range.of(key, prefix, end)
        return await self._all(Get(span.key, span.end, limit, revision))

    async def _all(self, get: Get) -> Found:
        whole_range: list[KeyValue] = []
        page = first = await self._store.kv_range(get)
        revision = get.revision or first.revision
        while page.more and (not get.limit or len(whole_range) + len(page.items) < get.limit):
            whole_range += page.items
            left = get.limit - len(whole_range) if get.limit else 0
            after = page.items[-1].key + b"\0"
            page = await self._store.kv_range(Get(after, get.end, left, revision))
        return Found(revision, [*whole_range, *page.items], page.more, first.count)

    async def delete(self, key: Key | None = None, *, prefix: Key | None = None) -> int:
        """Delete a key, or all with a prefix; return how many there were.

        Raises:
            InvalidKey, TooMany: nothing was changed.
        """
        span = Range.of(key, prefix)
        return (await self._store.kv_delete(Delete(span.key, span.end))).count

    async def txn(
        self,
        when: Sequence[Compare] = (),
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
    ) -> TxnDone:
        """If all conditions hold do `then`, and else `otherwise`: at once, under one revision.

        `clients.conditions` makes conditions and operations.

        Raises:
            InvalidKey, ValueTooLong, NoKey, LeaseNotFound, DuplicateKey, TooMany: nothing was changed.
        """
        return await self._store.kv_txn(whole(when, then, otherwise))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """Read and write in a block that happens as a whole, or not at all.

        Raises:
            Conflict: at its end: what it read was changed meanwhile. Nothing was written.
        """
        transaction = self.begin()
        yield transaction
        await transaction.commit()

    def begin(self) -> "Transaction":
        """Begin a transaction whose end is `commit`, where no block fits."""
        return Transaction(self._store)

    async def history(self, key: Key) -> list[Changes]:
        """Return the changes of a key that are kept, the oldest first."""
        watch, changes = Watch(encoded(key)), list[Changes]()
        while True:
            news = await self._store.kv_changes(watch)
            if isinstance(news, Compacted):
                watch = Watch(watch.key, after=news.oldest)
                continue
            changes += (Changes(change.revision, change.events) for change in news.changes)
            if not news.changes:
                return changes
            watch = Watch(watch.key, after=news.revision)

    async def watch(
        self,
        prefix: Key | None = None,
        *,
        key: Key | None = None,
        end: Key | None = None,
        after: int | None = None,
        prev: bool = False,
    ) -> AsyncGenerator[Told, None]:
        """Yield what changes, as long as the caller takes it: every change once, in order, or a `Resync`.

        `async for what in c.kv.watch("svc/"): match what: case Changes(): ... case Resync(): ...`. It goes on
        through failures of servers and of the network; a caller that is slow loses nothing but time.

        Args:
            prefix: all keys that begin with it; empty: every key.
            key: this key, or the first one of a range with `end`.
            end: the first key behind the range.
            after: what changed after this revision, such as the one of a `Progress`. None: from now on.
            prev: tell what was there before each change.

        Raises:
            PermissionDenied, InvalidKey: the caller may not watch this.
            NotExecuted: the client was closed.
        """
        span = Range.of(key, prefix, end)
        if after is None:
            after = await self._revision()
        watching = Watching(span.key, span.end, after=after, prev=prev, rng=fresh_rng(), part=self._part)
        while True:
            reply = await self._ask(watching)
            if reply is None:
                await asyncio.sleep(watching.failed())
                continue
            answer = watching.answered(reply)
            if answer.failure is not None:
                raise failure_of_answer(answer.failure)
            if answer.refused:
                await asyncio.sleep(watching.failed(refused=True))
            elif answer.must_list:
                yield watching.listed(*await self._list(span))
            else:
                for told in answer.told:
                    yield told

    async def _ask(self, watching: Watching) -> bytes | None:
        """Ask one server, and return its answer; None: it did not answer."""
        node = watching.choose(self._client.reachable)
        try:
            if node is None:
                await self._store.kv_revision()  # until one can be reached
                return None
            reply: bytes = await self._client.operate(
                node, watching.question(), timeout_s=watching.hold_s + ANSWER_S
            )
        except _UNANSWERED:
            if self._client.is_closed:
                raise
            return None
        return reply

    async def _revision(self) -> int:
        """Return the revision of now, however long it takes to find a server that knows it."""
        while True:
            try:
                return await self._store.kv_revision()
            except _UNANSWERED:
                if self._client.is_closed:
                    raise

    async def _list(self, span: Range) -> tuple[int, list[KeyValue]]:
        while True:
            try:
                found = await self._all(Get(span.key, span.end))
            except (CompactedRevision, FutureRevision):
                continue  # it took longer than the history reaches back
            except _UNANSWERED:
                if self._client.is_closed:
                    raise
                continue
            return found.revision, found.items


class Transaction:
    """Reads of one state, and writes that wait for the end."""

    __slots__ = ("_optimism", "_store", "revision")

    def __init__(self, store: type[CoordinationStore]) -> None:
        self._store = store
        self._optimism = Optimism()
        self.revision = 0
        """Under which it was written; 0: nothing was written, or not yet."""

    async def get(self, key: Key) -> bytes | None:
        """Return the value of a key; None: it does not exist."""
        name = encoded(key)
        is_written, data = self._optimism.written(name)
        if is_written:
            return data
        found = await self._read(name, b"")
        return found.items[0].value if found.items else None

    async def range(self, *, prefix: Key) -> list[KeyValue]:
        """Return the keys with a prefix, without what the transaction writes itself: up to 10,000, or 1 MiB.

        Raises:
            Conflict: there are more: they cannot be compared later.
        """
        span = Range.of(None, prefix)
        found = await self._read(span.key, span.end)
        if found.more:
            raise Conflict("there are more keys than a transaction can read: nothing was written")
        return found.items

    async def _read(self, key: bytes, end: bytes) -> Found:
        get = self._optimism.reading(key, end)
        try:
            found = await self._store.kv_range(get)
        except CompactedRevision as error:
            raise Conflict(f"the transaction took too long: {error}; nothing was written") from error
        self._optimism.read(get, found)
        return found

    def put(self, key: Key, data: bytes, *, lease: Leased | int = 0) -> None:
        """Write a key at the end of the block; `InvalidCall` where that is over."""
        self._optimism.write(Put(encoded(key), data, number_of(lease)))

    def delete(self, key: Key) -> None:
        """Delete a key at the end of the block; `InvalidCall` where that is over."""
        self._optimism.write(Delete(encoded(key)))

    async def commit(self) -> None:
        """Execute it, once; called at the end of the block.

        Raises:
            Conflict: what it read was changed meanwhile. Nothing was written.
            InvalidCall: it was committed before, and is not executed again.
        """
        txn = self._optimism.end()
        if txn is None:
            return
        done = await self._store.kv_txn(txn)
        if not done.succeeded:
            raise Conflict(
                "what the transaction read was changed meanwhile: nothing was written; do it again"
            )
        self.revision = done.revision


class Lease:
    """A lease that a task of this process keeps alive."""

    __slots__ = ("_all", "_clock", "_store", "_task", "lost")

    def __init__(self, store: type[CoordinationStore], clock: LeaseClock, leases: "set[Lease]") -> None:
        self._store = store
        self._clock = clock
        self._all = leases
        self.lost = asyncio.Event()
        """Set when the cluster has ended it, or nobody keeps it alive any longer."""
        self._task = asyncio.get_running_loop().create_task(self._keep_alive())

    def __repr__(self) -> str:
        return f"<lease {self.number}, {self.standing}>"

    @property
    def number(self) -> int:
        """The lease as the store knows it."""
        return self._clock.lease

    @property
    def standing(self) -> Standing:
        """held, doubtful, lost or revoked: see `LeaseClock.standing`."""
        return self._clock.standing

    @property
    def certain_s(self) -> float:
        """For how many seconds its keys live for certain, also if nothing more is heard of the cluster."""
        return self._clock.certain_s

    async def revoke(self) -> int:
        """End it now and delete its keys; return the revision at which that happened.

        Raises:
            LeaseNotFound: it had ended.
            NotExecuted, OutcomeUnknown: it ends by itself.
        """
        self.abandon()
        revision = await self._store.lease_revoke(self.number)
        self._clock.ended = "revoked"
        return revision

    def abandon(self) -> None:
        """Keep it alive no longer: it ends by itself."""
        self._all.discard(self)
        self._task.cancel()
        self.lost.set()

    async def _keep_alive(self) -> None:
        clock = self._clock
        pause_s = clock.pause_s
        while True:
            await asyncio.sleep(pause_s)
            sent = boottime_us()
            try:
                quick = with_options(self._store, timeout_s=max(clock.pause_s, 0.05))
                confirmed_ms = await quick.lease_keep_alive(self.number)
            except LeaseNotFound:
                clock.ended = "lost"
                self._all.discard(self)
                self.lost.set()
                return
            except _UNANSWERED:
                pause_s = clock.retry_s
            else:
                clock.confirmed(sent, confirmed_ms / 1000)
                pause_s = clock.pause_s


def coordination(
    where: Where,
    *,
    part: str = "",
    timeout_s: float = 10.0,
    options: ClientOptions | None = None,
    token: TokenSource | None = None,
    tls: TlsFiles | None = None,
) -> Coordination:
    """Return a client of the coordination store: `async with viewstamp.coordination("prod.toml") as c: ...`.

    The arguments are those of `Coordination`.

    Raises:
        ConfigurationError: `where` names no cluster, or a setting makes no sense.
    """
    return Coordination(where, part=part, timeout_s=timeout_s, options=options, token=token, tls=tls)
