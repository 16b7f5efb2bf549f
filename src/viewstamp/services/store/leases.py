"""Leases: keys that live as long as somebody says so, in log time.

Rules of this file:

- a lease ends at a moment of log time, which goes on across changes of the leader and stands still without
  one: nothing sets it back but `keep_alive`;
- the first entry whose log time has reached that moment ends it (`StateMachine.alarm`), and the leader orders
  such an entry when it is due;
- a key is attached to one lease at most, and the lease knows it;
- a lease serves the principal that it was granted to, as a session does.
"""

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

import msgspec

from viewstamp.services.store.types import KEYS_PER_COMMAND_MAX, LeaseNotFound, TooMany

_SPARE_ALARMS: Final = 64
"""Alarms of leases that have ended; with more than this, and more than of living ones, they are dropped."""


class LeaseImage(msgspec.Struct, frozen=True, array_like=True):
    """A lease in a snapshot. Its keys are found in the table."""

    lease: int
    ttl_us: int
    ends_at: int
    principal: str


class Lease:
    """One lease."""

    __slots__ = ("ends_at", "keys", "lease", "principal", "ttl_us")

    def __init__(self, lease: int, ttl_us: int, ends_at: int, principal: str) -> None:
        self.lease = lease
        self.ttl_us = ttl_us
        self.ends_at = ends_at
        self.principal = principal
        self.keys: set[bytes] = set()


class Leases:
    """The leases that live."""

    __slots__ = ("_alarms", "_leases")

    def __init__(self) -> None:
        self._leases: dict[int, Lease] = {}
        self._alarms: list[tuple[int, int]] = []
        """A heap of (moment, lease). The first one is true; another may be earlier than its lease's end."""

    def __len__(self) -> int:
        return len(self._leases)

    def __contains__(self, lease: int) -> bool:
        return lease in self._leases

    def __iter__(self) -> Iterator[Lease]:
        """Iterate in the order in which they were granted."""
        return iter(self._leases.values())

    @property
    def next_end(self) -> int | None:
        """Log time at which the first lease ends; None: there is none."""
        return self._alarms[0][0] if self._alarms else None

    def of(self, lease: int, principal: str) -> Lease:
        """Return a lease.

        Raises:
            LeaseNotFound: it does not live, or is another principal's.
        """
        found = self._leases.get(lease)
        if found is None or found.principal != principal:
            raise LeaseNotFound(f"there is no lease {lease}: it was revoked, has expired or never was")
        return found

    def grant(self, lease: Lease) -> None:
        """Add a new lease."""
        assert lease.lease not in self._leases, lease.lease
        self._leases[lease.lease] = lease
        heappush(self._alarms, (lease.ends_at, lease.lease))
        if len(self._alarms) > 2 * len(self) + _SPARE_ALARMS:
            self._set_alarms()

    def keep_alive(self, lease: Lease, now: int) -> None:
        """Let a lease live for its time from now on."""
        lease.ends_at = now + lease.ttl_us
        self._settle()

    def end(self, lease: Lease) -> None:
        """Forget a lease; the caller deletes its keys."""
        del self._leases[lease.lease]
        self._settle()

    def overdue(self, now: int) -> Lease | None:
        """Return the lease that ends first, if it ends by now."""
        end = self.next_end
        return None if end is None or end > now else self._leases[self._alarms[0][1]]

    def attach(self, number: int, key: bytes) -> None:
        """Let a lease know its key; 0: there is none. The caller has seen that it lives."""
        if number:
            self._leases[number].keys.add(key)

    def detach(self, number: int, key: bytes) -> None:
        """Let a lease forget a key; 0: there is none. It may be the one that ends now."""
        if number in self._leases:
            self._leases[number].keys.discard(key)

    def images(self) -> Iterator[LeaseImage]:
        """Yield all leases for a snapshot."""
        for each in self:
            yield LeaseImage(each.lease, each.ttl_us, each.ends_at, each.principal)

    def restore(self, images: Iterable[LeaseImage]) -> None:
        """Add the leases of a snapshot."""
        for image in images:
            self._leases[image.lease] = Lease(*(getattr(image, name) for name in image.__struct_fields__))
        self._set_alarms()

    def _set_alarms(self) -> None:
        self._alarms = [(each.ends_at, each.lease) for each in self]
        heapify(self._alarms)

    def _settle(self) -> None:
        """Make the first alarm true again."""
        alarms, leases = self._alarms, self._leases
        while alarms:
            at, number = alarms[0]
            lease = leases.get(number)
            if lease is None:
                heappop(alarms)
            elif lease.ends_at > at:
                heapreplace(alarms, (lease.ends_at, number))
            else:
                return


def require_room(lease: Lease, more: int = 1) -> None:
    """Raise `TooMany` where a lease has as many keys as may end with it."""
    if len(lease.keys) + more > KEYS_PER_COMMAND_MAX:
        raise TooMany(f"a lease has up to {KEYS_PER_COMMAND_MAX} keys: use another; nothing was changed")
