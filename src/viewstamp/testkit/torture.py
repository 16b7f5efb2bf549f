"""Killing leaders under load, and what is asked of the cluster after it: do all run, with one state?

`benchmarks/torture.py` and `benchmarks/storm.py` do it for as long as one likes.
"""

import asyncio
from time import monotonic

from viewstamp.core.events import TakeSnapshot
from viewstamp.core.ids import NodeId
from viewstamp.runtime.operator import direct
from viewstamp.storage.files import OsFileSystem
from viewstamp.storage.inspect import SnapshotSeen, inspect_identity, inspect_snapshots
from viewstamp.testkit.load import Load, TooLate, wait_for_leader, wait_for_level
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


def ended(group: ServerGroup) -> dict[NodeId, str]:
    """Return the last line of each node that has ended."""
    return {node: server.last_line() for node, server in group.servers.items() if not server.running}


async def state_digests(group: ServerGroup, within_s: float = 30.0) -> dict[NodeId, tuple[int, int]]:
    """Return (position, digest) of each node's state at one position, by a snapshot that each takes now.

    Nobody may write meanwhile. A protocol that adds an entry of its own between two snapshots is asked again.

    Raises:
        TooLate: the nodes did not come level, or one took no snapshot.
    """
    deadline = monotonic() + within_s
    while True:
        await wait_for_leader(group)  # after a restart of all: applied again, not only level at nothing
        await wait_for_level(group)
        digests = {node: _digest(group, node) for node in group.cluster.node_ids}
        if len({position for position, _ in digests.values()}) == 1 and min(digests.values()) > (0, 0):
            return digests
        if monotonic() > deadline:
            raise TooLate(f"the nodes took no snapshots of one position within {within_s:g} s: {digests}")


def _digest(group: ServerGroup, node: NodeId) -> tuple[int, int]:
    if direct(group.cluster, node, TakeSnapshot()) is not None:
        return 0, 0  # it refused: it has applied nothing yet
    files, path = OsFileSystem(), str(group.servers[node].data)
    seen = inspect_snapshots(files, path, inspect_identity(files, path).identity)
    newest = max((each.meta for each in seen if isinstance(each, SnapshotSeen)), key=lambda m: m.viewstamp)
    return newest.viewstamp.seqno, newest.digest
