"""I12 for records: members change one after the other, and majorities of two have a member in common."""

from viewstamp.core.ids import NodeId
from viewstamp.core.judge import InvariantViolated, ensure
from viewstamp.core.quorum import majority
from viewstamp.protocols.primary_backup.core import PrimaryBackupCore
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.state import Role
from viewstamp.protocols.replication.configuration import Configuration

_NAME = "I12 ConfigSafety"


class RecordWatch:
    """Ghosts of one run: what each primary proposed last."""

    def __init__(self) -> None:
        self._proposed: dict[NodeId, SyncRecord] = {}

    def check(self, core: PrimaryBackupCore) -> None:
        """Compare the newest record of a primary with the one before.

        Raises:
            InvariantViolated: a change was begun that is not safe.
        """
        state = core.state
        if state.role is not Role.PRIMARY:
            self._proposed.pop(state.node, None)
            return
        newest = core.replication.synchronous_set.newest
        before = self._proposed.get(state.node)
        self._proposed[state.node] = newest
        if before is not None and before.changed_at != newest.changed_at:
            self._check_change(core, before, newest)

    def _check_change(self, core: PrimaryBackupCore, before: SyncRecord, newest: SyncRecord) -> None:
        node, in_force = core.state.node, core.replication.synchronous_set.in_force
        if in_force is None or in_force.changed_at != before.changed_at:
            raise InvariantViolated(_NAME, f"node {node} changes the members before {before} is in force")
        old, new = before.configuration, newest.configuration
        ensure(_always_meet(old, new), _NAME, f"majorities of {old} and of {new} need not meet")

    def forget(self, node: NodeId) -> None:
        """The node crashed."""
        self._proposed.pop(node, None)


def _always_meet(old: Configuration, new: Configuration) -> bool:
    """Return whether two quorums have a member in common; of halves that must agree one pair is enough."""
    nodes = [[{node for node, _ in half} for half in each.deciding] for each in (old, new)]
    return any(
        majority(len(first)) + majority(len(second)) > len(first | second)
        for first in nodes[0]
        for second in nodes[1]
    )
