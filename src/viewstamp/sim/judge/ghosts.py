"""What the simulator knows and no node does: the committed history, the durable disks, which node led when.

Rules of this file: a ghost is written by the judge, read by the invariants, and never by a node. Everything
in it is kept so that a question about one event costs O(1).
"""

from bisect import bisect_left
from collections.abc import Mapping
from operator import itemgetter
from typing import Final

import xxhash

from viewstamp.core.effects import Entry
from viewstamp.core.ids import ORIGIN, NodeId, PersistSeq, View, Viewstamp
from viewstamp.core.judge import DurableImage, Oracle
from viewstamp.core.protocol import Core

CHAIN_START: Final = 0


def link(chain: int, data: bytes) -> int:
    """Return the hash of a log that ends with this data, given the hash of the log before it."""
    return xxhash.xxh3_64_intdigest(data, chain)


class CommittedHistory:
    """The one order of entries, as the first node to apply each of them showed it."""

    __slots__ = ("_chains", "_entries", "_eras")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        """_entries[i] has the seqno i + 1."""
        self._chains: list[int] = [CHAIN_START]
        """_chains[i] is the hash of the first i entries."""
        self._eras: list[tuple[View, int]] = []
        """(view, seqno): up to seqno all was committed in this view or before; both only grow."""

    @property
    def last(self) -> Viewstamp:
        """The viewstamp of the last committed entry; the origin where there is none."""
        return self._entries[-1].viewstamp if self._entries else ORIGIN

    @property
    def length(self) -> int:
        """The seqno of the last committed entry."""
        return len(self._entries)

    def entry(self, seqno: int) -> Entry:
        """Return the entry at this seqno, between 1 and `length`."""
        assert seqno >= 1
        return self._entries[seqno - 1]

    def viewstamp(self, seqno: int) -> Viewstamp:
        """Return the viewstamp at this seqno, between 0 and `length`."""
        return self._entries[seqno - 1].viewstamp if seqno else ORIGIN

    def chain(self, seqno: int) -> int:
        """Return the hash of the history up to this seqno, between 0 and `length`."""
        return self._chains[seqno]

    def before_view(self, view: View) -> Viewstamp:
        """Return the last entry that was committed in an earlier view than this one, or the origin."""
        found = bisect_left(self._eras, view, key=itemgetter(0))
        return self.viewstamp(self._eras[found - 1][1] if found else 0)

    def add(self, entry: Entry, view: View) -> None:
        """Append the next entry, which a node in this view was the first to apply.

        The view is where it was committed, at the latest; what is before it was committed no later. An entry
        that a later view committed says nothing about a leader of a view between its own and that one.
        """
        assert entry.viewstamp.seqno == len(self._entries) + 1
        while self._eras and self._eras[-1][0] >= view:
            self._eras.pop()
        self._eras.append((view, entry.viewstamp.seqno))
        self._chains.append(link(self._chains[-1], entry.data))
        self._entries.append(entry)


class NodeGhost:
    """What the simulator knows of one node."""

    __slots__ = (
        "applied",
        "core",
        "executed",
        "image",
        "led",
        "losses",
        "lost",
        "node",
        "running",
        "synced",
        "written",
    )

    def __init__(self, node: NodeId, image: DurableImage) -> None:
        self.node = node
        self.core: Core | None = None
        """The protocol core of the present life; None before the first."""
        self.image = image
        """What is durable on its disk now."""
        self.applied = 0
        """Seqno of the last entry that this life applied or restored."""
        self.executed: Viewstamp | None = None
        """The last entry that the replica of this life was seen to have executed, or that of its snapshot."""
        self.led: View | None = None
        """The last view in which this life led."""
        self.running = False
        self.synced = PersistSeq(0)
        """Number of the last write that a sync made durable."""
        self.written = PersistSeq(0)
        """Number of the last write that this life found on its disk."""
        self.lost: DurableImage | None = None
        """What was on its disk when that was last lost; None: it never was."""
        self.losses: list[DurableImage] = []
        """All that was ever lost, the oldest first."""

    def held(self, viewstamp: Viewstamp) -> DurableImage:
        """Return an image that it lost and that held this entry, or else what it has now."""
        return next((image for image in self.losses if image.holds(viewstamp)), self.image)


class Ghosts:
    """All ghosts of one run."""

    __slots__ = ("committed", "images", "members", "nodes", "now_us", "oracle")

    def __init__(self, members: tuple[NodeId, ...], oracle: Oracle) -> None:
        self.members = members
        self.oracle = oracle
        self.committed = CommittedHistory()
        self.nodes = {node: NodeGhost(node, oracle.make_image()) for node in members}
        self.images: Mapping[NodeId, DurableImage] = {}
        self.now_us = 0
        self.collect_images()

    def collect_images(self) -> None:
        """Gather the durable images again; call it whenever one was replaced."""
        for ghost in self.nodes.values():
            if ghost.lost is not None and all(image is not ghost.lost for image in ghost.losses):
                ghost.losses.append(ghost.lost)
        self.images = {node: ghost.image for node, ghost in self.nodes.items()}

    def images_that_held(self, viewstamp: Viewstamp) -> Mapping[NodeId, DurableImage]:
        """Return for each node an image that it lost and that held this entry, or else what it has now.

        Each node by itself: one may have acknowledged before its disk was lost, another long after, and one
        may lose several.
        """
        return {node: ghost.held(viewstamp) for node, ghost in self.nodes.items()}

    def where(self, node: NodeId) -> str:
        """Return when and where, for the explanation of a violation."""
        return f"at {self.now_us / 1e6:.6f} s on node {node}"
