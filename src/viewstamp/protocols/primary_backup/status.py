"""A fenced node's own account of itself, in the words of an operator."""

from typing import TYPE_CHECKING

from viewstamp.core.ids import Instant, View
from viewstamp.core.protocol import PeerStatus, Status
from viewstamp.protocols.primary_backup.state import Role, State
from viewstamp.protocols.replication.judge.describe import name_nodes, peer_status
from viewstamp.protocols.replication.progress import Progress

if TYPE_CHECKING:
    from viewstamp.protocols.primary_backup.core import PrimaryBackupCore


def report(core: "PrimaryBackupCore", now: Instant) -> Status:
    """Return the status of this core."""
    state = core.state
    return Status(
        node=state.node,
        role=role_of(state),
        view=View(state.epoch),
        leader=state.leader,
        last=state.log.last,
        committed=state.committed,
        applied=state.applied,
        snapshot=state.snapshot_seqno,
        log_bytes=state.log.size_bytes + state.overhead_bytes,
        members=state.members,
        peers=tuple(_peer(core, progress, now) for progress in core.replication.progress.values()),
        waiting_for=waiting_for(core),
    )


def role_of(state: State) -> str:
    """Return the node's role in one word."""
    if not state.founded:
        return "unfounded"
    return state.role.value if state.counts else "outsider"


def waiting_for(core: "PrimaryBackupCore") -> str:
    """Say why this node does not serve; empty where it does, or merely follows."""
    state = core.state
    if not state.founded:
        if core.founding.forgot:
            return "forgot its promises: waiting to be let back in"
        return f"waiting to found the cluster: no introduction from {name_nodes(core.founding.missing())}"
    if state.role is Role.PRIMARY:
        return _waiting_to_commit(core)
    if core.campaign.is_under_way:
        return "waiting for a majority to grant its promotion"
    if not state.counts:
        return "catching up: it has lost its disk and does not count until it has everything"
    if state.leader is None:
        return "waiting for a primary: promote one with `viewstamp transfer --to`"
    return ""


def _waiting_to_commit(core: "PrimaryBackupCore") -> str:
    replication = core.replication
    silent = replication.silent(core.state.options.silence_us)
    if len(core.state.members) - len(silent) < core.state.quorum:
        return f"waiting for a majority: no answer from {name_nodes(silent)}"
    if replication.syncset.in_force is None:
        return "bringing its backups up before it serves"
    return "" if replication.has_committed else "waiting for the first commit of its epoch"


def _peer(core: "PrimaryBackupCore", progress: Progress, now: Instant) -> PeerStatus:
    required = progress.node in core.replication.syncset.required
    return peer_status(progress, now, state="synchronous" if required else None)
