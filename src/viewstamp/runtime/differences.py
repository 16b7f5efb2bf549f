"""What members that meet find to differ, and what may differ for a while: logged once, and again when new.

Options may differ while they are changed, and so may the code of the class. What must not differ is refused
by the handshake (`link.handshake`).
"""

import logging
from typing import Final

from viewstamp.core.ids import NodeId
from viewstamp.link.handshake import Doorkeeper

LOG: Final = logging.getLogger("viewstamp.runtime")


class Differences:
    """The members of which the log says that they run with other options, or other code, than this node."""

    __slots__ = ("_doorkeeper", "_machine", "_node", "_of_class", "_of_options")

    def __init__(self, doorkeeper: Doorkeeper, node: NodeId, machine: str) -> None:
        """`machine` is the name of the class that is served."""
        self._doorkeeper = doorkeeper
        self._node = node
        self._machine = machine
        self._of_options: set[NodeId] = set()
        self._of_class: set[NodeId] = set()

    def compare(self, peer: NodeId) -> None:
        """Log what has become different since this was last called for the member."""
        if _is_new(peer, self._doorkeeper.differing, self._of_options):
            LOG.warning(
                "node %d runs with other options than node %d: make their cluster files equal, and restart "
                "the one with the older file",
                peer,
                self._node,
            )
        if _is_new(peer, self._doorkeeper.other_class, self._of_class):
            LOG.warning(
                "node %d runs another version of %s than node %d (their fingerprints differ): "
                "where commands do something else, replicas will stop: run the same code on all members",
                peer,
                self._machine,
                self._node,
            )


def _is_new(peer: NodeId, found: set[NodeId], said: set[NodeId]) -> bool:
    if peer not in found:
        said.discard(peer)
        return False
    is_new = peer not in said
    said.add(peer)
    return is_new
