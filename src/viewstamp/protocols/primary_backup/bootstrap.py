"""How a node without a log becomes a member: it bootstraps the cluster with the others, or is re-admitted.

A node whose disk is empty may be new, or its disk was wiped and it has forgotten what it promised. It cannot
know which, so it grants nothing. It introduces itself until

1. every other member has introduced itself too, has no log either, and *has heard the same incarnations* (so
   each spoke after all of these incarnations had begun): then they bootstrap the cluster in epoch 1. The
   lowest member is its primary, and all are synchronous; or
2. a member with a log answers with a record that lists exactly this incarnation; or
3. a primary brings it up, records its incarnation, and sends it that record (`synchronous_set.py`).
"""

from viewstamp.core.ids import ORIGIN
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.messages import Introduce, Recognize
from viewstamp.protocols.primary_backup.state import State
from viewstamp.protocols.replication.introductions import Introductions
from viewstamp.protocols.replication.messages import Member
from viewstamp.protocols.replication.node_state import NEVER, in_range, leaps


class Bootstrap(Introductions):
    """The beginning of this node's log, or its way back into the cluster."""

    __slots__ = ("is_first_primary",)
    _state: State

    def __init__(self, state: State) -> None:
        super().__init__(state, state.options.introduce_us)
        self.is_first_primary = False
        """This node is the lowest of a new cluster: it leads once the bootstrap is on its disk."""

    def begin(self) -> None:
        """Begin to introduce this node, unless the record lists it."""
        if not self._state.counts:
            self.introduce_at = self._state.now

    def introduce(self) -> None:
        """Introduce this node to every member, and again after `introduce_ms`; alone, bootstrap."""
        state = self._state
        if state.counts and not self.passed_over:
            self.introduce_at = NEVER
        elif not state.bootstrapped and not state.peers:
            self._bootstrap(self.known)
        else:
            self._introduce_to_all()

    def on_recognize(self, message: Recognize) -> bool:
        """Begin the log where a member's record lists this incarnation; return whether it does.

        Then all bootstrapped together, and this node alone has not written it yet. It has promised nothing.
        """
        state = self._state
        record = message.record
        if state.bootstrapped or not is_sound_record(record, state):
            return False
        self.forgot = not record.lists(state.node, state.incarnation)
        if self.forgot:
            return False
        state.bootstrapped = True
        state.enter(record.epoch, record.primary, granted=False)
        state.record = record
        state.write_base(ORIGIN, kept=0)
        self.introduce_at = NEVER
        return True

    def adopt(self) -> None:
        """Begin a log for what a primary sends; this node does not count toward the quorum yet."""
        state = self._state
        assert not state.bootstrapped
        state.bootstrapped = True
        state.write_base(ORIGIN, kept=0)

    def _bootstrap(self, known: tuple[Member, ...]) -> None:
        """Write the beginning of a log: epoch 1, the lowest member is primary, all are synchronous."""
        state = self._state
        assert not state.bootstrapped
        state.bootstrapped = True
        self.introduce_at = NEVER
        lowest = min(state.members)
        state.epoch = state.seen_epoch = 1
        state.candidate, state.granted = lowest, True
        state.record = SyncRecord(epoch=1, version=1, primary=lowest, members=state.members, roster=known)
        state.write_base(ORIGIN, kept=0)
        self.is_first_primary = lowest == state.node

    def _introduction(self, known: tuple[Member, ...]) -> Introduce:
        state = self._state
        return Introduce(incarnation=state.incarnation, bootstrapped=state.bootstrapped, known=known)


def is_sound_record(record: SyncRecord, state: State) -> bool:
    """Return whether a record could be one of this cluster."""
    members, listed = record.members, tuple(node for node, _ in record.roster)
    return (
        min(record.epoch, record.version) >= 1
        and in_range(record.epoch, record.version)
        and not (state.record is not None and leaps(record.version, state.record.version))
        and listed == state.members
        and members == tuple(sorted(set(members)))
        and set(members) <= set(state.members)
        and len(members) >= state.quorum
        and record.primary in members
    )
