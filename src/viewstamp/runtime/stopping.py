"""What a server does before it stops because it is told to: it lets another lead, and leaves a snapshot."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from viewstamp.core.events import TransferLeadership
from viewstamp.core.ids import NodeId
from viewstamp.runtime.config import NodeConfig
from viewstamp.runtime.driver import Driver
from viewstamp.runtime.transport import Transport

LOG: Final = logging.getLogger("viewstamp.runtime")


async def hand_over(driver: Driver, config: NodeConfig, node: NodeId) -> None:
    """Let another member lead, if this one does."""
    if driver.status().leader != node or len(driver.status().members) == 1:
        return
    try:
        async with asyncio.timeout(config.stop_timeout_ms / 1000):
            refusal = await driver.direct(TransferLeadership())
    except TimeoutError:
        refusal = "it took too long"
    if refusal is not None:
        LOG.warning("node %d stops without handing leadership over: %s", node, refusal)


async def leave_snapshot(driver: Driver, transport: Transport, config: NodeConfig, node: NodeId) -> None:
    """Take a snapshot, unless the last one holds everything that was executed here."""
    if config.data is None or driver.status().applied == 0:
        return
    LOG.info("node %d leaves a snapshot before it stops; another SIGTERM stops it without", node)
    transport.halt(abort=False)  # nothing more arrives, so that the snapshot is the last word
    limit_ms = config.stop_snapshot_timeout_ms
    try:
        async with asyncio.timeout(limit_ms / 1000):
            refusal = await driver.last_snapshot()
    except TimeoutError:
        refusal = f"it took longer than stop_snapshot_timeout_ms, {limit_ms} ms"
    if refusal is not None:
        LOG.warning(
            "node %d stops without a last snapshot: %s; nothing is lost, but the next start executes the "
            "entries since the snapshot before it again: start it with the same class",
            node,
            refusal,
        )


async def first_of(*awaited: Coroutine[Any, Any, object]) -> None:
    """Wait for one of these, and give the others up."""
    tasks = [asyncio.ensure_future(one) for one in awaited]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
