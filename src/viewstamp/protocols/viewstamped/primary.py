"""The primary of one view. A new view makes a new one of these, or none.

Rules of this file:

- Its log is authoritative. It begins with an empty entry of its view; when every member holds that one
  durably, and with it everything before, the view is synchronised, and not before that is on disk here it
  accepts.
- Until then it sends only what it has durably: an unsynchronised view leaves no trace that could be lost.
  From then on it writes and sends an entry at the same time.
- Committed is what every member has durably: a primary that is cut off commits and answers nothing.
"""

from collections.abc import Callable
from typing import Any, Final

from viewstamp.core.events import ReadToken
from viewstamp.core.ids import Instant, NodeId, PersistSeq, Seqno, Viewstamp
from viewstamp.protocols.replication.compaction import needed_after
from viewstamp.protocols.replication.log import COMMAND, EMPTY
from viewstamp.protocols.replication.read_rounds import ReadRounds
from viewstamp.protocols.viewstamped.log_positions import LogPositions
from viewstamp.protocols.viewstamped.membership import Membership
from viewstamp.protocols.viewstamped.messages import (
    Append,
    Appended,
    Chunk,
    ChunkReceived,
    Position,
    Probed,
    StagedPart,
)
from viewstamp.protocols.viewstamped.reads import Confirmations
from viewstamp.protocols.viewstamped.state import Point, State
from viewstamp.protocols.viewstamped.state_transfer import Progress, SnapshotSender, agreement, part_of
from viewstamp.protocols.viewstamped.views import DecidedViews

_REPORT_AFTER: Final = 4
"""A primary reports a backup after N times `heartbeat_misses_max`: its disk may be slow."""
_CALM_TICKS: Final = 4
"""A backup that has everything is asked in one of N heartbeats whether it still answers."""


