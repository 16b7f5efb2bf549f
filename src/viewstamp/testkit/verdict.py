"""What is asked of a cluster of processes after an attack: does every node run, and do all have one state?"""

from viewstamp.core.errors import StorageError
from viewstamp.core.events import TakeSnapshot
from viewstamp.core.ids import NodeId
from viewstamp.runtime.operator import direct
from viewstamp.storage.files import OsFileSystem
from viewstamp.storage.inspect import SnapshotSeen, inspect_identity, inspect_snapshots
from viewstamp.testkit.load import wait_for_level
from viewstamp.testkit.processes import ServerGroup


def ended(group: ServerGroup) -> dict[NodeId, str]:
    """Return the last line of each node that has ended."""
    return {node: server.last_line() for node, server in group.servers.items() if not server.running}


async def state_digests(group: ServerGroup) -> dict[NodeId, tuple[int, int]]:
    """Return (position, digest) of each node's state, by a snapshot that each takes now.

    Nobody may write meanwhile.

    Raises:
        TooLate: the nodes did not come level.
        StorageError: a node took no snapshot.
    """
    await wait_for_level(group)
    return {node: _digest(group, node) for node in group.cluster.node_ids}


def _digest(group: ServerGroup, node: NodeId) -> tuple[int, int]:
    refusal = direct(group.cluster, node, TakeSnapshot())
    if refusal is not None:
        raise StorageError(f"node {node} took no snapshot: {refusal}")
    files, path = OsFileSystem(), str(group.servers[node].data)
    seen = inspect_snapshots(files, path, inspect_identity(files, path).identity)
    newest = max((each.meta for each in seen if isinstance(each, SnapshotSeen)), key=lambda m: m.viewstamp)
    return newest.viewstamp.seqno, newest.digest
