"""New certificates without a restart: the files are looked at now and then, and after SIGHUP.

What begins after that uses the new files. Connections that stand are looked at as well: one whose certificate
has expired, or whose CA is no longer trusted, is closed, and its other end connects again with what it has by
then. A file that cannot be used changes nothing, and the log and each status say so.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from viewstamp.core.ids import NodeId
from viewstamp.runtime.connection import Connection
from viewstamp.runtime.security import Security

LOG: Final = logging.getLogger("viewstamp.runtime")
LOOK_S: Final = 10.0
"""Between two looks at the files."""


class Rotation:
    """The certificates of one node, while it serves."""

    def __init__(
        self,
        node: NodeId,
        security: Security,
        connections: Callable[[], Iterable[Connection]],
        warn: Callable[[tuple[str, ...]], None],
    ) -> None:
        """`warn` is told what each status is to say, whenever that has changed."""
        self._node = node
        self._security = security
        self._connections = connections
        self._warn = warn
        self._warned: tuple[str, ...] = ()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Say what there is to warn of, and begin to look."""
        self._say()
        if self._security.credentials is not None:
            self._plan()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self, *, force: bool = False) -> None:
        """Load the files if they have changed (`force`: in any case), and end what must not go on."""
        credentials = self._security.credentials
        if credentials is None:
            return
        credentials.refresh(force=force)
        news, credentials.news = credentials.news, ""
        if news:
            LOG.log(logging.WARNING if credentials.trouble else logging.INFO, "node %d: %s", self._node, news)
        self._say()
        for connection in list(self._connections()):
            peer = None if connection.tls is None else connection.tls.peer
            reason = None if peer is None else credentials.ends(peer)
            if reason is not None:
                connection.close(reason)

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._on_timer)

    def _on_timer(self) -> None:
        self.look()
        self._plan()

    def _say(self) -> None:
        warnings = self._security.warnings
        if warnings != self._warned:
            self._warned = warnings
            self._warn(warnings)
            for line in warnings:
                LOG.warning("node %d: %s", self._node, line)
