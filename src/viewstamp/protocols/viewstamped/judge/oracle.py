"""How a run of this protocol is judged: what one node must keep, and what all nodes must agree on.

The names are those of docs/faults.md#invariants.

I24 ViewAgreement, I25 PrimaryContinuity, I8 and I9 for this protocol's positions, I11 for its promises.
I26 to I28 are consequences of these with the simulator's generic ones (one history, applied in order,
nothing lost).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from viewstamp.core.ids import Incarnation, NodeId, View, Viewstamp
from viewstamp.core.judge import AgreedView, DurableImage, InvariantViolated, ensure
from viewstamp.protocols.viewstamped.core import ViewstampedCore
from viewstamp.protocols.viewstamped.journal import Replay
from viewstamp.protocols.viewstamped.judge.liveness import owes_progress
from viewstamp.protocols.viewstamped.membership import Member, Membership
from viewstamp.protocols.viewstamped.messages import (
    Accept,
    Accepted,
    Append,
    Appended,
    Ballot,
    BootstrapQuery,
    Chunk,
    ChunkReceived,
    Join,
    NotBootstrapped,
    Ping,
    Pong,
    Position,
    Prepare,
    Prepared,
    Probe,
    Probed,
    Views,
    WantViews,
)


class _Seen:
    """What a core was after its previous step."""

    __slots__ = ("applied", "committed", "promised", "synchronised", "view")

    def __init__(self, core: ViewstampedCore) -> None:
        acceptor = core.views.acceptor
        self.view = core.views.view
        self.promised = (acceptor.instance, acceptor.promised)
        self.synchronised = core.views.synchronised_view
        self.committed = core.positions.committed
        self.applied = core.positions.applied


class ViewstampedOracle:
    """Watches one cluster for one run. It satisfies `core.invariants.Oracle`."""

    def __init__(self, members: tuple[NodeId, ...]) -> None:
        self._members = members
        self._views: dict[tuple[Incarnation, View], Membership] = {}
        """Ghost: every decided view of every group."""
        self._learned: dict[NodeId, int] = {}
        """How much of each core's history was compared already."""
        self._seen: dict[NodeId, _Seen] = {}
        self._synchronised: dict[tuple[Incarnation, View], frozenset[Member]] = {}
        """Ghost: views that somebody knows to have completed their synchronisation, with their members."""
        self._promises: dict[tuple[Incarnation, NodeId, View], Ballot] = {}
        """Ghost: the highest ballot that a node promised or accepted in an instance, by what it sent."""

    def check_node(self, core: ViewstampedCore) -> None:
        """Raise `InvariantViolated` unless the orderings that one node must keep hold in this core."""
        positions, views = core.positions, core.views
        log = positions.log
        ordered = log.base.seqno <= positions.applied <= positions.committed <= log.last.seqno
        if not ordered or positions.durable > log.last_seqno:
            raise InvariantViolated(
                "I9 Ordering",
                f"base {log.base}, applied {positions.applied}, committed {positions.committed}, "
                f"last {log.last}",
            )
        ensure(views.acceptor.instance == views.view + 1, "I24 ViewAgreement", "acceptor of another instance")
        ensure(views.synchronised_view <= views.view, "I26 SyncBeforeServe", "synchronised beyond its view")
        accepted = views.acceptor.accepted
        ensure(
            accepted is None or accepted <= views.acceptor.promised, "I8 Monotonic", "n_a is higher than n_h"
        )
        if core.accepting:
            ensure(views.is_synchronised and core.leader == core.node, "I26 SyncBeforeServe", "it accepts")

    def check_step(self, node: NodeId, core: ViewstampedCore) -> None:
        """Compare a core with what it was after its previous step, and its new views with everybody's."""
        now = _Seen(core)
        before = self._seen.get(node)
        if before is not None:
            self._check_monotonic(node, before, now)
        self._seen[node] = now
        history = core.views.history
        for membership in history[self._learned.get(node, 0) :]:
            self._check_view(core, membership)
        self._learned[node] = len(history)
        self._note_synchronised(core)

    def _check_monotonic(self, node: NodeId, before: _Seen, now: _Seen) -> None:
        for name in ("view", "promised", "synchronised", "committed", "applied"):
            old, new = getattr(before, name), getattr(now, name)  # names of this file
            if new < old:
                raise InvariantViolated(
                    "I8 Monotonic", f"{name} of node {node} went back from {old} to {new}"
                )

    def _check_view(self, core: ViewstampedCore, membership: Membership) -> None:
        group = core.group
        self._check_configured(core, membership)
        known = self._views.setdefault((group, membership.view), membership)
        ensure(known == membership, "I24 ViewAgreement", f"view {membership.view}: {known} and {membership}")
        latest = max(
            (view for of, view in self._synchronised if of == group and view < membership.view), default=None
        )
        if latest is None:
            return
        primary = membership.member(membership.primary)
        ensure(
            primary in self._synchronised[group, latest],
            "I25 PrimaryContinuity",
            f"the primary of view {membership.view} was not in view {latest}, the last synchronised one",
        )

    def _check_configured(self, core: ViewstampedCore, membership: Membership) -> None:
        """I12: no view has an incarnation that was removed before, unless it still has to leave it."""
        before = self._views.get((core.group, View(membership.view - 1)))
        configuration = membership.configuration
        if before is None or configuration is None:
            return
        for member in membership.members:
            gone = (member.node, member.incarnation) in {each[:2] for each in configuration.removed}
            if member not in before.members and (gone or member.node not in configuration.electors):
                raise InvariantViolated("I12 ConfigSafety", f"view {membership.view} admits {member}")

    def _note_synchronised(self, core: ViewstampedCore) -> None:
        view = core.views.synchronised_view
        if view > 0 and (core.group, view) not in self._synchronised:
            self._synchronised[core.group, view] = frozenset(core.views.history[view - 1].members)

    def forget(self, node: NodeId) -> None:
        """The node crashed: its volatile positions may go back now."""
        self._seen.pop(node, None)
        self._learned.pop(node, None)

    def make_image(self) -> Replay:
        """Return the image of an empty disk."""
        return Replay()

    def broken_promise(self, source: NodeId, message: Any, durable: DurableImage) -> str | None:
        """Say what `message` promises that the disk of `source` does not hold; None if nothing."""
        assert isinstance(durable, Replay)
        match message:
            case Prepared(group, instance, ballot, promised) | Accepted(group, instance, ballot, promised):
                return self._broken_paxos(source, (group, instance, promised), message, durable)
            case Prepare(_, instance, ballot) | Accept(_, instance, ballot):
                return _not_promised(instance, ballot, durable)
            case Appended(_, view, matched):
                if durable.view < view:
                    return f"it acknowledges in view {view}, its disk is in view {durable.view}"
                return (
                    None if durable.holds(matched) else f"it acknowledges {matched}, which it does not hold"
                )
            case Probed(_, view):
                return (
                    None
                    if durable.view >= view
                    else f"it answers in view {view}, its disk is in an older one"
                )
            case _:
                return None

    def _broken_paxos(
        self,
        source: NodeId,
        said: tuple[Incarnation, View, Ballot],
        message: Prepared | Accepted,
        durable: Replay,
    ) -> str | None:
        group, instance, promised = said
        highest = self._promises.get((group, source, instance), promised)
        if promised < highest:
            return f"it promised {highest} for view {instance} once, and now {promised}"
        self._promises[group, source, instance] = promised
        if isinstance(message, Accepted) and promised == message.ballot and durable.view < instance:
            accepted = durable.acceptor().accepted
            if accepted is None or accepted < promised:
                return f"it accepted {promised} for view {instance}, its disk holds {accepted}"
        return _not_promised(instance, promised, durable)

    def committed_by(self, viewstamp: Viewstamp, images: Mapping[NodeId, DurableImage]) -> bool:
        """Return whether all members of the entry's view, or of a later one, hold the entry durably."""
        disks = {node: image for node, image in images.items() if isinstance(image, Replay)}
        newest = max(disks.values(), key=lambda disk: disk.view, default=None)
        if newest is None:
            return False
        for membership in reversed(newest.history):
            if membership.view < viewstamp.view:
                return False
            if all(node in disks and disks[node].holds(viewstamp) for node in membership.nodes):
                return True
        return False

    def owes_progress(
        self, alive: Mapping[NodeId, Incarnation | None], images: Mapping[NodeId, DurableImage]
    ) -> bool:
        """A majority of the newest view that holds all that was acknowledged; see `owing`."""
        disks = {node: image for node, image in images.items() if isinstance(image, Replay)}
        return owes_progress(self._members, alive, disks)

    def listed(self, images: Mapping[NodeId, DurableImage]) -> Mapping[NodeId, Incarnation]:
        """Return the configured members of the newest view on any disk (`core.judge.MembershipOracle`).

        As long as no operator has changed them: those with which the run began.
        """
        disks = [image for image in images.values() if isinstance(image, Replay)]
        history = max((disk.history for disk in disks), key=len, default=[])
        configuration = history[-1].configuration if history else None
        if configuration is not None:
            # Those that are to leave are needed until a view without them is decided.
            return {member.node: member.incarnation for member in history[-1].members} | configuration.members
        known = dict.fromkeys(self._members, Incarnation(-1))
        for membership in history:
            known |= {member.node: member.incarnation for member in membership.members}
        return known

    def agreed(self, core: ViewstampedCore) -> Sequence[Membership]:
        """Return the views that a core knows."""
        return core.views.history

    def synchronised(self, core: ViewstampedCore) -> View:
        """Return the highest view that a core knows to be synchronised."""
        return core.views.synchronised_view

    def opening(self, core: ViewstampedCore) -> Viewstamp | None:
        """Return the empty entry that begins the view of a primary."""
        primary = core.role.primary
        return None if primary is None else primary.opening

    def agrees(self, image: DurableImage, view: AgreedView) -> bool:
        """Return whether a disk accepted this view or knows that it was decided."""
        assert isinstance(image, Replay)
        if image.view >= view.view:
            return image.history[view.view - 1] == view
        return image.view == view.view - 1 and image.acceptor().value == view

    def describe(self, message: Any) -> str:
        """Return the message as a short line of prose."""
        return describe(message)


