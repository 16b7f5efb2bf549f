"""Killing leaders under load, again and again. `benchmarks/torture.py` does it for as long as one likes."""

import asyncio

from viewstamp.testkit.load import Load, wait_for_leader
from viewstamp.testkit.processes import ServerGroup, ServerProcess


async def torture_leader(group: ServerGroup, load: Load, writes: int) -> ServerProcess:
    """Kill the leader in the middle of the load, let the others go on, restart it; return what was killed.

    It waits until all servers are members: a view of two that loses one of them cannot go on.

    Before the kill, without the victim, and after its return `writes` writes are acknowledged.

    Raises:
        TooLate: the service did not go on in time.
        ServerDied: the victim did not come back.
    """
    await load.more(writes)
    victim = group.servers[(await wait_for_leader(group, members_min=len(group.servers))).node]
    await asyncio.to_thread(victim.kill)
    await load.more(writes)
    victim.start()
    await asyncio.to_thread(victim.wait_ready)  # the load goes on meanwhile
    await load.more(writes)
    return victim
