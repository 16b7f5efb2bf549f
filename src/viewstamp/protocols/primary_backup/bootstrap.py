"""How a node without a log becomes a member: by founding the cluster, or by being let in.

A node whose disk is empty may be new, or it may have forgotten what it promised. It cannot tell, so it grants
nothing. It introduces itself until

1. every other member has introduced itself too, has no log either, and *has heard the same incarnations* (so
   each spoke after all of these lives had begun): then the cluster is founded in epoch 1, the lowest member
   is its primary, and all are synchronous; or
2. a member with a log answers with a record that lists exactly this incarnation; or
3. a primary brings it up, records it, and tells it so (`syncset.py`).
"""

from viewstamp.core.ids import ORIGIN, Instant, NodeId
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.messages import Introduce, Recognize
from viewstamp.protocols.primary_backup.state import NEVER, State
from viewstamp.protocols.replication.introductions import Introductions
from viewstamp.protocols.replication.messages import Member


class Bootstrap:
    """Introductions, sent and received."""

    __slots__ = ("_introductions", "_passed_over", "_state", "forgot", "introduce_at", "is_to_lead")

    def __init__(self, state: State) -> None:
        self._state = state
        self._introductions = Introductions(state, self._introduce_to)
        self.forgot = False
        """A member with a log knows another incarnation of this node."""
        self._passed_over = False
        """The last primary heard knows another incarnation: a late introduction of an earlier life."""
        self.introduce_at = NEVER
        self.is_to_lead = False
        """This node founded the cluster just now and is to be its first primary, once that is on disk."""

    def begin(self) -> None:
        """The node starts: if nobody knows it, it is to introduce itself at once."""
        if not self._state.counts:
            self.introduce_at = self._state.now

    def introduce(self) -> None:
        """Introduce this node to everybody, and again in a while. A cluster of one is founded by that."""
        state = self._state
        if state.counts and not self._passed_over:
            self.introduce_at = NEVER
            return
        if not state.founded and not state.peers:
            self._found()
            return
        self.introduce_at = Instant(state.now + state.options.introduce_us)
        self._introductions.introduce()

    def missing(self) -> list[NodeId]:
        """Return the members that have not introduced themselves, in ascending order."""
        return self._introductions.missing()

    def on_passed_over(self) -> None:
        """A primary addressed another incarnation of this node: it does not know this one."""
        self._passed_over = True
        soon = Instant(self._state.now + self._state.options.introduce_us)
        self.introduce_at = min(self.introduce_at, soon)

    def on_addressed(self) -> None:
        """A primary addressed this incarnation."""
        self._passed_over = False

    def on_peer_up(self, peer: NodeId) -> None:
        """What this member was told before may not have arrived."""
        self._introductions.on_peer_up(peer)

    def on_introduce(self, source: NodeId, message: Introduce) -> None:
        """A member introduces itself to this node, which has no log either."""
        if self._introductions.on_introduce(source, message):
            self._found()

    def on_recognize(self, message: Recognize) -> bool:
        """A member with a log answers. Tell whether this node is founded by it.

        That its record lists this incarnation means that all founded together, and it alone has not written
        it down yet: nothing was promised by it, and nothing is lost.
        """
        state = self._state
        record = message.record
        if state.founded or not is_sound_record(record, state):
            return False
        self.forgot = not record.lists(state.node, state.incarnation)
        if self.forgot:
            return False
        state.founded = True
        state.enter(record.epoch, record.primary, granted=False)
        state.record = record
        state.write_base(ORIGIN, kept=0)
        self.introduce_at = NEVER
        return True

    def adopt(self) -> None:
        """A primary addressed this incarnation: keep what it sends. To count is another matter."""
        state = self._state
        state.founded = True
        state.write_base(ORIGIN, kept=0)

    def _found(self) -> None:
        """Write the beginning of a log: epoch 1, the lowest member is primary, all are synchronous."""
        state = self._state
        assert not state.founded
        state.founded = True
        self.introduce_at = NEVER
        lowest = min(state.members)
        state.epoch = state.seen_epoch = 1
        state.candidate, state.granted = lowest, True
        state.record = SyncRecord(1, 1, lowest, state.members, self._introductions.known)
        state.write_base(ORIGIN, kept=0)
        self.is_to_lead = lowest == state.node

    def _introduce_to(self, peer: NodeId, known: tuple[Member, ...]) -> None:
        state = self._state
        # Early: who one is and whom one has heard is true whatever the disk holds.
        state.outbox.send_early(
            peer, Introduce(incarnation=state.incarnation, bootstrapped=state.founded, known=known)
        )


def is_sound_record(record: SyncRecord, state: State) -> bool:
    """Tell whether a record could be one of this cluster."""
    members, listed = record.members, tuple(node for node, _ in record.roster)
    return (
        record.epoch >= 1
        and record.version >= 1
        and listed == state.members
        and members == tuple(sorted(set(members)))
        and set(members) <= set(state.members)
        and len(members) >= state.quorum
        and record.primary in members
    )