def _not_promised(instance: View, ballot: Ballot, durable: Replay) -> str | None:
    promised = durable.acceptor().promised
    if durable.view >= instance or (durable.view == instance - 1 and promised >= ballot):
        return None
    return f"it promised {ballot} for view {instance}, its disk holds {promised} for view {durable.view + 1}"


def describe(message: Any) -> str:  # noqa: C901, PLR0912  one flat match names every message
    """Return a message as a short line of prose."""
    match message:
        case Prepare(_, instance, ballot):
            return f"prepare view {instance} with {_ballot(ballot)}"
        case Prepared(_, instance, ballot, promised, accepted, value):
            return _describe_prepared(instance, ballot, promised, accepted, value)
        case Accept(_, instance, ballot, value):
            return f"accept {_members(value)} for view {instance} with {_ballot(ballot)}"
        case Accepted(_, instance, ballot, promised):
            verb = "accepted" if promised == ballot else "rejected"
            return f"{verb} {_ballot(ballot)} for view {instance}"
        case Views(_, (), latest):
            return f"view {latest} is the newest"
        case Views(_, memberships):
            return "decided " + ", ".join(f"view {each.view} = {_members(each)}" for each in memberships)
        case WantViews(_, after):
            return f"which views follow {after}?"
        case Ping(_, view):
            return f"ping in view {view}"
        case Pong(_, view):
            return f"pong in view {view}"
        case Join(_, member, view):
            return f"join of node {member.node}, which knows view {view}"
        case BootstrapQuery():
            return "do you know a view?"
        case NotBootstrapped():
            return "no view is known here"
        case _:
            return _describe_replication(message)


