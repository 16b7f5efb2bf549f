"""A thread that ends a node whose disk no longer answers: its sockets first, the process after that.

A thread that waits for such a disk cannot be killed, and a process with such a thread may not end: it would
keep its port and its connections, and clients would wait for it (cockroachdb/cockroach#32978). A socket can
be shut down at any time. So it is shut down first, and then the process is told to end.

Only time in which this process ran is counted: one that was stopped has not waited for its disk.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

from viewstamp.core.ids import NodeId
from viewstamp.runtime.process import OWN_PROCESS, Process

LOG: Final = logging.getLogger("viewstamp.runtime")
SAMPLE_S: Final = 0.25


class DiskHang:
    """Watches the syncs of one node, from `start` to `stop`."""

    def __init__(
        self,
        node: NodeId,
        sync: Callable[[], object],
        *,
        limit_ms: int,
        sever: Callable[[], None],
        end: Callable[[], Any],
        process: Process = OWN_PROCESS,
    ) -> None:
        """Watch the syncs that `sync` returns: an object that stands for the one in flight, or None.

        Where one takes longer than `limit_ms`, `sever` and then `end` are called in a thread of this object;
        0: never.
        """
        self._node = node
        self._sync = sync
        self._limit_s = limit_ms / 1000
        self._sever = sever
        self._end = end
        self._seen: object = None
        self._waited_s = 0.0
        self._process = process
        self._stop: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin, if there is a limit."""
        if self._limit_s:
            self._stop = self._process.sample(f"viewstamp-disk-{self._node}", SAMPLE_S, self.sample)

    def stop(self) -> None:
        """Watch no longer."""
        if self._stop is not None:
            self._stop()

    def sample(self, passed_s: float) -> None:
        """Look once; `passed_s` seconds have passed since the last time."""
        sync = self._sync()
        if sync is None or sync is not self._seen:
            self._seen, self._waited_s = sync, 0.0
            return
        self._waited_s += passed_s
        if self._waited_s < self._limit_s:
            return
        self.stop()
        self._sever()
        LOG.critical(
            "node %d stops, nothing acknowledged is lost: its disk has not finished a sync for %.0f s "
            "(sync_hang_ms); its connections are closed. Look at the disk, then start the node again",
            self._node,
            self._waited_s,
        )
        self._end()


def shut_down(descriptors: Iterable[int]) -> None:
    """Shut these sockets down, also for those that use a copy. May be called in any thread."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as again:
            again.shutdown(socket.SHUT_RDWR)
