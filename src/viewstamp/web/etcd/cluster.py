"""etcd's Cluster, Maintenance and Auth services, as far as clients use them: members, status, a token.

What these tell is this node's own account, as with etcd: nothing is asked of the cluster, and nobody needs to
prove who he is to learn which members there are.
"""

from typing import Final

import xxhash

from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import Address, format_address
from viewstamp.runtime.server import Server
from viewstamp.web.etcd.answers import Answer, message

API_VERSION: Final = "3.4.0"
"""The version of etcd whose gateway this is: clients choose their paths by it."""
_ID_BITS: Final = 63


def version() -> Answer:
    """Tell which API this is."""
    return {"etcdserver": API_VERSION, "etcdcluster": API_VERSION}


def cluster_number(server: Server) -> int:
    """Return the number of a cluster: never 0, the same on all its members."""
    return (xxhash.xxh3_64_intdigest(server.cluster.cluster_id.encode()) >> 1) or 1


def member_number(node: NodeId) -> int:
    """Return the number of a member as etcd's clients know it: never 0, which means none."""
    return int(node) + 1


class Members:
    """What one node tells of the members."""

    def __init__(self, server: Server, listens_at: Address | None, *, secure: bool) -> None:
        """`listens_at` is where this node's gateway is found, unless the cluster file says it."""
        self._server = server
        self._own = listens_at
        self._scheme = "https" if secure else "http"

    def listed(self, header: Answer) -> Answer:
        """Return the members, with the gateways that are known: those of the cluster file, and this one."""
        server = self._server
        known = {NodeId(each.id): each.etcd for each in server.cluster.members}
        known[server.node] = known.get(server.node) or (self._own and format_address(self._own))
        members = [self._member(node, known.get(node)) for node in server.status().members]
        return message(header=header, members=members)

    def _member(self, node: NodeId, gateway: str | None) -> Answer:
        found = self._server.cluster.address_of(node)
        peers = [] if found is None else [f"{self._scheme}://{format_address(found)}"]
        clients = [f"{self._scheme}://{gateway}"] if gateway else []
        return message(ID=member_number(node), name=f"node-{node}", peerURLs=peers, clientURLs=clients)

    def status(self, header: Answer) -> Answer:
        """Return the state of this node."""
        status = self._server.status()
        return message(
            header=header,
            version=API_VERSION,
            dbSize=status.log_bytes,
            leader=0 if status.leader is None else member_number(status.leader),
            raftIndex=status.committed,
            raftTerm=status.view,
            raftAppliedIndex=status.applied,
            dbSizeInUse=status.log_bytes,
        )
