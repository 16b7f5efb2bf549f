"""Agreed views: one membership each; the leader holds what was acknowledged; a view serves once all hold it.

Only for protocols with `Guarantees.agreed_views`. All views of a run are one sequence: a second bootstrap, or
a node that comes back with another history, is found here.
"""

# ruff: noqa: ARG002  the moments of `Invariant` have one signature for all

from typing import Any, cast

from viewstamp.core.effects import Entry
from viewstamp.core.events import ReadToken
from viewstamp.core.ids import ORIGIN, NodeId, View, Viewstamp
from viewstamp.core.judge import AgreedView, DurableImage, ViewOracle
from viewstamp.core.protocol import Guarantees
from viewstamp.core.quorum import has_majority
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost
from viewstamp.sim.judge.invariants.base import Invariant


class _OfViews(Invariant):
    """What the three below share: each sees a view once per incarnation that learns of it."""

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._learned: dict[NodeId, int] = {}

    @classmethod
    def applies(cls, guarantees: Guarantees) -> bool:
        """Only where views have members of their own."""
        return guarantees.agreed_views

    @property
    def oracle(self) -> ViewOracle:
        """The protocol's oracle, as one that knows views."""
        return cast("ViewOracle", self.ghosts.oracle)

    def stepped(self, node: NodeGhost, core: Any) -> None:
        """Look at the views that it did not know before this step."""
        views = self.oracle.agreed(core)
        known = self._learned.get(node.node, 0)
        if len(views) != known:
            for view in views[known:]:
                self.learned(node, view)
            self._learned[node.node] = len(views)

    def crashed(self, node: NodeGhost) -> None:
        """The next life is compared from its first view on."""
        self._learned.pop(node.node, None)

    def learned(self, node: NodeGhost, view: AgreedView) -> None:
        """A node knows one more view."""


class ViewAgreement(_OfViews):
    """I24: a view has one membership, the same everywhere, and a majority of the view before chose it."""

    name = "I24 ViewAgreement"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._views: dict[View, AgreedView] = {}

    def learned(self, node: NodeGhost, view: AgreedView) -> None:
        """Compare with what others know of it; the first time, with the disks that chose it."""
        known = self._views.setdefault(view.view, view)
        if known != view:
            self.fail(node.node, f"it knows view {view.view} as {view}, and another node as {known}")
        before = self._views.get(View(view.view - 1))
        if known is view and before is not None and not self._was_chosen(before, view):
            self.fail(node.node, f"it takes {view} as decided, but no majority of {before} accepted it")

    def _was_chosen(self, before: AgreedView, view: AgreedView) -> bool:
        supporters = {each for each in before.nodes if self._agrees(self.ghosts.nodes[each], view)}
        if has_majority(supporters, before.nodes):
            return True
        # A member whose disk was lost never accepts again: then half of the view is enough.
        lost = any(self.ghosts.nodes[each].losses for each in before.nodes)
        return lost and 2 * len(supporters) >= len(before.nodes)

    def _agrees(self, ghost: NodeGhost, view: AgreedView) -> bool:
        # A disk that was lost after it accepted did hold the view when it was counted.
        return any(self.oracle.agrees(image, view) for image in _disks(ghost))


class PrimaryContinuity(_OfViews):
    """I25: the leader of a view was a member of the last view before it that was synchronised."""

    name = "I25 PrimaryContinuity"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._views: dict[View, AgreedView] = {}
        self._synchronised: dict[View, AgreedView] = {}
        """Views that some node knows to have completed it."""

    def stepped(self, node: NodeGhost, core: Any) -> None:
        """Also check a synchronisation that no node knew of: later views had to respect it."""
        super().stepped(node, core)
        latest = self.oracle.synchronised(core)
        if latest in self._views and latest not in self._synchronised:
            self._synchronised[latest] = self._views[latest]
            for view in self._views.values():
                self._check(node.node, view)

    def learned(self, node: NodeGhost, view: AgreedView) -> None:
        """Look at each view once."""
        if view.view not in self._views:
            self._views[view.view] = view
            self._check(node.node, view)

    def _check(self, node: NodeId, view: AgreedView) -> None:
        latest = max((each for each in self._synchronised if each < view.view), default=None)
        if latest is not None and view.leader not in self._synchronised[latest].members:
            self.fail(
                node,
                f"the primary of view {view.view} was not in view {latest}, the last synchronised before it",
            )


class SyncBeforeServe(_OfViews):
    """I26: a view serves, reads included, only when all its members durably hold what it began with."""

    name = "I26 SyncBeforeServe"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._served: set[View] = set()

    def learned(self, node: NodeGhost, view: AgreedView) -> None:
        """Nothing is served by knowing a view."""

    def leading(self, node: NodeGhost, view: View) -> None:
        """Look at the disks of all members."""
        opening = self.oracle.opening(node.core)
        membership = self.oracle.agreed(node.core)[-1]
        if opening is None or membership.view != view or opening.view != view:
            self.fail(node.node, f"it serves in view {view}, which begins with {opening}")
        late = [each for each in membership.nodes if not self._holds(self.ghosts.nodes[each], opening)]
        if late:
            self.fail(node.node, f"it serves in view {view}, but nodes {late} are not synchronised with it")
        self._served.add(view)

    def answered(self, node: NodeGhost, token: ReadToken) -> None:
        """A read is answered in a view that serves; it may start to serve in this step."""
        assert node.core is not None
        if node.core.view not in self._served:
            self.leading(node, node.core.view)

    def _holds(self, ghost: NodeGhost, opening: Viewstamp | None) -> bool:
        return opening is not None and any(
            image.view >= opening.view and image.holds(opening) for image in _disks(ghost)
        )


class NoGap(Invariant):
    """I27: each node executes one viewstamp after the other: the next seqno, and never an older view."""

    name = "I27 NoGap"

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__(ghosts)
        self._latest: dict[NodeId, Viewstamp] = {}

    def applying(self, node: NodeGhost, entry: Entry) -> None:
        """Compare with what this life executed before."""
        viewstamp = entry.viewstamp
        latest = self._latest.get(node.node, ORIGIN)
        if viewstamp.seqno != node.applied + 1 or viewstamp.view < latest.view:
            self.fail(node.node, f"it executes {viewstamp} after seqno {node.applied} of view {latest.view}")
        self._latest[node.node] = viewstamp

    def crashed(self, node: NodeGhost) -> None:
        """The next life begins with its snapshot."""
        self._latest.pop(node.node, None)


def _disks(ghost: NodeGhost) -> list[DurableImage]:
    return [ghost.image, *ghost.losses]
