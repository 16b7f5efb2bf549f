"""Locks for one and shared locks. Each hold is a key, with a value that no other hold ever has.

Rules of this file:

- a lock for one is taken where there is no key under its name, a shared one where there is not that of a lock
  for one: one transaction each;
- a hold is released by its value, so that nobody releases what another one has taken meanwhile;
- a hold whose attempt has an unknown end is never taken for held. It is deleted before the next attempt and
  with each heartbeat, as often as it takes: what is unknown may also happen later;
- `token` is the revision of the hold: a fencing token, for resources that can refuse an older one.
"""

import threading
from collections.abc import Callable
from typing import Final

import msgspec
from tooz import ToozError
from tooz.locking import Lock
from tooz.utils import convert_blocking

from viewstamp.adapters.tooz.session import Session, translated
from viewstamp.clients.conditions import Range, delete, missing, put, value
from viewstamp.core.errors import NotExecuted, OutcomeUnknown
from viewstamp.core.ids import MICROSECONDS_PER_SECOND
from viewstamp.runtime.system import fresh_bytes, monotonic_us
from viewstamp.services.store.types import Compare, TxnDone

PAUSE_S: Final = 0.05
"""After a lock was found taken; doubles up to the next one."""
PAUSE_S_MAX: Final = 0.5
_MARK_BYTES: Final = 16


class Hold(msgspec.Struct, frozen=True):
    """One grant of a lock."""

    key: bytes
    mark: bytes
    """Its value."""
    lease: int
    token: int


class StoreLock(Lock):
    """A lock of one coordinator."""

    def __init__(self, name: bytes, prefix: bytes, session: Callable[[], Session]) -> None:
        """`prefix` begins the keys of this name; `session` returns that of the coordinator, or raises."""
        super().__init__(name)
        self._prefix = prefix
        self._sole = prefix + b"sole"
        self._session = session
        self._mutex = threading.Lock()
        self._holds: list[Hold] = []
        self._doubtful: dict[bytes, bytes] = {}
        """By value: the key of a hold that may exist, or come to exist, and that nobody has."""

    @property
    def acquired(self) -> bool:
        """Whether this object holds it, as far as its coordinator knows."""
        return bool(self._held())

    @property
    def token(self) -> int:
        """The fencing token of the hold that was granted last; 0: there is none."""
        holds = self._held()
        return holds[-1].token if holds else 0

    def acquire(self, blocking: bool = True, shared: bool = False, timeout: float | None = None) -> bool:  # noqa: FBT001, FBT002  tooz's
        """Take it; return whether it was taken.

        Args:
            blocking: wait for it; a number is a `timeout`.
            shared: others may have it as well, if they share it.
            timeout: wait for this many seconds at most.

        Raises:
            ToozConnectionError: nothing was done.
            OperationTimedOut: nobody knows; it is released again.
            ToozError: the coordinator has stopped, or may not do this.
        """
        waits, timeout = convert_blocking(blocking, timeout)
        until = None if timeout is None else monotonic_us() + int(timeout * MICROSECONDS_PER_SECOND)
        pause_s = PAUSE_S
        while not self._attempt(shared=shared):
            left_s = pause_s if until is None else (until - monotonic_us()) / MICROSECONDS_PER_SECOND
            if not waits or left_s <= 0:
                return False
            if self._session().ended.wait(min(pause_s, left_s)):
                raise ToozError("the coordinator has stopped: the lock was not taken")
            pause_s = min(2 * pause_s, PAUSE_S_MAX)
        return True

    def release(self) -> bool:
        """Let go of the hold that was granted last; return whether it still was one.

        Raises:
            ToozConnectionError: nothing was done.
            OperationTimedOut: nobody knows; it is released with the next heartbeat, or by its lease.
        """
        with self._mutex:
            if not self._holds:
                return False
            hold = self._holds.pop()
        with translated():
            try:
                return self._delete(hold.key, hold.mark)
            except NotExecuted:
                with self._mutex:
                    self._holds.append(hold)
                raise
            except OutcomeUnknown:
                self._doubtful[hold.mark] = hold.key
                raise

    def break_(self) -> bool:
        """Take it away from everybody; return whether anybody had it."""
        with translated():
            return self._session().kv.delete(prefix=self._prefix) > 0

    def is_still_owner(self) -> bool:
        """Ask the store whether this object holds it."""
        holds = self._held()
        if not holds:
            return False
        with translated():
            found = self._session().kv.get(holds[-1].key)
        return found is not None and found.value == holds[-1].mark

    def settle(self) -> None:
        """Delete what may have been taken by attempts with an unknown end."""
        for mark, key in list(self._doubtful.items()):
            self._delete(key, mark)

    def _held(self) -> list[Hold]:
        with self._mutex:
            lease = self._session().lease if self._holds else 0
            self._holds = [hold for hold in self._holds if hold.lease == lease]
            return list(self._holds)

    def _attempt(self, *, shared: bool) -> bool:
        session = self._session()
        mark = fresh_bytes(_MARK_BYTES)
        key = self._prefix + b"shared/" + mark.hex().encode() if shared else self._sole
        span = Range.of(None, self._prefix)
        free = missing(self._sole) if shared else Compare(span.key, "version", "=", 0, span.end)

        def take(lease: int) -> TxnDone:
            return session.kv.txn([free], [put(key, mark, lease=lease)])

        with translated():
            self.settle()
            try:
                lease, done = session.attached(take)
            except OutcomeUnknown:
                self._doubtful[mark] = key
                raise
        if done.succeeded:
            with self._mutex:
                self._holds.append(Hold(key, mark, lease, done.revision))
        return done.succeeded

    def _delete(self, key: bytes, mark: bytes) -> bool:
        return self._session().kv.txn([value(key) == mark], [delete(key)]).succeeded
