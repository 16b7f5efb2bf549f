"""Primary-backup, fenced, as a core: one step function over parts (docs/design/primary-backup.md).

This file branches, its parts act. It holds the rules about epochs that apply to every message, what a change
of role entails, and what follows from every step: applying, answering reads, naming the primary.
"""

from collections.abc import Sequence
from typing import Final, assert_never

from viewstamp.core.effects import Effect, LeaderChanged, Refuse, Release
from viewstamp.core.events import (
    Captured,
    ChangeMembers,
    Directed,
    Event,
    PeerDown,
    PeerUp,
    Persisted,
    Proposed,
    Queried,
    ReadToken,
    Received,
    Staged,
    TakeSnapshot,
    TransferLeadership,
    Woke,
)
from viewstamp.core.ids import Instant, NodeId, View
from viewstamp.core.outbox import Outbox
from viewstamp.core.protocol import CoreSetup, Status
from viewstamp.protocols.primary_backup import status
from viewstamp.protocols.primary_backup.admin import AdminRequests
from viewstamp.protocols.primary_backup.bootstrap import Bootstrap
from viewstamp.protocols.primary_backup.changes import SetChanges
from viewstamp.protocols.primary_backup.epoch import EpochCampaign, answer_fence
from viewstamp.protocols.primary_backup.follower import Follower, is_sound_append
from viewstamp.protocols.primary_backup.journal import SyncRecord, replay
from viewstamp.protocols.primary_backup.leader import Leader, OwnReads
from viewstamp.protocols.primary_backup.messages import (
    AppendEntries,
    AppendRejected,
    AppendResponse,
    Dismissed,
    Fence,
    FencedMessage,
    Introduce,
    Promote,
    PromoteResponse,
    Recognize,
    SnapshotAck,
    SnapshotChunk,
    StaleEpoch,
)
from viewstamp.protocols.primary_backup.options import PrimaryBackupOptions
from viewstamp.protocols.primary_backup.state import Role, State
from viewstamp.protocols.replication.compaction import Compaction, apply_committed
from viewstamp.protocols.replication.node_state import NEVER, in_range, leaps
from viewstamp.protocols.replication.read_rounds import ReadRounds
from viewstamp.protocols.replication.snapshot_transfer import SnapshotReceiver, SnapshotTokens

_WITHOUT_EPOCH: Final = (Introduce, Promote, PromoteResponse)


