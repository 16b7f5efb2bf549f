"""Viewstamped replication: one class, `step(event, now) -> effects`. See docs/reference/viewstamped.md.

What its effects imply: an `Apply` at the primary is an entry that every member of the view has on its
disk; at a backup it may come later. `Answer` means that no later view had acknowledged anything when the
read arrived.

The parts, from below as in lab 6: `paxos` agrees on one view, `views` decides which to propose and
`joining` how to get into one, `replication` with `primary` and `backup` orders commands in it, `transfer`
brings members up to date.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, assert_never

from viewstamp.core.effects import Effect, LeaderChanged, Removed, Settled
from viewstamp.core.events import (
    MEMBERS_FIXED,
    Captured,
    ChangeMembers,
    Directed,
    Directive,
    DirectiveToken,
    Event,
    PeerDown,
    PeerUp,
    Persisted,
    Proposed,
    Queried,
    Received,
    Staged,
    TakeSnapshot,
    TransferLeadership,
    Woke,
)
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq, View
from viewstamp.core.outbox import Outbox
from viewstamp.core.protocol import CoreSetup, Status
from viewstamp.protocols.replication.compaction import Compaction
from viewstamp.protocols.viewstamped import status
from viewstamp.protocols.viewstamped.changes import ViewChanges
from viewstamp.protocols.viewstamped.joining import Joining
from viewstamp.protocols.viewstamped.journal import replay_journal
from viewstamp.protocols.viewstamped.leadership_transfer import LeadershipTransfer
from viewstamp.protocols.viewstamped.log_positions import LogPositions
from viewstamp.protocols.viewstamped.membership import Member
from viewstamp.protocols.viewstamped.messages import (
    NO_GROUP,
    Accept,
    Accepted,
    Append,
    Appended,
    BootstrapQuery,
    Chunk,
    ChunkReceived,
    Grouped,
    Join,
    NotBootstrapped,
    Ping,
    Pong,
    Position,
    Prepare,
    Prepared,
    Probe,
    Probed,
    ReplicationMessage,
    ViewMessage,
    Views,
    WantViews,
)
from viewstamp.protocols.viewstamped.options import ViewstampedOptions
from viewstamp.protocols.viewstamped.proposer import Proposer
from viewstamp.protocols.viewstamped.role import Role
from viewstamp.protocols.viewstamped.state import Failpoints, Point, State
from viewstamp.protocols.viewstamped.views import DecidedViews


class ViewstampedCore:
    """A member, or a node that would become one. It satisfies `core.protocol.Core`."""

    __slots__ = (
        "_announced",
        "_at_start",
        "_compaction",
        "_entering_write",
        "_is_removed",
        "_joining",
        "_proposer",
        "_state",
        "_tick_at",
        "_transfer",
        "changes",
        "leader",
        "positions",
        "role",
        "views",
    )

    def __init__(self, setup: CoreSetup, failpoints: Failpoints | None = None) -> None:
        options = setup.options
        assert isinstance(options, ViewstampedOptions), options
        replay = replay_journal(setup.recovered)
        outbox = Outbox(setup.recovered.written)
        me = Member(setup.node, setup.incarnation)
        others = tuple(node for node in setup.members if node != setup.node)
        state = State(me, others, options, outbox, setup.rng, setup.now, failpoints, joining=setup.joining)
        self._state = state
        self.views = DecidedViews(state, replay)
        self.positions = LogPositions(state, self.views, replay.log, setup.recovered.snapshot)
        self._proposer = Proposer(state, self.views, self.positions)
        self.role = Role(state, self.views, self.positions)
        self._joining = Joining(state, self.views)
        self._transfer = LeadershipTransfer(state, self.views, self._proposer, self.role)
        self.changes = ViewChanges(
            state, self.views, self.positions, self._proposer, self.role, self._transfer
        )
        self._at_start = True
        """Whether no step was made yet: what the journal says of this node is to be told."""
        self._is_removed = False
        """Whether it was said that this incarnation is removed."""
        self._compaction = Compaction(
            self.positions,
            self.role.next_token,
            self.role.needed_after,
            retry_after_us=10 * options.heartbeat_us,
        )
        self._tick_at = setup.now
        self._entering_write: PersistSeq | None = None
        """The write with the newest decided view, while it is not durable; only for `Point.VIEW_ENTERED`."""
        self.leader: NodeId | None = None
        """The primary of the newest view that this node knows; if that is this node, only once it serves.

        A primary that restarts does not know whether its view is still the newest. None, too, while the
        connection to it is broken: clients that wait here hear of the next one first.
        """
        self._announced = View(0)
        """The view in which `leader` was last told by `LeaderChanged`."""
        self.role.enter_newest_view()
        self.leader = self._current_leader()

    @property
    def deadline(self) -> Instant | None:
        """The next moment at which it wants to be woken."""
        positions = self.positions
        if positions.applied < positions.committed:
            return self._state.now
        earliest = self._tick_at
        primary = self.role.primary
        if primary is not None and primary.announce_at is not None and primary.announce_at < earliest:
            earliest = primary.announce_at
        retry_at = self.views.proposal.retry_at
        if retry_at is not None and retry_at < earliest and self.views.is_member:
            earliest = retry_at
        return earliest

    @property
    def view(self) -> View:
        """The number of the newest view that this node knows."""
        return self.views.view

    @property
    def accepting(self) -> bool:
        """Whether `Proposed` may be fed now."""
        primary = self.role.primary
        return primary is not None and primary.accepting

    @property
    def node(self) -> NodeId:
        """This node."""
        return self._state.node

    @property
    def group(self) -> Incarnation:
        """The incarnation of the member of view 1, `NO_GROUP` while no view is known."""
        return self._state.group

    @property
    def counters(self) -> Counter[str]:
        """What was dropped and why."""
        return self._state.counters

    @property
    def outbox(self) -> Outbox:
        """What is written and what is durable; for the oracle."""
        return self._state.outbox

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        """Take in one event and return what must be done, in order. `now` never goes back."""
        state, role = self._state, self.role
        assert now >= state.now, (now, state.now)
        state.now = now
        view, was_behind = self.views.view, self.positions.applied < self.positions.committed
        self._take(event)
        if self.views.view != view:
            self._entering_write = state.outbox.written
        role.enter_newest_view()
        # What one step left over waits for the next wake, so that messages that come meanwhile go first.
        role.advance(may_apply=not was_behind or isinstance(event, Woke))
        self._announce_leader()
        self._follow_configuration(is_new=self.views.view != view)
        if self._compaction.is_due():
            self._compaction.capture()
        return state.outbox.take()

    def _follow_configuration(self, *, is_new: bool) -> None:
        """Say it once if this incarnation was removed; go on with a change of the members that is due."""
        if not is_new and not self._at_start:
            return
        self._at_start = False
        if self.role.primary is None:
            self.changes.forget()
        elif self.changes.is_due:
            self.changes.proceed()
        at = self.views.removed_at
        if at is not None and not self._is_removed:
            self._is_removed = True
            self._state.outbox.emit(Removed(at))

    def _take(self, event: Event) -> None:  # noqa: C901  one flat match names every event
        match event:
            case Received(source, message):
                self.views.heartbeats.broken.discard(source)
                self._receive(source, message)
            case Proposed(data):
                primary = self.role.primary
                assert primary is not None
                primary.propose(data)
            case Persisted(seq):
                self._persisted(seq)
            case Woke():
                self._woke()
            case Queried(token):
                self.role.query(token)
            case Captured():
                # A member that was removed may come back for the suffix: what all have now does not decide.
                self._compaction.on_captured(event, matched_by_all=0)
            case Staged(token, snapshot):
                self.role.staged(token, snapshot)
            case PeerDown(peer):
                self.views.heartbeats.suspect(peer)
                self._tick_at = min(self._tick_at, self._after(self._state.options.heartbeat_us // 2))
            case PeerUp(peer):
                self.views.heartbeats.broken.discard(peer)
            case Directed(token, directive):
                self._direct(token, directive)
            case _:
                assert_never(event)

    def _persisted(self, seq: PersistSeq) -> None:
        state = self._state
        if state.failpoints is not None and self.role.is_about_to_acknowledge:
            state.reach(Point.BACKUP_HAS_IT)
        if self._entering_write is not None and seq >= self._entering_write:
            self._entering_write = None
            if self.views.is_member:
                state.reach(Point.VIEW_ENTERED)
        state.outbox.persisted(seq)
        self.positions.log.persisted(seq)
        self._proposer.persisted()

    def _woke(self) -> None:
        now = self._state.now
        primary = self.role.primary
        if primary is not None and primary.announce_at is not None and primary.announce_at <= now:
            primary.announce()
        if self._tick_at <= now:
            self._tick_at = self._after(self._state.options.heartbeat_us)
            self._joining.tick()
            self.views.tick(() if primary is None else primary.unheard())
            self._proposer.pursue()
            self.role.tick()
            self._transfer.settle(self.leader)
            self.changes.proceed()
        elif self.views.proposal.retry_at is not None and self.views.proposal.retry_at <= now:
            self._proposer.pursue()

    def _after(self, duration_us: int) -> Instant:
        return Instant(self._state.now + duration_us)

    def _on_ping(self, source: NodeId, message: Ping) -> None:
        self.views.on_ping(source, message)
        if message.unheard:
            self._proposer.pursue()
        self._skip_tick_after(source, message)

    def _skip_tick_after(self, source: NodeId, ping: Ping) -> None:
        """Let the ping of the lowest member stand for a tick, where this one has nothing else to do in it."""
        current = self.views.current
        lowest_hears = ping.heard and current is not None and source == current.lowest
        is_calm = self.views.proposal.phase == "idle" and not self._transfer.is_under_way
        if lowest_hears and is_calm and self.views.is_member and self.role.is_up_to_date_backup:
            self.views.heartbeats.forget_heard()
            self._tick_at = self._after(3 * self._state.options.heartbeat_us // 2)

    def _announce_leader(self) -> None:
        view, leader = self.views.view, self._current_leader()
        if leader != self.leader or view != self._announced:
            self.leader, self._announced = leader, view
            self._state.outbox.emit(LeaderChanged(view, leader))
            self._transfer.settle(self.leader)

    def _current_leader(self) -> NodeId | None:
        current, primary = self.views.current, self.role.primary
        if current is None:
            return None
        if current.primary != self._state.node:
            return None if current.primary in self.views.heartbeats.broken else current.primary
        return current.primary if primary is not None and primary.serves else None

    # Messages

    def _receive(self, source: NodeId, message: Any) -> None:
        match message:
            case Append() | Appended() | Probe() | Probed() | Position() | Chunk() | ChunkReceived():
                if self._is_of_group(source, message):
                    self._receive_in_view(source, message)
            case BootstrapQuery():
                self._joining.on_bootstrap_query(source, message)
            case NotBootstrapped():
                self._joining.on_not_bootstrapped(source, message)
            case Views() if self._state.group in {NO_GROUP, message.group}:
                self.views.on_views(source, message)
                self._joining.on_answer(source)
            case Join() if message.group == NO_GROUP:
                self._proposer.on_join(source, message)
            case _:
                if self._is_of_group(source, message):
                    self._receive_grouped(source, message)

    def _is_of_group(self, source: NodeId, message: Grouped) -> bool:
        group = self._state.group
        if message.group == group != NO_GROUP:
            return True
        if group == NO_GROUP:
            self._joining.on_called(source)
        self._state.drop("message of another group")
        return False

    def _receive_grouped(self, source: NodeId, message: ViewMessage) -> None:
        match message:
            case Ping():
                self._on_ping(source, message)
            case Pong():
                self.views.on_pong(source, message)
            case Prepare():
                self._proposer.on_prepare(source, message)
            case Prepared():
                self._proposer.on_prepared(source, message)
            case Accept():
                self._proposer.on_accept(source, message)
            case Accepted():
                self._proposer.on_accepted(source, message)
            case Views():
                self._state.drop("message of another group")
            case WantViews():
                self.views.on_want_views(source, message)
            case Join():
                self._proposer.on_join(source, message)
            case _:
                assert_never(message)

    def _receive_in_view(self, source: NodeId, message: ReplicationMessage) -> None:
        if message.view == self.views.view:
            self.role.receive(source, message)
        elif message.view > self.views.view or isinstance(message, Append | Position | Probe | Chunk):
            # One of us is behind. An old answer is dropped: its sender learns the new view from pings.
            self.views.compare_views(source, message.view)

    # Operators

    def _direct(self, token: DirectiveToken, directive: Directive) -> None:
        match directive:
            case TakeSnapshot():
                self._compaction.direct(token)
            case TransferLeadership(to):
                self._transfer.direct(token, to, self.leader)
            case ChangeMembers():
                self._change_members(token, directive)
            case _:
                assert_never(directive)

    def _change_members(self, token: DirectiveToken, change: ChangeMembers) -> None:
        if self._state.options.bootstrap == "together":
            self.changes.direct(token, change)
        else:  # as in the course: nodes join by asking
            self._state.outbox.emit(Settled(token, MEMBERS_FIXED))

    # Accounts

    def status(self, now: Instant) -> Status:
        """Return this node's own account of itself."""
        waiting = status.waiting_for(self._joining, self._proposer, self.role)
        dropped = tuple(sorted(self.counters.items()))
        return status.of(self._state, self.leader, self.role, self.positions, waiting, now, dropped)
