"""An outlet that loses or delays what is sent to other members: for tests of clusters that really run.

It stands between a driver and its transport only while a test wants it.
What arrives is passed on: a partition is made by cutting both sides.
"""

import asyncio
from collections.abc import Iterable, Sized

from viewstamp.core.ids import ClientAddress, NodeId
from viewstamp.runtime.inbox import Outlet


class Disturbed:
    """A transport with bad cables."""

    def __init__(self, outlet: Outlet, cut: Iterable[NodeId], delay_s: float) -> None:
        """Lose what goes to the members in `cut`; hold everything else back for `delay_s`."""
        self._outlet = outlet
        self._cut = frozenset(cut)
        self._delay_s = delay_s

    @property
    def dirty(self) -> Sized:
        """What `flush` would write to."""
        return self._outlet.dirty

    @property
    def waiting(self) -> Sized:
        """What `serve_waiting` would pass on."""
        return self._outlet.waiting

    def send(self, to: NodeId, payload: bytes) -> None:
        """Send to a member; later, or never."""
        if to in self._cut:
            return
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._send_late, to, payload)
        else:
            self._outlet.send(to, payload)

    def respond(self, to: ClientAddress, payload: bytes) -> None:
        """Send to a client: these cables are good."""
        self._outlet.respond(to, payload)

    def flush(self) -> None:
        """Write everything sent so far."""
        self._outlet.flush()

    def move(self, node: NodeId, address: tuple[str, int]) -> None:
        """An operator says where a node is found."""
        self._outlet.move(node, address)

    def serve_waiting(self) -> bool:
        """Pass on messages of clients that were kept."""
        return self._outlet.serve_waiting()

    def _send_late(self, to: NodeId, payload: bytes) -> None:
        self._outlet.send(to, payload)
        self._outlet.flush()