class Primary:
    """Orders, sends, commits."""

    __slots__ = (
        "_announced",
        "_append",
        "_confirmations",
        "_is_busy",
        "_is_large_enough",
        "_membership",
        "_positions",
        "_state",
        "_sync_target",
        "_sync_write",
        "_ticks",
        "_views",
        "announce_at",
        "backups",
        "followers",
        "reads",
        "serves",
    )

    def __init__(
        self, state: State, views: DecidedViews, positions: LogPositions, membership: Membership
    ) -> None:
        assert membership.primary == state.node
        self._state = state
        self._views = views
        self._positions = positions
        self._membership = membership
        configured = len(membership.members) - len(membership.leaving)
        self._is_large_enough = configured >= state.members_min(membership)
        self.backups = {node: Progress(node) for node in membership.nodes if node != state.node}
        listed = () if membership.configuration is None else membership.configuration.members
        self.followers = {node: Progress(node) for node in listed if node not in membership.nodes}
        """Configured nodes outside the view: they get everything, and nothing waits for them."""
        views.followers = self.followers
        self._confirmations = Confirmations(state, membership.view, self.backups)
        self.reads: ReadRounds[ReadToken] = ReadRounds(positions, self._confirmations, self._confirmations)
        if positions.log.last_view != membership.view:
            positions.append_own(membership.view, EMPTY, b"")
        self._sync_target = positions.log.last_seqno
        """The empty entry that begins the view."""
        self._sync_write: PersistSeq | None = None
        """The write that remembers the synchronisation; None: not complete."""
        self.serves = False
        """Whether commands and reads are taken; false again only in another view."""
        self._append: Append | None = None
        """The last message with entries: backups that are at the same place get the very same one."""
        self._announced = positions.committed
        """The backups were told that entries up to here are committed."""
        self.announce_at: Instant | None = None
        """When the backups are told what is committed, unless an entry tells them before."""
        self._is_busy = False
        """Entries follow one another so fast that until the next heartbeat nothing else need tell."""
        self._ticks = 0

    @property
    def is_synchronised(self) -> bool:
        """Whether every member holds the log with which the view began."""
        return self._sync_write is not None and self._state.outbox.durable >= self._sync_write

    @property
    def opening(self) -> Viewstamp:
        """The empty entry that begins the view: who holds it holds everything before."""
        return Viewstamp(self._membership.view, Seqno(self._sync_target))

    def _may_serve(self) -> bool:
        return self._is_large_enough and self.is_synchronised

    @property
    def accepting(self) -> bool:
        """Whether another entry may be proposed."""
        positions, options = self._positions, self._state.options
        return (
            self.serves
            and positions.log.last_seqno - positions.committed < options.uncommitted_entries_max
            and positions.log.bytes_after(positions.committed) < options.uncommitted_bytes_max
        )

    def propose(self, data: bytes) -> None:
        """Order an entry."""
        assert self.accepting
        positions = self._positions
        positions.append_own(self._membership.view, COMMAND, data)
        last = positions.log.last_seqno
        all_told = not self.followers
        for follower in self.followers.values():
            self._pump(follower)
        for backup in self.backups.values():
            self._pump(backup)
            all_told &= backup.next is not None and backup.next > last
        if all_told:
            self._announced = positions.committed
        if self.announce_at is not None:
            self.announce_at, self._is_busy = None, True

    def query(self, token: ReadToken) -> None:
        """Take in a read; refuse it when too many wait."""
        self.reads.ask(token)

    def tick(self) -> None:
        """A heartbeat's time has passed: send again what may have been lost."""
        self._ticks += 1
        calm = self._announced == self._positions.committed and self._ticks % _CALM_TICKS > 0
        self._announced, self._is_busy = self._positions.committed, False
        for backup in self.fed():
            backup.unanswered += 1
            if backup.sender is not None and not backup.sender.has_arrived:
                backup.sender.rewind_if_stuck()
                self._pump(backup)
            elif backup.sender is not None:
                # It has arrived, and may be lost: a backup that has it acknowledges this.
                self._send_append(backup, (), self._place_of(backup))
            elif not calm or backup.matched < self._positions.log.last_seqno:
                self._send_append(backup, (), self._place_of(backup))
        self._confirmations.ask()

    def advance(self) -> None:
        """Commit what every member holds, and answer reads."""
        positions = self._positions
        if positions.committed < positions.log.durable_seqno or self._sync_write is None:
            self._count()
        if not self.serves:
            self.serves = self._confirmations.has_committed = self._may_serve()
        self.reads.proceed()

    def _count(self) -> None:
        positions = self._positions
        durable = positions.log.durable_seqno
        held = min([backup.matched for backup in self.backups.values()], default=durable)
        held = min(held, durable)
        # Entries of earlier views are committed with the first of this one: until all hold that, the view may
        # end unsynchronised, and the next primary lack them.
        if held >= self._sync_target and held > positions.committed:
            self._commit(held)
        if self._sync_write is None and held >= self._sync_target:
            # On disk before anything is served: after a restart it says that entries may be lost.
            self._views.mark_synchronised()
            self._sync_write = self._state.outbox.written

    def _commit(self, seqno: int) -> None:
        positions = self._positions
        assert self._sync_target <= seqno, (self._sync_target, seqno)
        positions.commit(seqno)
        if (self.backups or self.followers) and self.announce_at is None and not self._is_busy:
            self.announce_at = Instant(self._state.now + self._state.options.commit_announce_us)

    def announce(self) -> None:
        """Tell the backups what is committed, unless entries that went out meanwhile have told them."""
        self.announce_at = None
        if self._announced < self._positions.committed:
            self._announced = self._positions.committed
            for backup in self.fed():
                if backup.sender is None:
                    self._send_append(backup, (), self._place_of(backup))

    def fed(self) -> list[Progress]:
        """Return all that get entries: the backups, and those that are to be some."""
        return [*self.backups.values(), *self.followers.values()]

    def needed_after(self) -> int | None:
        """Return after which entry backups and followers that catch up need the log; None where none does."""
        return needed_after(self.fed(), self._positions.log.base_seqno, self._state.now)

    def _find(self, node: NodeId) -> Progress | None:
        return self.backups.get(node) or self.followers.get(node)

    def _pump(self, backup: Progress) -> None:
        options, log = self._state.options, self._positions.log
        if backup.sender is not None:
            self._pump_snapshot(backup, backup.sender)
            return
        last = log.last_seqno
        while (
            backup.next is not None
            and backup.next <= last
            and backup.unacknowledged_bytes < options.inflight_bytes_max
            and len(backup.unacknowledged) < options.inflight_messages_max
            and not self._held_back(backup)
        ):
            previous = backup.next - 1
            if previous < log.base_seqno:
                self._send_snapshot(backup, None)
                return
            # The message begins where the last one ended, answered or not: acknowledgements come later.
            records = log.records(
                backup.next, entries_max=options.message_entries_max, bytes_max=options.message_bytes_max
            )
            self._send_append(backup, tuple(records), previous)
            backup.sent(previous + len(records), sum(map(len, records)))

    def _pump_snapshot(self, backup: Progress, sender: SnapshotSender) -> None:
        options = self._state.options
        meta = sender.snapshot.meta
        while (
            chunk := sender.next_chunk(options.snapshot_chunk_bytes, options.snapshot_window_chunks)
        ) is not None:
            offset, data = chunk
            message = Chunk(
                group=self._state.group, view=self._membership.view, meta=meta, offset=offset, data=data
            )
            # Early: a snapshot is durable, and holds only what was committed.
            self._state.outbox.send_early(backup.node, message)

    def _send_append(self, backup: Progress, records: tuple[bytes, ...], previous: int) -> None:
        positions = self._positions
        message = Append(
            group=self._state.group,
            view=self._membership.view,
            previous=positions.log.viewstamp_at(previous),
            records=records,
            committed=Seqno(positions.committed),
        )
        if message == self._append:
            message = self._append  # it is encoded once
        self._append = message
        send: Callable[[NodeId, Any], None] = self._state.outbox.send
        if self.is_synchronised:
            # Early: an entry promises nothing until all hold it, this node included. See the rules.
            send = self._state.outbox.send_early
        send(backup.node, message)

    def _place_of(self, backup: Progress) -> int:
        log = self._positions.log
        if backup.next is None:
            return log.last_seqno
        return max(backup.next - 1, log.base_seqno)

    def _held_back(self, backup: Progress) -> bool:
        armed = self._state.armed(Point.FIRST_BACKUP_HAS_IT) and self.is_synchronised
        return armed and backup.node != next(iter(self.backups))

    # What backups say

    def on_position(self, source: NodeId, message: Position) -> None:
        """A backup says how its log looks: go on from where both agree, with a snapshot if it must be."""
        backup = self._find(source)
        marks = message.marks
        if backup is None or not marks or list(marks) != sorted(marks):
            self._state.drop("malformed position, or one of a node that is not a backup")
            return
        assert message.view == self._membership.view, (message.view, self._membership.view)
        backup.heard_at = now = self._state.now
        if backup.sender is None and backup.next is not None and now < backup.settled_at:
            # What was sent a moment ago is still in flight: sending it again would multiply it.
            return
        agreed = agreement(self._positions.log, marks)
        if agreed is not None and agreed.seqno >= max(marks[0].seqno, self._positions.log.base_seqno):
            backup.continue_from(agreed.seqno)
            backup.settled_at = Instant(now + self._state.options.heartbeat_us // 2)
            self._pump(backup)
        elif self._positions.snapshot is not None and marks[0].seqno < self._positions.log.base_seqno:
            self._send_snapshot(backup, message.staged)
        else:
            self._state.drop("position in a log that shares nothing with this one")

    def _send_snapshot(self, backup: Progress, staged: StagedPart | None) -> None:
        snapshot = self._positions.snapshot
        assert snapshot is not None
        sender = backup.sender
        # With nothing of it received, an older snapshot may be of no use to the backup.
        received = sender is not None and staged is not None and sender.describes(staged)
        # What had arrived and is gone could not be written: all of it is needed again.
        gone = sender is None or (staged is None and sender.has_arrived) or sender.snapshot is not snapshot
        if not received and (gone or staged is not None):
            fits = staged is not None and part_of(snapshot, staged)
            backup.send_snapshot(snapshot, staged.offset if staged is not None and fits else 0)
        self._pump(backup)

    def on_appended(self, source: NodeId, message: Appended) -> None:
        """A backup holds the log durably up to here."""
        backup = self._find(source)
        log = self._positions.log
        matched = message.matched
        # Before the base everything is committed: all members had it when that was decided.
        known = log.holds(matched) or 0 <= matched.seqno < log.base_seqno
        if backup is None or not known:
            self._state.drop("acknowledgement of an unknown entry, or from a node that is not a backup")
            return
        assert message.view == self._membership.view, (message.view, self._membership.view)
        assert matched.seqno <= log.last_seqno, (matched, log.last)
        backup.heard_at = self._state.now
        backup.unanswered = 0
        news = matched.seqno > backup.matched
        backup.acknowledged(matched.seqno)
        if backup.catches_up and backup.matched >= self._positions.committed:
            backup.catches_up = False
        if backup.sender is not None and backup.sender.is_covered_by(matched):
            backup.continue_from(matched.seqno)
        is_backup = source in self.backups
        if news and is_backup and self._state.failpoints is not None and self._is_first_to_hold(backup):
            self._state.reach(Point.FIRST_BACKUP_HAS_IT)
        self._pump(backup)

    def _is_first_to_hold(self, backup: Progress) -> bool:
        return backup.matched > self._sync_target and all(
            other is backup or other.matched < backup.matched for other in self.backups.values()
        )

    def on_chunk_received(self, source: NodeId, message: ChunkReceived) -> None:
        """A backup has more of a snapshot."""
        backup = self._find(source)
        if backup is None or backup.sender is None or not backup.sender.describes(message.staged):
            return
        backup.heard_at = self._state.now
        backup.unanswered = 0
        backup.sender.heard(message.staged.offset)
        self._pump(backup)

    def on_probed(self, source: NodeId, message: Probed) -> None:
        """A backup is still in this view."""
        self._confirmations.confirm(source, message.round)

    # Accounts

    def unheard(self) -> tuple[NodeId, ...]:
        """Return the backups that have been silent long enough to count as cut off."""
        limit = _REPORT_AFTER * self._state.options.heartbeat_misses_max
        late = (node for node, backup in self.backups.items() if backup.unanswered >= limit)
        return tuple(node for node in late if not self._views.heartbeats.is_busy(node))

    def waiting_for(self) -> str:
        """Say in one line why the view does not serve; empty where it does."""
        if self.serves:
            return ""
        if self.is_synchronised:
            least = self._state.members_min(self._membership)
            return f"more members: a view of fewer than {least} does not serve"
        late = [node for node, backup in self.backups.items() if backup.matched < self._sync_target]
        names = ", ".join(str(node) for node in sorted(late)) or "its own disk"
        return f"{names} to be synchronised with view {self._membership.view}"