class PrimaryBackupCore:
    """One member; satisfies `core.protocol.Core`.

    Its effects keep what `DEFINITION.guarantees` says. `Apply` means that every synchronous member has the
    entry on disk; `Answer`, that the state now contains everything acknowledged before the read.
    """

    __slots__ = (
        "_leader_news",
        "admin",
        "bootstrap",
        "campaign",
        "changes",
        "compaction",
        "follower",
        "reads",
        "receiver",
        "replication",
        "state",
    )

    def __init__(self, setup: CoreSetup) -> None:
        """Begin where the journal ends.

        Raises:
            JournalCorrupt: the journal is not one of this protocol's, or something in it is missing.
        """
        options = setup.options
        assert isinstance(options, PrimaryBackupOptions), options
        outbox = Outbox(setup.recovered.written)
        self.state = state = State(setup, options, outbox)
        new_token = SnapshotTokens().new
        self.follower = Follower(state)
        self.receiver = SnapshotReceiver(state, self.follower, new_token)
        self.replication = Leader(state)
        self.compaction = Compaction(
            state, new_token, self.replication.needed_after, retry_after_us=options.silence_us
        )
        self.reads = ReadRounds[ReadToken](state, self.replication, OwnReads(outbox))
        self.campaign = EpochCampaign(state, self._lead)
        self.admin = AdminRequests(state, self.replication, self.campaign)
        self.changes = SetChanges(state, self.replication, self.admin)
        self.bootstrap = Bootstrap(state)
        self._recover(setup)
        self._leader_news: tuple[int, NodeId | None] = (state.epoch, None)
        """What the last `LeaderChanged` said."""
        self.bootstrap.begin()

    def _recover(self, setup: CoreSetup) -> None:
        state = self.state
        on_disk, log_gave_way = replay(setup.recovered)
        state.epoch, state.candidate, state.bootstrapped = (
            on_disk.epoch,
            on_disk.candidate,
            on_disk.rebuilt.bootstrapped,
        )
        state.seen_epoch, state.granted = on_disk.epoch, on_disk.granted
        state.record, state.log = on_disk.record, on_disk.log
        state.promise_write = state.record_write = setup.recovered.written
        state.snapshot = setup.recovered.snapshot
        state.applied = state.committed = state.snapshot_seqno
        if log_gave_way:
            write = state.write_base(state.log.base, kept=state.log.base_seqno)
            state.outbox.emit_durable(Release(write))
        if state.counts:
            state.resume_at = state.now

    @property
    def deadline(self) -> Instant | None:
        """The next moment at which it wants to be woken."""
        state = self.state
        if state.applied < state.committed:
            return state.now
        # One of the two is never due: who names a primary does not ask for an epoch.
        own = self._resume_at if state.leader is None else state.silence_at
        earliest = min(
            self.replication.heartbeat_at,
            own,
            self.bootstrap.introduce_at,
            self.campaign.ask_again_at,
            self.campaign.ends_at,
            self.admin.ask_again_at,
        )
        return earliest if earliest < NEVER else None

    @property
    def _resume_at(self) -> Instant:
        """When to ask for the next epoch, if the newest record known here names this node as the primary."""
        state = self.state
        if state.role is not Role.BACKUP or state.leader is not None or self.campaign.is_under_way:
            return NEVER
        is_mine = state.counts and state.record is not None and state.record.primary == state.node
        return state.resume_at if is_mine else NEVER

    @property
    def leader(self) -> NodeId | None:
        """The primary of the current epoch, while it is heard."""
        return self.state.leader

    @property
    def view(self) -> View:
        """The epoch that this node has promised."""
        return View(self.state.epoch)

    @property
    def accepting(self) -> bool:
        """Whether this node is primary and has room for another entry."""
        return self.state.role is Role.PRIMARY and self.replication.has_room

    def status(self, now: Instant) -> Status:
        """Return this node's own account of itself."""
        return status.of(self.state, self.replication, self.campaign, self.bootstrap, now)

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        """Take in one event and return what must be done, in order."""
        state = self.state
        assert now >= state.now, (now, state.now)
        state.now = now
        was_behind = state.applied < state.committed
        self._take_in(event)
        # What one step leaves over waits for the next wake. Messages that arrive meanwhile go first, or a
        # node with much to apply would answer nobody.
        if state.applied < state.committed and (not was_behind or isinstance(event, Woke)):
            self._apply()
        if self._leader_news != (state.epoch, state.leader):
            self._name_leader()
        return state.outbox.take()

    def _take_in(self, event: Event) -> None:  # noqa: C901, PLR0912  one case an event
        match event:
            case Received():
                self._receive(event.source, event.message)
            case Persisted():
                self._on_persisted(event.seq)
            case Proposed():
                assert self.accepting, "nothing is proposed to a core that is not accepting"
                self.replication.propose_command(event.data)
            case Woke():
                self._wake()
            case Queried():
                if self.state.role is Role.PRIMARY:
                    self.reads.ask(event.token)
                else:
                    self.state.outbox.emit(Refuse(event.token))
            case Captured():
                self.compaction.on_captured(event, self._matched_by_all())
            case Staged():
                self.receiver.on_staged(event.token, event.snapshot)
            case PeerUp():
                self._on_peer_up(event.peer)
            case PeerDown():
                self._on_peer_down(event.peer)
            case Directed():
                self._direct(event)
            case _:
                assert_never(event)

    # Events of this node.

    def _on_persisted(self, seq: int) -> None:
        state = self.state
        state.outbox.persisted(seq)  # type: ignore[arg-type]  # a PersistSeq
        state.log.persisted(seq)
        if state.role is Role.PRIMARY:
            self.replication.count()
            self._after_count()
        elif state.leader is not None:
            self.follower.on_persisted(state.leader)
        if state.role is Role.CANDIDATE:
            self.campaign.check()  # its own promise may have become durable
        elif self.bootstrap.is_first_primary and state.promise_write <= state.outbox.durable:
            self._become_first_primary()

    def _wake(self) -> None:
        state, now = self.state, self.state.now
        if now >= self.bootstrap.introduce_at:
            self.bootstrap.introduce()
        if now >= self.admin.ask_again_at:
            self.admin.ask_again()
        if now >= self.campaign.ends_at:
            self.campaign.time_out()
        elif now >= self.campaign.ask_again_at:
            self.campaign.ask_again()
        if now >= self.replication.heartbeat_at:
            self._tick()
        if now >= state.silence_at:
            state.leader = None  # clients look elsewhere; the epoch stays
            self.bootstrap.on_silence()
        if now >= self._resume_at:
            self.campaign.begin(None)

    def _tick(self) -> None:
        assert self.state.role is Role.PRIMARY, "only a primary sends heartbeats"
        if self.replication.has_lost_quorum():
            self._step_down()
            return
        self.replication.tick()
        self.changes.proceed()

    def _after_count(self) -> None:
        self.reads.proceed()
        if self.changes.is_due:
            self.changes.proceed()

    def _direct(self, event: Directed) -> None:
        directive = event.directive
        match directive:
            case TransferLeadership():
                self.admin.transfer(event.token, directive.to)
            case TakeSnapshot():
                self.compaction.direct(event.token)
            case ChangeMembers():
                self.changes.direct(event.token, directive)
            case _:
                assert_never(directive)

    def _on_peer_up(self, peer: NodeId) -> None:
        self.bootstrap.on_peer_up(peer)
        if self.state.role is Role.PRIMARY:
            self.replication.on_peer_up(peer)

    def _on_peer_down(self, peer: NodeId) -> None:
        state = self.state
        if state.role is Role.PRIMARY:
            self.replication.on_peer_down(peer)
        elif peer == state.leader:
            state.suspected, state.leader = True, None

    # Messages of other members.

    def _receive(self, source: NodeId, message: FencedMessage) -> None:  # noqa: C901, PLR0912  one case a kind
        """Drop messages of strangers, and those that need a log while there is none; hand the others on."""
        state = self.state
        if source == state.node or source < 0:
            state.drop("message of a stranger")
        elif not isinstance(message, _WITHOUT_EPOCH) and leaps(message.epoch, state.epoch):
            state.drop("epoch far beyond this node's")
        # The frequent ones first, and as tuples: to test a union of types is slower.
        elif isinstance(message, (AppendEntries, SnapshotChunk)):
            self._on_primary_says(source, message)
        elif isinstance(message, (AppendResponse, AppendRejected, SnapshotAck, StaleEpoch)):
            self._on_answer(source, message)
        elif isinstance(message, Introduce):
            self._on_introduce(source, message)
        elif isinstance(message, Recognize):
            self.bootstrap.on_recognize(message)
        elif isinstance(message, Dismissed):
            self.bootstrap.on_dismissed(message)
        elif not state.bootstrapped:
            state.drop("message before the bootstrap")
        elif isinstance(message, Promote):
            self.admin.on_promote(source, message)
        elif isinstance(message, PromoteResponse):
            self.admin.on_promote_response(source, message)
        elif not in_range(message.epoch):
            state.drop("numbers out of range")
        elif isinstance(message, Fence):
            self._on_fence(source, message)
        elif not in_range(message.asked):
            state.drop("numbers out of range")
        else:
            self.campaign.on_fence_response(source, message)

    def _on_introduce(self, source: NodeId, message: Introduce) -> None:
        state = self.state
        if not state.bootstrapped:
            self.bootstrap.on_introduce(source, message)
        elif not state.counts:
            # Its own record may be the one that lists the incarnation before the disk was wiped.
            state.drop("introduction while this node is not re-admitted")
        else:
            assert state.record is not None
            leads = state.role is Role.PRIMARY
            if leads and self.replication.dismiss(source, message.incarnation):
                return
            state.outbox.send(source, Recognize(epoch=state.epoch, record=state.record))
            if leads:
                self.replication.on_introduce(source, message.incarnation)

    def _on_fence(self, source: NodeId, fence: Fence) -> None:
        if not in_range(fence.epoch, fence.campaign):
            self.state.drop("numbers out of range")
        elif answer_fence(self.state, source, fence):
            self._step_down()
            self.campaign.give_way()

    def _on_primary_says(self, source: NodeId, message: AppendEntries | SnapshotChunk) -> None:
        """Follow the primary of this epoch or a later one; refuse the primary of an earlier one."""
        state = self.state
        if message.to != state.incarnation:
            state.drop("message for another incarnation")
            if message.epoch >= state.epoch:
                # Not only an old message: the primary of now may know this node by an introduction that was
                # late, and would never address this incarnation unless it introduces itself again.
                self.bootstrap.on_passed_over(source)
            return
        if not (is_sound_append(message) if isinstance(message, AppendEntries) else in_range(message.epoch)):
            state.drop("numbers out of range")
            return
        if not state.bootstrapped:
            # The primary knows this incarnation, so the cluster exists: keep what it sends.
            self.bootstrap.adopt()
        if message.epoch < state.epoch:
            state.reply(source, StaleEpoch(state.epoch))
            return
        if not self._obey(source, message.epoch):
            state.drop("second primary in one epoch")
            return
        self.bootstrap.passed_over = False  # the primary addressed this incarnation
        if isinstance(message, AppendEntries):
            self.follower.on_append(source, message)
        else:
            self.receiver.on_chunk(source, message, message.epoch)

    def _obey(self, source: NodeId, epoch: int) -> bool:
        """Follow `source` as the primary of `epoch`, unless that epoch has another one.

        This node may have granted the epoch to another candidate: a majority can still have chosen `source`.
        """
        state = self.state
        if epoch > state.epoch:
            state.enter(epoch, source, granted=False)
            self._step_down()
            self.campaign.give_way()
        elif state.primary not in {None, source}:
            return False
        elif state.role is Role.CANDIDATE:
            self._step_down()
            self.campaign.give_way()
        if state.leader != source:
            state.leader = source
            self.follower.begin()
        state.heard_leader_at, state.suspected = state.now, False
        return True

    def _on_answer(
        self, source: NodeId, message: AppendResponse | AppendRejected | SnapshotAck | StaleEpoch
    ) -> None:
        """Handle an answer to a primary, if this node is primary of this epoch."""
        state = self.state
        if not state.bootstrapped:
            state.drop("message before the bootstrap")
        elif not in_range(message.epoch):
            state.drop("numbers out of range")
        elif message.epoch > state.epoch:
            # The answer does not say whose epoch that is. So it is not entered: its primary will be heard.
            state.seen_epoch = max(state.seen_epoch, message.epoch)
            self._step_down()
        elif message.epoch < state.epoch:
            state.drop("answer of an earlier epoch")
        elif state.role is not Role.PRIMARY:
            state.drop("answer for a primary, which this node is no longer")
        elif isinstance(message, StaleEpoch):
            state.drop("refusal of an epoch that is not over")
        elif isinstance(message, AppendResponse):
            self._on_append_response(source, message)
        elif isinstance(message, AppendRejected):
            self._on_append_rejected(source, message)
        else:
            self.replication.sender.on_snapshot_ack(self.replication.progress.get(source), message)

    def _on_append_response(self, source: NodeId, answer: AppendResponse) -> None:
        numbers = (answer.matched_view, answer.matched_seqno, answer.round, answer.reached, answer.version)
        if not in_range(*numbers):
            self.state.drop("numbers out of range")
            return
        progress = self.replication.on_append_response(source, answer)
        if progress is not None:
            self._after_count()
            self.replication.sender.pump(progress)

    def _on_append_rejected(self, source: NodeId, answer: AppendRejected) -> None:
        if not in_range(answer.refused_seqno, answer.hint_view, answer.hint_seqno, answer.round):
            self.state.drop("numbers out of range")
        elif self.replication.on_append_rejected(source, answer):
            self.reads.proceed()

    # Changes of role.

    def _become_first_primary(self) -> None:
        """Lead epoch 1: every member is new, all have heard one another, and this one is the lowest."""
        state = self.state
        self.bootstrap.is_first_primary = False
        if (state.epoch, state.candidate) == (1, state.node):
            assert state.record is not None
            self._become_primary(state.record, is_first=True)

    def _lead(self, newest: SyncRecord) -> None:
        """Lead the epoch that a majority has granted: this node has everything."""
        self._become_primary(newest, is_first=False)

    def _become_primary(self, newest: SyncRecord, *, is_first: bool) -> None:
        self.state.become(Role.PRIMARY)
        self.replication.begin(newest, is_first=is_first)
        # The first primary may have been promoted before it led: a trial that went on would depose it.
        self.campaign.succeed()

    def _step_down(self) -> None:
        """Become a backup that knows of no primary, and refuse the reads that wait for this one."""
        state = self.state
        if state.role is Role.PRIMARY:
            self.reads.refuse_all()
            self.replication.step_down()
            self.changes.forget()
        self.follower.begin()
        state.become(Role.BACKUP)
        state.resume_later()

    def _name_leader(self) -> None:
        state = self.state
        self._leader_news = (state.epoch, state.leader)
        state.outbox.emit(LeaderChanged(View(state.epoch), state.leader))
        if state.leader is not None:
            self.admin.on_leader_changed()

    # What follows from a step.

    def _apply(self) -> None:
        """Hand out committed entries, `applies_per_step_max` at a time, and answer the reads that waited."""
        state = self.state
        apply_committed(state)
        if state.role is Role.PRIMARY:
            self.reads.proceed()
        if self.compaction.is_due():
            self.compaction.capture()

    def _matched_by_all(self) -> int:
        """Return up to where every member has the log, as far as a primary knows; 0 at other nodes."""
        if self.state.role is not Role.PRIMARY:
            return 0
        matched = [progress.matched for progress in self.replication.progress.values()]
        return min(matched, default=self.state.applied)
