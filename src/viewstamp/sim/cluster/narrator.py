"""What a trace shows besides events: roles, commits, applied entries, restores, and the fate of messages.

Only a trace with lines has a narrator: it asks each core for its account of itself after every step.

Rules of this file: it is called where the invariants are, and changes nothing: a run with a trace is the same
as without one.
"""

from collections import Counter
from typing import Any, Final

import msgspec

from viewstamp.core.effects import Entry
from viewstamp.core.ids import Instant, NodeId, Viewstamp
from viewstamp.core.messages import UNREADABLE, encode_message
from viewstamp.replica.batches import Batch
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost
from viewstamp.sim.judge.invariants import Invariant
from viewstamp.sim.world.network import Network
from viewstamp.sim.world.trace import Trace, describe_client_message

_BATCH: Final = msgspec.msgpack.Decoder(Batch)
_CHARACTERS_MAX: Final = 400
_NO_FATE: Final = frozenset({"messages"})


class Narrator(Invariant):
    """Writes a line whenever a node's role or positions change. It never complains."""

    name = "Narrator"

    def __init__(self, ghosts: Ghosts, trace: Trace) -> None:
        super().__init__(ghosts)
        self._trace = trace
        self._roles: dict[NodeId, dict[str, Any]] = {}
        """What was last written of each node that runs."""
        self._committed: dict[NodeId, int] = {}

    def stepped(self, node: NodeGhost, core: Any) -> None:
        """Write a new role, view or leader, and what is newly committed."""
        status = core.status(Instant(self.ghosts.now_us))
        role = {
            "role": status.role,
            "view": status.view,
            "leader": status.leader,
            "members": status.members,
        }
        if role != self._roles.get(node.node):
            self._roles[node.node] = role
            self._tell("role", node, **role)
        if status.committed != self._committed.get(node.node, 0):
            self._committed[node.node] = status.committed
            self._tell("committed", node, seqno=status.committed, last=str(status.last))

    def applying(self, node: NodeGhost, entry: Entry) -> None:
        """Write what is about to change the state, and whether this node is the first to apply it."""
        first = entry.viewstamp.seqno > self.ghosts.committed.length
        self._tell("apply", node, entry=str(entry.viewstamp), first=first, commands=described(entry.data))

    def restored(self, node: NodeGhost, viewstamp: Viewstamp) -> None:
        """Write that the state is replaced by a snapshot's."""
        self._tell("restore", node, at=str(viewstamp), applied_before=node.applied)

    def crashed(self, node: NodeGhost) -> None:
        """Forget what was written: the next incarnation starts from nothing."""
        self._roles.pop(node.node, None)
        self._committed.pop(node.node, None)

    def _tell(self, kind: str, node: NodeGhost, **fields: Any) -> None:
        self._trace.line(self.ghosts.now_us, kind, node.node, **fields)


def described(data: bytes) -> list[str]:
    """Return what an entry holds: its messages as text, long ones cut short. None: it is an empty entry."""
    if not data:
        return []
    try:
        messages = _BATCH.decode(data).messages
    except UNREADABLE:
        return [f"{len(data)} bytes"]
    prose = [describe_client_message(message, encode_message(message)) for message in messages]
    return [text if len(text) <= _CHARACTERS_MAX else f"{text[:_CHARACTERS_MAX]}..." for text in prose]


def fate(network: Network, before: Counter[str]) -> list[str]:
    """Return what the network's faults did to a message, given the counts before it was sent."""
    return sorted(name for name in network.counts - before if name not in _NO_FATE)
