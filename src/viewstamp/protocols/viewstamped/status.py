"""A member's own account of itself, in the words of an operator."""

from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.protocol import MembershipStatus, PeerStatus, Status
from viewstamp.protocols.viewstamped.changes import changed_at, configured_members, is_settled
from viewstamp.protocols.viewstamped.joining import Joining
from viewstamp.protocols.viewstamped.log_positions import LogPositions
from viewstamp.protocols.viewstamped.membership import Membership
from viewstamp.protocols.viewstamped.proposer import Proposer
from viewstamp.protocols.viewstamped.role import Role
from viewstamp.protocols.viewstamped.state import State
from viewstamp.protocols.viewstamped.state_transfer import Progress
from viewstamp.protocols.viewstamped.views import DecidedViews


def of(
    state: State,
    leader: NodeId | None,
    role: Role,
    positions: LogPositions,
    waiting: str,
    now: Instant,
    dropped: tuple[tuple[str, int], ...],
) -> Status:
    """Return the status of the node that these are parts of."""
    views, primary = role.views, role.primary
    current, node = views.current, state.node
    role_name = "learner" if views.is_follower else role_of(node, current, is_member=views.is_member)
    return Status(
        node=node,
        role=role_name,
        view=views.view,
        leader=leader,
        last=positions.log.last,
        committed=positions.committed,
        applied=positions.applied,
        snapshot=positions.snapshot_seqno,
        log_bytes=positions.log.size_bytes,
        members=_members(state, current),
        peers=() if primary is None else tuple(peer_status(each, now) for each in primary.fed()),
        waiting_for=waiting,
        incarnation=state.me.incarnation,
        membership=_membership(state, views),
        dropped=dropped,
    )


def _members(state: State, current: Membership | None) -> tuple[NodeId, ...]:
    """Return the members of the view; where a node joins and knows none, those that it is to ask."""
    if current is not None:
        return current.nodes
    return tuple(sorted({*state.others, state.node})) if state.joining else ()


def _membership(state: State, views: DecidedViews) -> MembershipStatus | None:
    """Return who is configured, by the newest view; None where nodes join by asking."""
    if views.current is None or state.options.bootstrap != "together":
        return None
    current = configured_members(state, views)
    return MembershipStatus(
        changed_at=changed_at(views),
        committed=views.wanted_change is None and is_settled(views),
        voters=current.voters,
        learners=current.learners,
        outgoing=current.outgoing,
        promised=current.promised,
        removed=current.removed,
    )


def role_of(node: NodeId, current: Membership | None, *, is_member: bool) -> str:
    """Return the node's role in one word."""
    if current is None:
        return "outside"
    if not is_member:
        return "joining"
    return "primary" if current.primary == node else "backup"


def peer_status(progress: Progress, now: Instant) -> PeerStatus:
    """Return how far a backup has come."""
    heard_us_ago = None if progress.heard_at is None else now - progress.heard_at
    return PeerStatus(
        node=progress.node, matched=progress.matched, state=progress.state, heard_us_ago=heard_us_ago
    )


def waiting_for(joining: Joining, proposer: Proposer, role: Role) -> str:
    """Say in one line why this node does not serve or follow; empty where it does."""
    part = role.primary or role.backup
    if part is not None:
        in_view = part.waiting_for()
    elif role.views.renewal_wanted:
        in_view = f"a new view after {role.views.view}: its primary restarted"
    else:
        in_view = ""
    reasons = (joining.waiting_for(), proposer.waiting_for(), in_view)
    return "; ".join(reason for reason in reasons if reason)
