"""Where the members are found. Addresses are hints: outside the log, outside what members compare.

Rules of this file:

- The cluster file says where its members are. A node that it does not list is found where it said itself that
  it is, in its hello, or where another member's welcome said, or where an operator moved it.
- What was learnt is kept in a file of the data directory, unsynced: a restart need not learn it again.
- An address that was changed in the cluster file since then wins over what was learnt: a cluster whose
  addresses all changed at once forms again, without a quorum and without a log.
- The file also remembers which members the cluster file listed when the node last started: a list that was
  edited since then, and contradicts the log, is refused (`contradiction`).
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import UNREADABLE
from viewstamp.core.protocol import MembershipStatus
from viewstamp.runtime.addresses import Address, check_address
from viewstamp.runtime.config import ClusterConfig

NAME: Final = "addresses.json"
KNOWN_MAX: Final = 256
"""Nodes whose addresses are kept; more are not learnt."""
_BYTES_MAX: Final = 1 << 20


class _Kept(msgspec.Struct):
    """The file in the data directory."""

    listed: dict[int, tuple[str, int]] = {}
    """As the cluster file had it at the last start."""
    learnt: dict[int, tuple[str, int]] = {}


class AddressBook:
    """The addresses that one node knows."""

    __slots__ = ("_changed", "_cluster", "_learnt", "_listed_before", "_path", "node")

    def __init__(self, cluster: ClusterConfig, node: NodeId, directory: str | None = None) -> None:
        self.node = node
        self._cluster = cluster
        self._path = None if directory is None else Path(directory) / NAME
        kept = self._read()
        self._listed_before = kept.listed
        self._learnt: dict[NodeId, Address] = {}
        self._changed = True
        for number, address in kept.learnt.items():
            listed = cluster.addresses.get(NodeId(number))
            if listed is None or kept.listed.get(number) == listed:
                self.learn(NodeId(number), address)

    @property
    def is_open(self) -> bool:
        """Whether nodes take part that no file lists, by the protocol's own word."""
        return self._cluster.open_host is not None

    def address_of(self, node: NodeId) -> Address | None:
        """Return where a node is found; None: nobody has said."""
        return self._learnt.get(node) or self._cluster.address_of(node)

    def learn(self, node: NodeId, address: Address) -> bool:
        """Keep where a node is found; return whether that is news. What cannot be an address is not kept."""
        try:
            host, port = check_address(*address)
        except ConfigurationError:
            return False
        if self.address_of(node) == (host, port) or node < 0:
            return False
        if node not in self._learnt and len(self._learnt) >= KNOWN_MAX:
            return False
        self._learnt[node] = host, port
        self._changed = True
        return True

    def known(self, nodes: Iterable[NodeId]) -> list[tuple[int, str, int]]:
        """Return (id, host, port) of those of these nodes whose address is known, in ascending order."""
        found = ((node, self.address_of(node)) for node in sorted(nodes))
        return [(node, *address) for node, address in found if address is not None]

    def save(self) -> None:
        """Write what is new into the data directory; where that fails, it is learnt again some day."""
        if self._path is None or not self._changed:
            return
        self._changed = False
        listed = {int(node): address for node, address in self._cluster.addresses.items()}
        learnt = {int(node): address for node, address in self._learnt.items()}
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_bytes(msgspec.json.encode(_Kept(listed, learnt)))
            temporary.replace(self._path)
        except OSError:
            return

    def contradiction(self, membership: MembershipStatus | None) -> str | None:
        """Return what to do about a cluster file that was edited and does not list the members of the log.

        A file that merely is old, since members were changed online, contradicts nothing.
        """
        mine = set(map(int, self._cluster.node_ids))
        if membership is None or not self._listed_before or mine == set(self._listed_before):
            return None
        members = {node for node, _ in (*membership.voters, *membership.learners, *membership.outgoing)}
        if mine == set(map(int, members)):
            return None
        return (
            f"the cluster file was edited and lists {_ids(mine)}, but the members are {_ids(members)} by the "
            f"log at {membership.changed_at}: nothing was started; let the file list those "
            "(`viewstamp member list --toml` prints them), and change members with `viewstamp member add`, "
            "`remove` or `replace`"
        )

    def _read(self) -> _Kept:
        """Return what was kept; nothing where the file is missing or was damaged: these are hints."""
        if self._path is None:
            return _Kept()
        try:
            content = self._path.read_bytes()
            return msgspec.json.decode(content, type=_Kept) if len(content) <= _BYTES_MAX else _Kept()
        except (OSError, *UNREADABLE):
            return _Kept()


def _ids(nodes: Collection[int]) -> str:
    return ", ".join(map(str, sorted(nodes)))