def _describe_replication(message: Any) -> str:
    match message:
        case Append(_, view, previous, records, committed):
            count = f"{len(records)} after {previous}" if records else f"nothing after {previous}"
            return f"append {count} in view {view}, committed {committed}"
        case Appended(_, view, matched):
            return f"appended up to {matched} in view {view}"
        case Position(_, view, marks, staged):
            part = f", {staged.offset} bytes of snapshot {staged.viewstamp}" if staged is not None else ""
            return f"position in view {view}: {', '.join(map(str, marks))}{part}"
        case Chunk(_, view, meta, offset, data):
            return f"chunk of snapshot {meta.viewstamp} in view {view}: {len(data)} bytes at {offset}"
        case ChunkReceived(_, view, staged):
            return f"has snapshot {staged.viewstamp} up to byte {staged.offset} in view {view}"
        case Probe(_, view, number):
            return f"still in view {view}? round {number}"
        case Probed(_, view, number):
            return f"still in view {view}, round {number}"
        case _:
            return f"unknown {type(message).__name__}"


def _describe_prepared(
    instance: View, ballot: Ballot, promised: Ballot, accepted: Ballot | None, value: Membership | None
) -> str:
    if promised != ballot:
        return f"rejected {_ballot(ballot)} for view {instance}, promised {_ballot(promised)}"
    if accepted is None or value is None:
        return f"promised {_ballot(ballot)} for view {instance}"
    return (
        f"promised {_ballot(ballot)} for view {instance}, accepted {_members(value)} with {_ballot(accepted)}"
    )


def _ballot(ballot: Ballot) -> str:
    return f"{ballot.number}.{ballot.node}"


def _members(membership: Membership) -> str:
    names = (f"{node}*" if node == membership.primary else str(node) for node in membership.nodes)
    return "{" + ", ".join(names) + "}"
