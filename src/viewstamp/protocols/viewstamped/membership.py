"""A view as a value: who is in it, who may lead it, who does. What Paxos agrees on (lab 6, "Understanding").

Rules of this file:

- One view differs from the one before by one member, removed or appended, or by none (a renewal).
- A view also says who is configured, once an operator has changed that: who may be admitted, and who is to
  leave. It decides nothing: the next view needs a majority of this one's members in any case.
- `eligible` holds every member that certainly has all that was acknowledged in earlier views, and is
  never empty. The course's rule, "the lowest member of the previous view", can choose a node that joined
  and never synchronised. Here a member of view v+1 is eligible if it was in v, and v completed its
  synchronisation or the member was eligible in v already. By induction it was in every view since the
  last synchronised one.
- The primary stays primary while it is eligible; otherwise the lowest eligible member follows it, of those
  that have little to execute if there are any: a node that has just come back has the log, but not yet the
  state.
"""

from collections.abc import Collection
from typing import Final

import msgspec

from viewstamp.core.ids import Incarnation, NodeId, View
from viewstamp.protocols.replication.configuration import Changed, Configuration, is_canonical

NUMBER_MAX: Final = 2**62
"""Nothing that a peer numbers may be higher: it must fit the wire with room to count on."""
MEMBERS_MAX: Final = 64


class Member(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node in one incarnation. A node whose disk was wiped is another member: it forgot its promises."""

    node: NodeId
    incarnation: Incarnation


class Membership(msgspec.Struct, frozen=True, array_like=True):
    """One view."""

    view: View
    members: tuple[Member, ...]
    """In the order of joining, each node once."""
    eligible: tuple[NodeId, ...]
    """Members that hold all that was acknowledged before this view; at least one."""
    primary: NodeId
    """One of the eligible."""
    changed: Changed | None = None
    """The configured members, once an operator has changed them: only they are admitted. None: those of the
    cluster file are."""

    @property
    def configuration(self) -> Configuration | None:
        """The configured members; None: no operator has changed them."""
        return None if self.changed is None else self.changed.configuration

    @property
    def leaving(self) -> tuple[NodeId, ...]:
        """Members of the view that are no longer configured."""
        if self.changed is None:
            return ()
        electors = self.changed.configuration.electors
        return tuple(node for node in self.nodes if node not in electors)

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """The members' nodes in the order of joining."""
        return tuple(member.node for member in self.members)

    @property
    def leader(self) -> Member | None:
        """The member that runs on the primary's node; never None in a well-formed view."""
        return self.member(self.primary)

    @property
    def lowest(self) -> NodeId:
        """The member that watches over all others."""
        return min(self.nodes)

    def member(self, node: NodeId) -> Member | None:
        """Return the member that runs on this node, if any."""
        return next((member for member in self.members if member.node == node), None)


def first_view_of(member: Member) -> Membership:
    """Return view 1."""
    return Membership(View(1), (member,), (member.node,), member.node)


def successor(
    current: Membership,
    members: tuple[Member, ...],
    *,
    synchronised: bool,
    primary: NodeId | None = None,
    late: Collection[NodeId] = (),
    changed: Changed | None = None,
) -> Membership | None:
    """Return the next view with these members; None if none of them is certain to hold what was acknowledged.

    `synchronised` says that the current view is known to have completed its synchronisation. Believing too
    little costs availability only. `primary` is preferred where it is eligible; `late` members come last.
    `changed` says who is configured from then on, None: as before.
    """
    trusted = set(current.nodes if synchronised else current.eligible)
    before = set(current.members)
    eligible = tuple(member.node for member in members if member in before and member.node in trusted)
    if not eligible:
        return None
    preferred = (primary, current.primary)
    ready = [node for node in eligible if node not in late]
    chosen = next((node for node in preferred if node in eligible), min(ready or eligible))
    changed = _renewed(changed or current.changed, members)
    return Membership(View(current.view + 1), members, eligible, chosen, changed)


def _renewed(changed: Changed | None, members: tuple[Member, ...]) -> Changed | None:
    """Return the configured members in the incarnations in which they are in the view."""
    if changed is None:
        return None
    now = {member.node: member.incarnation for member in members}
    return Changed(changed.configuration.renewed(now), changed.at)


def may_enter(member: Member, configuration: Configuration) -> bool:
    """Return whether this node may be admitted to a view: it is configured, and was not removed."""
    is_removed = configuration.removed_at(member.node, member.incarnation) is not None
    return member.node in configuration.electors and not is_removed


def without(membership: Membership, node: NodeId) -> tuple[Member, ...]:
    """Return the members but for the one on this node."""
    return tuple(member for member in membership.members if member.node != node)


def well_formed(membership: Membership) -> bool:
    """Return whether a membership that a peer sent keeps the rules that one view alone can show."""
    nodes = membership.nodes
    eligible = membership.eligible
    return (
        0 < len(nodes) <= MEMBERS_MAX
        and len(set(nodes)) == len(nodes)
        and 1 <= membership.view < NUMBER_MAX
        and all(_in_range(member) for member in membership.members)
        and bool(eligible)
        and len(set(eligible)) == len(eligible)
        and set(eligible) <= set(nodes)
        and membership.primary in eligible
        and (membership.configuration is None or is_canonical(membership.configuration))
    )


def follows(previous: Membership, candidate: Membership) -> bool:
    """Return whether a well-formed candidate may be the view after `previous`."""
    before, after = set(previous.members), set(candidate.members)
    kept = {member.node for member in before & after}
    return (
        candidate.view == previous.view + 1
        and len(before ^ after) <= 1
        and _order_kept(previous.members, candidate.members)
        and set(candidate.eligible) <= kept
        and (previous.changed is None or candidate.changed is not None)
        and all(
            candidate.configuration is None or may_enter(member, candidate.configuration)
            for member in after - before
        )
    )


def is_first_view(candidate: Membership) -> bool:
    """Return whether a well-formed candidate may be view 1."""
    return candidate.view == 1 and len(candidate.members) == 1


def _order_kept(before: Collection[Member], after: Collection[Member]) -> bool:
    return [member for member in before if member in after] == [
        member for member in after if member in before
    ]


def _in_range(member: Member) -> bool:
    return 0 <= member.node < NUMBER_MAX and 0 <= member.incarnation < 2 * NUMBER_MAX
