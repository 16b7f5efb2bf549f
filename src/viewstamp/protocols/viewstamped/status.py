"""A member's own account of itself, in the words of an operator."""

from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.protocol import PeerStatus, Status
from viewstamp.protocols.viewstamped.joining import Joining
from viewstamp.protocols.viewstamped.log_positions import LogPositions
from viewstamp.protocols.viewstamped.membership import Membership
from viewstamp.protocols.viewstamped.proposer import Proposer
from viewstamp.protocols.viewstamped.role import Role
from viewstamp.protocols.viewstamped.state_transfer import Progress


def of(
    node: NodeId,
    leader: NodeId | None,
    role: Role,
    positions: LogPositions,
    waiting: str,
    now: Instant,
    dropped: tuple[tuple[str, int], ...],
) -> Status:
    """Return the status of the node that these are parts of."""
    views, primary = role.views, role.primary
    current = views.current
    return Status(
        node=node,
        role=role_of(node, current, is_member=views.is_member),
        view=views.view,
        leader=leader,
        last=positions.log.last,
        committed=positions.committed,
        applied=positions.applied,
        snapshot=positions.snapshot_seqno,
        log_bytes=positions.log.size_bytes,
        members=() if current is None else current.nodes,
        peers=() if primary is None else tuple(peer_status(each, now) for each in primary.backups.values()),
        waiting_for=waiting,
        dropped=dropped,
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
