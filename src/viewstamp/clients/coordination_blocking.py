"""The coordination store for threads: the blocking front of `coordination`, whose loop runs in a thread."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Self

from viewstamp.clients.conditions import Key, Leased, Operation
from viewstamp.clients.coordination import Coordination, Keys, Lease, Transaction
from viewstamp.clients.lease_clock import Standing
from viewstamp.clients.loop_thread import LoopThread
from viewstamp.core.errors import NotExecuted
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.config import TlsFiles
from viewstamp.runtime.discovery import Where
from viewstamp.runtime.tokens import TokenSource
from viewstamp.services.store.types import Compare, Found, KeyValue, LeaseState, TxnDone
from viewstamp.services.store.watching import Changes, Told


class BlockingCoordination:
    """A client of a cluster's coordination store for threads. Use it by `with`, or `close` it at the end."""

    def __init__(
        self,
        where: Where,
        *,
        part: str = "",
        timeout_s: float = 10.0,
        options: ClientOptions | None = None,
        token: TokenSource | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        """Find the cluster; the arguments are those of `Coordination`.

        Raises:
            ConfigurationError: `where` names no cluster, or a setting makes no sense.
            NotExecuted: only addresses were given, and none of them answered in time.
        """
        self._async = Coordination(
            where, part=part, timeout_s=timeout_s, options=options, token=token, tls=tls
        )
        self._loop = LoopThread("viewstamp-store")
        self._closed = False
        self.kv = BlockingKeys(self._async.kv, self._loop)
        """The keys."""
        try:
            self._loop.run(self._async.start())
        except BaseException:
            self._loop.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End watches and calls, and keep no lease alive any longer. May be repeated."""
        if not self._closed:
            self._closed = True
            self._loop.close(self._async.close)

    def lease(self, ttl_s: float, *, number: int = 0) -> "BlockingLease":
        """Grant a lease that a thread of this process keeps alive: see `Coordination.lease`."""
        return BlockingLease(self._loop.run(self._async.lease(ttl_s, number=number)), self._loop)

    # Leases that nobody here keeps alive, as a script has them from one call to the next

    def grant(self, ttl_milliseconds: int) -> int:
        """Grant a lease that nobody keeps alive; return its number."""
        return self._loop.run(self._async.store.lease_grant(ttl_milliseconds))

    def keep_alive(self, lease: int) -> int:
        """Let a lease live for its time from now on; return that, in milliseconds."""
        return self._loop.run(self._async.store.lease_keep_alive(lease))

    def revoke(self, lease: int) -> int:
        """End a lease and delete its keys; return the revision."""
        return self._loop.run(self._async.store.lease_revoke(lease))

    def time_to_live(self, lease: int) -> LeaseState:
        """Return how long a lease lives, and its keys."""
        return self._loop.run(self._async.store.lease_time_to_live(lease, True))


class BlockingKeys:
    """The keys of the store: see `Keys`, whose methods these are."""

    __slots__ = ("_keys", "_loop")

    def __init__(self, keys: Keys, loop: LoopThread) -> None:
        self._keys = keys
        self._loop = loop

    def put(self, key: Key, data: bytes, *, lease: Leased | int = 0) -> int:
        """Write a key and return the revision."""
        return self._loop.run(self._keys.put(key, data, lease=lease))

    def get(self, key: Key, *, revision: int = 0) -> KeyValue | None:
        """Return a key, as it is or as it was at a revision; None: it does not exist."""
        return self._loop.run(self._keys.get(key, revision=revision))

    def range(
        self,
        key: Key | None = None,
        *,
        prefix: Key | None = None,
        end: Key | None = None,
        limit: int = 0,
        revision: int = 0,
    ) -> Found:
        """Return the keys of a range, all of them as they were at one revision."""
        reading = self._keys.range(key, prefix=prefix, end=end, limit=limit, revision=revision)
        return self._loop.run(reading)

    def delete(self, key: Key | None = None, *, prefix: Key | None = None) -> int:
        """Delete a key, or all with a prefix; return how many there were."""
        return self._loop.run(self._keys.delete(key, prefix=prefix))

    def txn(
        self,
        when: Sequence[Compare] = (),
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
    ) -> TxnDone:
        """If all conditions hold do `then`, and else `otherwise`: at once, under one revision."""
        return self._loop.run(self._keys.txn(when, then, otherwise))

    @contextmanager
    def transaction(self) -> Iterator["BlockingTransaction"]:
        """Read and write in a block that happens as a whole, or not at all; `Conflict` at its end if not."""
        transaction = self._keys.begin()
        yield BlockingTransaction(transaction, self._loop)
        self._loop.run(transaction.commit())

    def history(self, key: Key) -> list[Changes]:
        """Return the changes of a key that are kept, the oldest first."""
        return self._loop.run(self._keys.history(key))

    def watch(
        self,
        prefix: Key | None = None,
        *,
        key: Key | None = None,
        end: Key | None = None,
        after: int | None = None,
        prev: bool = False,
    ) -> Generator[Told, None, None]:
        """Yield what changes, as long as the caller takes it: see `Keys.watch`."""
        watching = self._keys.watch(prefix, key=key, end=end, after=after, prev=prev)
        try:
            while True:
                yield self._loop.run(anext(watching))
        finally:
            with suppress(NotExecuted):  # the client may be closed
                self._loop.run(watching.aclose())


class BlockingTransaction:
    """Reads of one state, and writes that wait for the end: see `Transaction`."""

    __slots__ = ("_loop", "_transaction")

    def __init__(self, transaction: Transaction, loop: LoopThread) -> None:
        self._transaction = transaction
        self._loop = loop

    @property
    def revision(self) -> int:
        """Under which it was written; 0: nothing was written, or not yet."""
        return self._transaction.revision

    def get(self, key: Key) -> bytes | None:
        """Return the value of a key; None: it does not exist."""
        return self._loop.run(self._transaction.get(key))

    def range(self, *, prefix: Key) -> list[KeyValue]:
        """Return the keys with a prefix, without what the transaction writes itself."""
        return self._loop.run(self._transaction.range(prefix=prefix))

    def put(self, key: Key, data: bytes, *, lease: Leased | int = 0) -> None:
        """Write a key at the end of the block."""
        self._transaction.put(key, data, lease=lease)

    def delete(self, key: Key) -> None:
        """Delete a key at the end of the block."""
        self._transaction.delete(key)


class BlockingLease:
    """A lease that a thread of this process keeps alive: see `Lease`."""

    __slots__ = ("_lease", "_loop")

    def __init__(self, lease: Lease, loop: LoopThread) -> None:
        self._lease = lease
        self._loop = loop

    @property
    def number(self) -> int:
        """The lease as the store knows it."""
        return self._lease.number

    @property
    def standing(self) -> Standing:
        """held, doubtful, lost or revoked."""
        return self._lease.standing

    @property
    def certain_s(self) -> float:
        """For how many seconds its keys live for certain."""
        return self._lease.certain_s

    def revoke(self) -> int:
        """End it now and delete its keys; return the revision at which that happened."""
        return self._loop.run(self._lease.revoke())


def coordination_blocking(
    where: Where,
    *,
    part: str = "",
    timeout_s: float = 10.0,
    options: ClientOptions | None = None,
    token: TokenSource | None = None,
    tls: TlsFiles | None = None,
) -> BlockingCoordination:
    """Return a client of the coordination store, as `coordination` does, without async.

    Raises:
        ConfigurationError: `where` names no cluster, or a setting makes no sense.
        NotExecuted: only addresses were given, and none of them answered in time.
    """
    return BlockingCoordination(where, part=part, timeout_s=timeout_s, options=options, token=token, tls=tls)
