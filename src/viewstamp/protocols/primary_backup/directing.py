"""What the operator wants of a fenced node: who is to lead."""

from typing import TYPE_CHECKING

from viewstamp.core.effects import Settled
from viewstamp.core.events import DirectiveToken
from viewstamp.core.ids import NodeId
from viewstamp.protocols.primary_backup.state import Role

if TYPE_CHECKING:
    from viewstamp.protocols.primary_backup.core import PrimaryBackupCore


def transfer(core: "PrimaryBackupCore", token: DirectiveToken, to: NodeId | None) -> None:
    """Promote a server: this one where none is named, or from a primary the fittest other."""
    state = core.state
    leads = state.role is Role.PRIMARY
    if to is None:
        to = _fittest(core) if leads else state.node
    if to is None:
        state.outbox.emit(Settled(token, "no other member has everything: try again later"))
    elif to not in state.members:
        state.outbox.emit(Settled(token, f"node {to} is no member"))
    elif to != state.node:
        core.errands.send(token, to)
    elif leads:
        state.outbox.emit(Settled(token, None))
    else:
        core.campaign.begin(token)


def _fittest(core: "PrimaryBackupCore") -> NodeId | None:
    """Return the synchronous member, other than this one, that has most of the log."""
    record = core.replication.syncset.in_force
    if record is None:
        return None
    fit = [core.replication.progress[node] for node in record.members if node != core.state.node]
    return max(fit, key=lambda progress: progress.matched).node if fit else None
