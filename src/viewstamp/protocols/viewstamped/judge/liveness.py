"""Which members owe progress when all others are gone for good; for the oracle, and nothing else.

The proposer of the next view may find a value that was accepted for it already, also by a member that is
gone. A view with too few living members would then be decided, and wait without end. A promise says that a
member proposes: it may leave out a living member that was silent or, which costs as much, admit a node that
has died since. Its value may be known to the proposer alone, or in flight. What was decided may be known to
the dead alone. So the living must be able to go on in the newest view they know, and in each that may come
next. When in doubt nothing is owed: so not by half of a view either, although that can go on where a
member forgot (`paxos.are_enough`); test_forgetting.py has those.
"""

from collections.abc import Collection, Mapping

from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.quorum import has_majority, majority
from viewstamp.protocols.viewstamped.journal import Replay
from viewstamp.protocols.viewstamped.membership import Membership, successor, without
from viewstamp.protocols.viewstamped.messages import LOWEST

Alive = Mapping[NodeId, Incarnation | None]


def owes_progress(configured: Collection[NodeId], alive: Alive, disks: Mapping[NodeId, Replay]) -> bool:
    """Return whether the living must serve; `disks` are those of all members, also of the dead."""
    newest = max((disks[node] for node in alive if node in disks), key=lambda disk: disk.view, default=None)
    if newest is None or not newest.history:
        # View 1 is made only when all have said that they know no view.
        return set(alive) >= set(configured)
    current = newest.history[-1]
    longest = max((disk.history for disk in disks.values()), key=len)[-1]
    if _changing(longest) or longest.changed != current.changed:
        return False  # members leave and come one view after the other: nothing is owed until that is done
    configuration = current.configuration
    voters = configured if configuration is None else configuration.electors
    if len([node for node in alive if node in voters]) < majority(len(voters)):
        return False  # a smaller view does not serve
    configured = [*voters]
    remembered = any(disks[node].synchronised == current.view for node in alive if node in disks)
    trusted = current.nodes if remembered else current.eligible
    next_ones = [*_decided_after(current, disks), *_accepted(current, disks)]
    if _something_is_proposed(current, disks):
        next_ones += _without_one(current, synchronised=remembered)
    may_come = [(current, trusted), *((value, value.eligible) for value in next_ones)]
    if any(len(membership.members) == 1 for membership, _ in may_come) and not set(alive) >= set(configured):
        # It becomes a view of two by admitting a node that has just died, and cannot shrink then.
        return False
    return all(_can_go_on(membership, alive, by) for membership, by in may_come)


def _changing(membership: Membership) -> bool:
    """Return whether a change of the configured members is under way."""
    configuration = membership.configuration
    return configuration is not None and (configuration.is_unfinished or bool(membership.leaving))


def _decided_after(current: Membership, disks: Mapping[NodeId, Replay]) -> list[Membership]:
    """Return the views that only the dead know: the living may find them agreed on, or never hear of them."""
    longest = max((disk.history for disk in disks.values()), key=len)
    return list(longest[current.view :])


def _accepted(current: Membership, disks: Mapping[NodeId, Replay]) -> list[Membership]:
    """Return what any member has accepted as the next view."""
    acceptors = [disk.acceptor() for disk in disks.values() if disk.view == current.view]
    return [acceptor.value for acceptor in acceptors if acceptor.value is not None]


def _something_is_proposed(current: Membership, disks: Mapping[NodeId, Replay]) -> bool:
    """Return whether any member has promised a ballot whose value no disk shows."""
    acceptors = [disk.acceptor() for disk in disks.values() if disk.view == current.view]
    shown = {LOWEST, *(acceptor.accepted for acceptor in acceptors)}
    return any(acceptor.promised not in shown for acceptor in acceptors)


def _without_one(current: Membership, *, synchronised: bool) -> list[Membership]:
    """Return the views that a proposer may want that does not hear one of the others."""
    wanted = (successor(current, without(current, node), synchronised=synchronised) for node in current.nodes)
    return [view for view in wanted if view is not None]


def _can_go_on(membership: Membership, alive: Alive, trusted: Collection[NodeId]) -> bool:
    """Return whether the living can agree on the view after this one, and one of them may lead it.

    If they can, they can remove the dead one after the other: of a majority it stays one. A view of two
    with one of them dead has no majority and cannot shrink.
    """
    living = {member.node for member in membership.members if alive.get(member.node) == member.incarnation}
    return has_majority(living, membership.nodes) and not living.isdisjoint(trusted)
