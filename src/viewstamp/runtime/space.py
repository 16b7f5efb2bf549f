"""How much room is left for the data directory, and what is done when it is little.

Below a low-water mark this node takes no command that needs room; reads, sessions, commands that free
something, and snapshots go on, so that a full disk can be emptied through the front door. The refusal ends by
itself. A ballast file gives the last of it: it is removed when even that room runs out, and made again when
there is enough (etcd's alarm needs a person: etcd-io/etcd#14497).

What the mark is good for: the journal writes into segments that were filled with zeros before, so that an
append to the one in use needs no room, and the next one is refused before the disk is.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from viewstamp.core.ids import NodeId
from viewstamp.runtime.config import MIB, NodeConfig

LOG: Final = logging.getLogger("viewstamp.runtime")
LOOK_S: Final = 1.0
LOOK_NEAR_S: Final = 0.05
"""How often it looks with less than `_NEAR_TIMES` the mark left: a busy node writes 10 MiB in that time."""
_NEAR_TIMES: Final = 8
BALLAST: Final = "ballast"
"""Name of the ballast file in a data directory."""
_CLEAR_PARTS: Final = (5, 4)
"""Commands are taken again when there is this much more room, so that the answer does not flutter."""
_RELEASE_PART: Final = 4
"""The ballast is removed below this part of the mark."""


def free_bytes(path: str) -> int:
    """Return how many bytes this user may still write to the file system of a path."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


class SpaceWatch:
    """Looks at the room of one data directory, from `start` to `stop`. `look` may block."""

    def __init__(self, node: NodeId, config: NodeConfig, *, free: Callable[[str], int] = free_bytes) -> None:
        self._node = node
        self._path = config.data
        self._mark = config.space_low_bytes
        self._ballast_bytes = config.ballast_bytes
        self._free = free
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: Callable[[bool], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.told = False
        """What `changed` was told last: whether commands are refused now."""
        self.is_low = False
        """Whether commands that need room are to be refused."""
        self.free_bytes: int | None = None
        """At the last look; None: there was none, or everything is in memory."""

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to look at."""
        return self._path is not None and bool(self._mark)

    def look(self) -> bool:
        """Look once; return whether room is low now."""
        if self._path is None or not self._mark:
            return False
        try:
            free = self.free_bytes = self._free(self._path)
        except OSError as error:
            LOG.warning("node %d cannot see how much room its disk has: %s", self._node, error)
            return self.is_low
        more, of = _CLEAR_PARTS
        low = free < (self._mark * more // of if self.is_low else self._mark)
        if low != self.is_low:
            self.is_low = low
            self._tell(free)
        self._keep_ballast(Path(self._path) / BALLAST, free)
        return low

    def start(self, changed: Callable[[bool], None]) -> None:
        """Look now and then from now on, in a thread; call `changed` on this loop when room is low or not."""
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        if self.is_needed:
            self._begin_look()

    def stop(self) -> None:
        """Look no longer."""
        self._changed = None
        if self._timer is not None:
            self._timer.cancel()

    def _begin_look(self) -> None:
        if self._changed is not None and self._loop is not None:
            self._loop.run_in_executor(None, self.look).add_done_callback(self._looked)

    def _looked(self, done: "asyncio.Future[bool]") -> None:
        if self._changed is None or self._loop is None or done.cancelled():
            return
        if done.result() != self.told:
            self.told = done.result()
            self._changed(self.told)
        near = self.free_bytes is not None and self.free_bytes < _NEAR_TIMES * self._mark
        self._timer = self._loop.call_later(LOOK_NEAR_S if near else LOOK_S, self._begin_look)

    def _tell(self, free: int) -> None:
        if self.is_low:
            LOG.error(
                "node %d refuses commands that need room: its disk has %d MiB left, less than "
                "space_low_bytes (%d MiB). Delete what you can, through the service or beside it; it takes "
                "commands again by itself",
                self._node,
                free // MIB,
                self._mark // MIB,
            )
        else:
            LOG.warning("node %d takes commands again: its disk has %d MiB left", self._node, free // MIB)

    def _keep_ballast(self, path: Path, free: int) -> None:
        """Remove the ballast when the last room is needed; make it when there is room for it twice over."""
        if free < self._mark // _RELEASE_PART:
            with contextlib.suppress(OSError):
                path.unlink()
        elif self._ballast_bytes and not path.exists() and free > 2 * (self._mark + self._ballast_bytes):
            with contextlib.suppress(OSError), path.open("xb") as file:
                path.chmod(0o600)
                os.posix_fallocate(file.fileno(), 0, self._ballast_bytes)
