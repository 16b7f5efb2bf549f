"""A client of the store, and one lease to which all that a coordinator holds is attached.

Rules of this file:

- the lease lives as long as the coordinator calls `heartbeat`, as tooz demands: nothing here calls it;
- where it has ended, everything attached to it is gone. The next operation gets a new lease, and nothing that
  was held is taken for held;
- each error is tooz's: `ToozConnectionError` where nothing was done, `OperationTimedOut` where nobody knows.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

from tooz import ToozError
from tooz.coordination import OperationTimedOut, ToozConnectionError

from viewstamp.clients.coordination_blocking import BlockingCoordination, BlockingKeys
from viewstamp.core.errors import NotExecuted, OutcomeUnknown, ViewstampError
from viewstamp.services.store.machine import ERRORS
from viewstamp.services.store.types import LeaseNotFound

T = TypeVar("T")
_ERRORS: Final[tuple[type[Exception], ...]] = (ViewstampError, *ERRORS)


@contextmanager
def translated() -> Iterator[None]:
    """Raise this library's errors as those of tooz."""
    try:
        yield
    except NotExecuted as error:
        raise ToozConnectionError(f"nothing was done: {error}") from error
    except OutcomeUnknown as error:
        raise OperationTimedOut(f"it may have been done: {error}") from error
    except _ERRORS as error:
        raise ToozError(f"{type(error).__name__}: {error}") from error


class Session:
    """One coordinator, from `start` to `stop`."""

    def __init__(self, store: BlockingCoordination, ttl_s: float) -> None:
        """Grant a lease.

        Raises:
            InvalidLease, TooMany: nothing was granted.
            NotExecuted, OutcomeUnknown: an unknown one ends by itself.
        """
        self._store = store
        self._ttl_ms = round(ttl_s * 1000)
        self._renewing = threading.Lock()
        self.lease = store.grant(self._ttl_ms)
        """Its number."""
        self.ended = threading.Event()
        """Set when the coordinator stops: nobody waits any longer."""

    @property
    def kv(self) -> BlockingKeys:
        """The keys of the store."""
        return self._store.kv

    def beat(self) -> None:
        """Let the lease live for its time from now on; where it has ended, grant another one."""
        lease = self.lease
        try:
            self._store.keep_alive(lease)
        except LeaseNotFound:
            self._renew(lease)

    def attached(self, operation: Callable[[int], T]) -> tuple[int, T]:
        """Return the lease and the result of what needs it; try again with a new one where it has ended."""
        lease = self.lease
        try:
            return lease, operation(lease)
        except LeaseNotFound:
            lease = self._renew(lease)
            return lease, operation(lease)

    def end(self) -> None:
        """Let go of everything at once, and close the client. May be repeated."""
        self.ended.set()
        with suppress(NotExecuted, OutcomeUnknown, LeaseNotFound):  # it ends by itself
            self._store.revoke(self.lease)
        self._store.close()

    def _renew(self, gone: int) -> int:
        with self._renewing:
            if self.lease == gone:
                self.lease = self._store.grant(self._ttl_ms)
            return self.lease
