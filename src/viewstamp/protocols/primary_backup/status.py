"""A fenced node's own account of itself, in the words of an operator."""

from viewstamp.core.ids import Instant, View
from viewstamp.core.protocol import MembershipStatus, Status
from viewstamp.protocols.primary_backup.bootstrap import Bootstrap
from viewstamp.protocols.primary_backup.epoch import EpochCampaign
from viewstamp.protocols.primary_backup.leader import Leader
from viewstamp.protocols.primary_backup.state import Role, State
from viewstamp.protocols.replication.introductions import name_nodes
from viewstamp.protocols.replication.sender import peer_status


def of(state: State, leader: Leader, campaign: EpochCampaign, bootstrap: Bootstrap, now: Instant) -> Status:
    """Return the status of the core that these are the parts of."""
    required = leader.synchronous_set.required
    return Status(
        node=state.node,
        role=role_of(state),
        view=View(state.epoch),
        leader=state.leader,
        last=state.log.last,
        committed=state.committed,
        applied=state.applied,
        snapshot=state.snapshot_seqno,
        log_bytes=state.log.size_bytes + state.non_entry_bytes,
        members=tuple(sorted({*state.others, state.node})) if state.is_listed else state.members,
        peers=tuple(
            peer_status(progress, now, state="synchronous" if progress.node in required else None)
            for progress in leader.progress.values()
        ),
        waiting_for=_waiting_for(state, leader, campaign, bootstrap),
        incarnation=state.incarnation,
        membership=_membership(state, leader),
        dropped=tuple(sorted(state.counters.items())),
    )


def role_of(state: State) -> str:
    """Return the node's role in one word."""
    if not state.bootstrapped:
        return "bootstrapping"
    if state.counts:
        return state.role.value
    return "learner" if state.is_listed else "outsider"


def _membership(state: State, leader: Leader) -> MembershipStatus | None:
    """Return who takes part, by the newest record of the synchronous set that this node knows."""
    record = state.record
    if record is None:
        return None
    current, at = record.configuration, record.changed_at
    in_force = state.role is not Role.PRIMARY or leader.synchronous_set.is_configured
    return MembershipStatus(
        changed_at=at,
        committed=in_force and at.seqno <= max(state.committed, state.log.base_seqno),
        voters=current.voters,
        learners=current.learners,
        outgoing=current.outgoing,
        promised=current.promised,
        removed=current.removed,
    )


def _waiting_for(state: State, leader: Leader, campaign: EpochCampaign, bootstrap: Bootstrap) -> str:
    """Say why this node does not serve; empty where it does, or merely follows."""
    if bootstrap.removed:
        return "this data directory was removed from the cluster: it will never serve again"
    if not state.bootstrapped:
        if bootstrap.unknown:
            return "not a member yet: waiting until `viewstamp member add` names this node"
        if bootstrap.forgot:
            return "its disk was wiped: waiting for the primary to re-admit it"
        return f"waiting to bootstrap: not heard from {name_nodes(bootstrap.missing())} yet"
    if state.role is Role.PRIMARY:
        return _waiting_to_commit(state, leader)
    if campaign.is_under_way:
        return "waiting for a majority to grant its promotion"
    if state.is_listed and not state.counts:
        assert state.record is not None
        promised = state.record.configuration.promised
        return "catching up: a learner until it has everything" if state.node in promised else ""
    if not state.counts:
        return "catching up: its disk was wiped, and it does not count until it has everything"
    if state.leader is None:
        return "waiting for a primary: promote one with `viewstamp transfer --to`"
    return ""


def _waiting_to_commit(state: State, leader: Leader) -> str:
    silent = leader.silent(state.options.silence_us)
    synchronous_set = leader.synchronous_set
    if not synchronous_set.agree(synchronous_set.newest.configuration.electors.keys() - {*silent}):
        return f"waiting for a majority: no answer from {name_nodes(silent)}"
    if leader.synchronous_set.in_force is None:
        return "bringing its backups up to date before it serves"
    return "" if leader.has_committed else "waiting for the first commit of its epoch"
