"""One of several processes leads, and what it writes into the store is written only while it does.

Rules of this file:

- the lead is a key of the store under a lease. The revision at which the key was created is the term;
- whatever the leader writes has `in_term` among its conditions, so a leader that was deposed changes nothing,
  however late its write arrives;
- a lease that is in doubt does not lead: the process pauses until the cluster confirms it.

It is etcd's election by a key, and not `recipes.election`, because a condition can name only keys of the
store.
"""

import logging
from contextlib import suppress
from typing import Final

from viewstamp.clients.conditions import created, missing, put
from viewstamp.clients.coordination_blocking import BlockingCoordination, BlockingLease
from viewstamp.core.errors import CallError, CommandFailed
from viewstamp.services.store.types import Compare, LeaseNotFound

_LOGGER: Final = logging.getLogger(__name__)


class Leadership:
    """This process as a candidate for the lead."""

    def __init__(self, store: BlockingCoordination, key: str, *, value: bytes = b"", ttl_s: float) -> None:
        """Prepare a candidate; `leads` asks for the lead.

        Args:
            store: the client whose lease carries the lead.
            key: what all candidates ask for.
            value: what others may read of the leader, such as its host.
            ttl_s: how long the lead outlives a leader of which nothing is heard.
        """
        self._store = store
        self._key = key
        self._value = value
        self._ttl_s = ttl_s
        self._lease: BlockingLease | None = None
        self.term = 0
        """Revision at which this process began to lead; 0: it does not."""

    @property
    def is_certain(self) -> bool:
        """Whether this process leads and the cluster has confirmed that in time. Asks nobody."""
        return bool(self.term) and self._lease is not None and self._lease.standing == "held"

    @property
    def in_term(self) -> Compare:
        """The condition under which the leader writes."""
        assert self.term
        return created(self._key) == self.term

    def leads(self) -> bool:
        """Return whether this process leads for certain, and ask for the lead where nobody has it.

        Raises:
            NotExecuted, OutcomeUnknown: the cluster did not answer; ask again.
        """
        if self._lease is not None:
            if self._lease.standing != "lost":
                return self.is_certain
            self._lease, self.term = None, 0
            _LOGGER.warning("%s: the lead is lost: its lease has ended", self._key)
        if self._store.kv.get(self._key) is not None:
            return False
        return self._ask()

    def resign(self) -> None:
        """Give the lead back, so that the next candidate need not wait. May be repeated."""
        lease, self._lease, self.term = self._lease, None, 0
        _end(lease)

    def _ask(self) -> bool:
        lease = self._store.lease(self._ttl_s)
        try:
            done = self._store.kv.txn([missing(self._key)], [put(self._key, self._value, lease=lease.number)])
        except BaseException:
            _end(lease)  # and with it the key, if it was written
            raise
        if not done.succeeded:
            _end(lease)
            return False
        self._lease, self.term = lease, done.revision
        _LOGGER.info("%s: this process leads since revision %d", self._key, self.term)
        return True


def _end(lease: BlockingLease | None) -> None:
    """End a lease now; where the cluster does not answer it ends by itself."""
    if lease is not None:
        with suppress(CallError, CommandFailed, LeaseNotFound):
            lease.revoke()
