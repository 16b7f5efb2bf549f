"""Orders of `viewstamp chaos` to one server, in a file that the server looks at.

Rules of this file: only a server of a cluster whose file says `chaos = true` looks at all; an order ends by
itself, also when the program that gave it was killed; a file that cannot be read orders nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.runtime.server import Server
from viewstamp.runtime.system import advance_clock

LASTS_S_MAX: Final = 60.0
"""An order ends after this, whatever it says."""
_POLL_S: Final = 0.05
_BYTES_MAX: Final = 4_096


class Orders(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a server is to suffer."""

    number: int
    """Another one than before: obey; the same: done already."""
    lasts_s: float = 0.0
    cut: tuple[int, ...] = ()
    """Members to which nothing is sent."""
    delay_s: float = 0.0
    disk_s: float = 0.0
    """How much longer each sync takes."""
    ahead_us: int = 0
    """How far the clock jumps forward, once."""


def write_orders(path: Path, orders: Orders) -> None:
    """Give an order; the file is replaced as a whole."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(orders))
    fresh.replace(path)


def read_orders(path: Path) -> Orders | None:
    """Return the order in a file; None: there is none that can be read."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_BYTES_MAX), type=Orders)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None


@asynccontextmanager
async def obeying(server: Server, path: Path) -> AsyncIterator[None]:
    """Let a server obey the orders in a file while the block runs.

    Raises:
        ConfigurationError: its cluster does not allow that.
    """
    if not server.cluster.chaos:
        raise ConfigurationError("--chaos: the cluster file does not say `chaos = true`; nothing was started")
    task = asyncio.get_running_loop().create_task(_obey(server, path, read_orders(path)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _obey(server: Server, path: Path, known: Orders | None) -> None:
    ends_s = 0.0
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_POLL_S)
        orders = read_orders(path)
        if orders is not None and (known is None or orders.number != known.number) and server.running:
            known, ends_s = orders, loop.time() + min(orders.lasts_s, LASTS_S_MAX)
            server.disturb(map(NodeId, orders.cut), orders.delay_s, orders.disk_s)
            advance_clock(max(0, orders.ahead_us))
        elif ends_s and loop.time() > ends_s and server.running:
            ends_s = 0.0
            server.disturb()
