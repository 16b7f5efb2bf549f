"""What a supervisor such as systemd is told: that the node serves, that its loop turns, that it stops.

The protocol is a datagram to the socket that the environment names (sd_notify(3)); it needs no library. The
sign that the loop turns comes from the loop itself, so that a supervisor ends a process whose loop does not.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

SOCKET: Final = "NOTIFY_SOCKET"
WATCHDOG_US: Final = "WATCHDOG_USEC"
_SIGNS_PER_LIMIT: Final = 3


def notify(address: str, text: str) -> None:
    """Send one line. A supervisor that does not listen is none: nothing is raised."""
    target = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        datagram.setblocking(False)
        datagram.sendto(text.encode(), target)


def interval_s(environment: Mapping[str, str]) -> float | None:
    """Return how often the supervisor wants a sign; None: it does not want any."""
    text = environment.get(WATCHDOG_US, "")
    return int(text) / 1e6 / _SIGNS_PER_LIMIT if text.isascii() and text.isdigit() and int(text) else None


@asynccontextmanager
async def supervised(environment: Mapping[str, str]) -> AsyncIterator[None]:
    """Tell the supervisor, if there is one, that the node serves, and give signs until the block ends."""
    address = environment.get(SOCKET, "")
    if not address:
        yield
        return
    notify(address, "READY=1")
    seconds = interval_s(environment)
    signs = None if seconds is None else asyncio.create_task(_give_signs(address, seconds))
    try:
        yield
    finally:
        if signs is not None:
            signs.cancel()
        notify(address, "STOPPING=1")


async def _give_signs(address: str, seconds: float) -> None:
    while True:
        notify(address, "WATCHDOG=1")
        await asyncio.sleep(seconds)
