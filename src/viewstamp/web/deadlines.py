"""A time within which each request over HTTP must be whole.

uvicorn waits without a limit for the rest of a head or a body, and for the first byte of a connection. Such a
connection counts among those that are allowed, so a few hundred of them would turn every probe away.
"""

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S: Final = 10.0
"""From the begin of a connection, or from the end of the last answer, to the end of the next request."""


class TimedProtocol(H11Protocol):
    """A connection that is closed where a request is not whole in time, however its bytes drip in.

    An answer may take any time: a watch lasts for as long as its caller reads it.
    """

    request_s = REQUEST_S
    _due: asyncio.TimerHandle | None = None
    """Set while a request is waited for, or the rest of one."""

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request. Called by the loop."""
        super().connection_made(transport)
        self._follow()

    def data_received(self, data: bytes) -> None:
        """Take in bytes. Called by the loop."""
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        """Wait for the next request. Called by uvicorn."""
        super().on_response_complete()
        self._follow()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer. Called by the loop."""
        self._rest()
        super().connection_lost(exc)

    def _follow(self) -> None:
        waits = self.conn.their_state in {h11.IDLE, h11.SEND_BODY} and not self.transport.is_closing()
        if not waits:
            self._rest()
        elif self._due is None:
            # Bytes do not put it off: one byte a second would hold the connection for days.
            self._due = self.loop.call_later(self.request_s, self.transport.abort)

    def _rest(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
