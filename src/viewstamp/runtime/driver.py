"""The driver of one replica: four rules, and nothing else (docs/design/seam.md).

1. Feed events one at a time. 2. Carry out the effects of a step now, `Persist`s in order. 3. After the sync
feed `Persisted`. 4. Feed `Woke` when `now >= deadline`.

A *turn* is what happens once for all events of one round of the loop: wake the replica if it is due, write to
every connection, sync the journal, tell the replica, write again. The first write comes before the sync, so
that followers work while the leader's own disk does; what the sync makes true is only said after it, by the
outbox.

Failures: whatever a peer or client sends can at most close its connection. Whatever the replica or the disk
does wrong ends the node at once, and nothing is acknowledged after it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias, assert_never, cast

import msgspec

from viewstamp.core.effects import Persist, Release, Send, Stage
from viewstamp.core.errors import Diverged, EntryNotExecutable, NodeRemoved, ProtocolViolation
from viewstamp.core.events import Directive, PeerDown, PeerUp, Persisted, TakeSnapshot, Woke
from viewstamp.core.ids import ClientAddress, Instant, NodeId, PersistSeq, Viewstamp
from viewstamp.core.messages import (
    UNREADABLE,
    AdminReply,
    AdminRequest,
    StatusReply,
    decode_client_message,
    encode_message,
)
from viewstamp.core.principals import LOCAL_OPERATOR
from viewstamp.core.protocol import ProtocolDefinition, Status
from viewstamp.replica.directives import OWN_ADDRESS
from viewstamp.replica.divergence import peer_event, peer_message_type
from viewstamp.replica.events import (
    Announced,
    ClientGone,
    Denied,
    Halt,
    Moved,
    Notice,
    ReplicaEvent,
    Requested,
    Respond,
    Save,
    SpaceChanged,
)
from viewstamp.replica.replica import Replica
from viewstamp.runtime.bounded_log import BoundedLog
from viewstamp.runtime.config import NodeConfig
from viewstamp.runtime.inbox import Outlet
from viewstamp.runtime.metrics import Metrics
from viewstamp.runtime.process import OWN_PROCESS, Process
from viewstamp.runtime.snapshotting import Snapshotter
from viewstamp.runtime.space import SpaceWatch
from viewstamp.runtime.state_hashing import RuntimeHasher
from viewstamp.runtime.syncing import Syncer
from viewstamp.runtime.system import Clock, utc_now
from viewstamp.runtime.turns import SHARE_US, TURN_US, Turns
from viewstamp.storage.directory import DataDirectory

LOG: Final = logging.getLogger("viewstamp.runtime")
_WOKE: Final = Woke()
_AT_ONCE: Final = Instant(0)
MEASURED_EVERY: Final = 16
"""Of this many steps one is measured: two looks at the clock cost as much as a small step."""
SLICE_CALLS_MAX: Final = 1_024
"""Queries that one step evaluates, however quick they are."""


RareEffect: TypeAlias = Release | Save | Stage | Halt | Notice | Denied | Moved
_ENDS: Final = {"diverged": Diverged, "not executable": EntryNotExecutable, "removed": NodeRemoved}
"""Why a replica halts, as the exception that ends the node."""
"""What `Driver._step` does not carry out itself."""


class Driver:
    """Runs one replica on the running loop. An `Inbox` of the transport."""

    _has_time = True
    """False: it is about to stop, and deadlines no longer pass."""

    def __init__(
        self,
        replica: Replica,
        definition: ProtocolDefinition,
        directory: DataDirectory,
        config: NodeConfig,
        *,
        node: NodeId,
        clock: Clock,
        metrics: Metrics,
        failed: Callable[[BaseException], None],
        process: Process = OWN_PROCESS,
    ) -> None:
        self._replica = replica
        self._journal = directory.journal
        self._node = node
        self._clock = clock
        self.metrics = metrics
        self._on_failure = failed
        self._decode_peer = msgspec.msgpack.Decoder(peer_message_type(definition.message_type)).decode
        self._encode_peer = msgspec.msgpack.Encoder().encode
        self._outlet: Outlet | None = None
        self._step_replica = replica.step
        self._loop = asyncio.get_running_loop()
        self._disk = process.executor(f"viewstamp-sync-{node}")
        self._background = process.executor(f"viewstamp-snapshot-{node}")
        self._syncer = self._make_syncer(config)
        self.space = SpaceWatch(node, config)
        self._snapshotter = Snapshotter(
            directory.snapshots,
            placement=config.snapshot_placement,
            inline_bytes_max=config.snapshot_inline_bytes_max,
            executor=self._background,
            metrics=metrics,
            feed=self.feed,
            failed=self.fail,
            fork=process.fork,
        )
        self._stepping = False
        """Whether a step is under way: effects must never lead back into the replica."""
        self._stopped = False
        self._began = Instant(0)
        """When a turn last began to take in messages of clients that the one before had no time for."""
        self._time_us = TURN_US
        """How long a turn takes in messages of clients: less for those that waited."""
        self._turns = Turns(self._loop, clock, self._work)
        self._led: object = self
        """The replica's `leader_news` when the leader was last logged."""
        self._last_sent: Any = None
        """The last message to a member: a broadcast is encoded once, as `_last_payload`."""
        self._last_payload = b""
        self._queued_at: Instant | None = None
        """When the replica first had messages of clients that could not be proposed; None: it has none."""
        self._applied = replica.applied
        """What was executed when a turn last ended."""
        self._answers = 0
        """Messages to clients since the start."""
        self._log = BoundedLog(LOG, clock)
        self._directives: dict[int, asyncio.Future[str | None]] = {}
        self._last_directive = 0

    def _make_syncer(self, config: NodeConfig) -> Syncer:
        return Syncer(
            self._journal,
            placement=config.sync_placement,
            inline_us_max=config.sync_inline_us_max,
            executor=self._disk,
            clock=self._clock,
            metrics=self.metrics,
            finished=self._persisted,
            failed=self.fail,
        )

    @property
    def sync_running(self) -> object:
        """What stands for the sync that runs now, or None; read by another thread."""
        return self._syncer.running

    def start(self, outlet: Outlet) -> None:
        """Begin to run: from now on frames may come and deadlines pass."""
        self._outlet = outlet
        self._turns.plan()
        self.space.start(self._on_space)

    def send_by(self, outlet: Outlet) -> None:
        """Send by this from now on: for tests, which lose or delay messages."""
        self._outlet = outlet

    def slow_disk(self, delay_s: float) -> None:
        """Let each sync take this much longer from now on: for tests."""
        self._syncer.delay_s = delay_s

    async def last_snapshot(self) -> str | None:
        """Let time stand still for the replica, and take a snapshot of all that it has executed.

        Without time it starts no election and gives up on nobody, however long the snapshot takes. Returns
        why there is none, or None.
        """
        self._has_time = False
        for _ in range(2):  # one that was under way already holds less; where none is needed, this is free
            refusal = await self.direct(TakeSnapshot())
            if refusal is not None:
                return refusal
        return None

    def attach(self, hasher: RuntimeHasher) -> None:
        """Let what hashes the replica's states work beside the loop, and feed what it finds."""
        hasher.start(self._background, self.feed)

    async def stop(self) -> None:
        """Feed nothing more, give up a snapshot that is being encoded, and wait for the threads."""
        self._stopped = True
        self.space.stop()
        self._snapshotter.abandon()
        self._turns.stop()
        for waiting in self._directives.values():
            waiting.cancel()
        for executor in (self._disk, self._background):
            await self._loop.run_in_executor(None, executor.shutdown)

    def fail(self, error: BaseException) -> None:
        """End this node: nothing is fed, sent or acknowledged after this. The process must follow."""
        if not self._stopped:
            self._stopped = True
            self._turns.stop()
            self._on_failure(error)

    def status(self) -> Status:
        """Return the replica's account of itself, and what the process measures."""
        return self._with_figures(self._replica.status(self._clock()))

    def _with_figures(self, status: Status) -> Status:
        metrics, space = self.metrics, self.space
        figures = (
            ("wall_us", int(utc_now().timestamp() * 1e6)),
            ("sync_us", metrics.sync_us // max(1, metrics.syncs)),
            ("disk_free_bytes", space.free_bytes or 0),
            ("disk_is_low", int(space.told)),
        )
        return msgspec.structs.replace(status, figures=figures)

    def tally(self) -> None:
        """Bring the counters up to date that are kept elsewhere."""
        self.metrics.commands_refused = self._replica.refused
        self.metrics.disk_free_bytes = self.space.free_bytes or 0
        self.metrics.disk_is_low = int(self.space.told)

    def usage(self) -> Iterator[tuple[str, int, int]]:
        """Yield the replica's budgets: (what, how much is used, how much at most)."""
        return self._replica.queues()

    async def direct(self, directive: Directive) -> str | None:
        """Give the replica a directive of this node's own; return its refusal, or None: done."""
        self._last_directive += 1
        request = self._last_directive
        waiting: asyncio.Future[str | None] = self._loop.create_future()
        self._directives[request] = waiting
        message = AdminRequest(request, directive)
        self.feed(Requested(OWN_ADDRESS, message, encode_message(message), LOCAL_OPERATOR))
        try:
            return await waiting
        finally:
            del self._directives[request]

    # The inbox of the transport

    def peer_frame(self, source: NodeId, payload: bytes) -> None:
        """Feed a message of a member; `ProtocolViolation` where it is none."""
        try:
            message = self._decode_peer(payload)
        except UNREADABLE as error:
            raise ProtocolViolation(f"node {source} sent a message that cannot be read: {error}") from error
        before = self._answers
        self.feed(peer_event(source, message))
        if self._answers == before + 1:
            # One client alone waits: the next member's message would take longer than this write. Where
            # many are answered together, the end of the turn is soon enough, and clients gather better.
            self._flush()

    def has_time(self) -> bool:
        """Return whether this turn may take in another message of a client, which can take any time."""
        turns = self._turns
        return not turns.planned or self._clock() - max(turns.now, self._began) <= self._time_us

    def work_waits(self) -> None:
        """Let there be a turn."""
        if not self._turns.planned:
            self._turns.plan()

    def client_frame(self, source: ClientAddress, payload: bytes, principal: str) -> None:
        """Feed a message of a client; `ProtocolViolation` where it is none."""
        self.feed(Requested(source, decode_client_message(payload), payload, principal))

    def peer_changed(self, peer: NodeId, is_up: bool) -> None:  # noqa: FBT001  as in Inbox
        """Feed that the connection to a member stands or is gone."""
        self.feed(PeerUp(peer) if is_up else PeerDown(peer))

    def peer_announced(self, said: Announced) -> None:
        """Pass on what a member said of its code."""
        self._replica.hear(said)

    def client_gone(self, source: ClientAddress) -> None:
        """Feed that a client's connection is closed."""
        self.feed(ClientGone(source))

    # The four rules

    def feed(self, event: ReplicaEvent) -> None:
        """Feed one event, carry out its effects, and plan a turn for what it led to."""
        if not self._stopped:
            if not self._turns.planned:
                self._turns.plan()
            self._step(event)

    def _step(self, event: ReplicaEvent) -> None:
        assert not self._stepping, "an effect led back into the replica"
        self._stepping = True
        self.metrics.events += 1
        measured = self._begin_measure() if not self.metrics.events % MEASURED_EVERY else None
        try:
            for effect in self._step_replica(event, self._turns.now):
                # Nearly all effects are these; they come first, because a `match` of classes costs more.
                if type(effect) is Respond:
                    self._respond(effect.to, effect.message)
                elif type(effect) is Send:
                    self._send(effect.to, effect.message)
                elif type(effect) is Persist:
                    self._journal.append(effect.seq, effect.records)
                else:
                    self._carry_out(cast("RareEffect", effect))
        except BaseException as error:  # whatever it is, this node must not go on from half a step
            self.fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._stepping = False
        if measured is not None and self._replica.applied is not measured[0]:
            self.metrics.apply_time.observe(self._clock() - measured[1])

    def _begin_measure(self) -> tuple[Viewstamp, Instant]:
        return self._replica.applied, self._clock()

    def _carry_out(self, effect: RareEffect) -> None:
        match effect:
            case Release(before):
                self._journal.release(before)
            case Save():
                self._snapshotter.save(effect)
            case Stage():
                self._snapshotter.stage(effect)
            case Moved(move):
                assert self._outlet is not None
                self._outlet.move(move.node, (move.host, move.port))
            case Denied(count, text):
                self.metrics.calls_denied += count
                self._log.write(logging.WARNING, "denied", text, once=text)
            case Notice(text):
                self.metrics.notices += 1
                LOG.error("node %d: %s", self._node, text)
            case Halt(reason, cause):
                raise _ENDS[cause](reason)
            case _:
                assert_never(effect)

    def _send(self, to: NodeId, message: Any) -> None:
        if message is not self._last_sent:
            self._last_sent, self._last_payload = message, self._encode_peer(message)
        assert self._outlet is not None, "the driver was not started"
        self._outlet.send(to, self._last_payload)

    def _respond(self, to: ClientAddress, message: Any) -> None:
        assert self._outlet is not None
        self._answers += 1
        if type(message) is StatusReply:
            message = StatusReply(message.request, self._with_figures(message.status))
        if to != OWN_ADDRESS:
            self._outlet.respond(to, encode_message(message))
        elif isinstance(message, AdminReply):
            waiting = self._directives.get(message.request)
            if waiting is not None and not waiting.done():
                waiting.set_result(message.refusal)

    def _on_space(self, is_low: bool) -> None:  # noqa: FBT001  the only word of an event
        self.feed(SpaceChanged(is_low))

    def _persisted(self, seq: PersistSeq) -> None:
        self.feed(Persisted(seq))

    def _work(self) -> Instant | None:
        """Do once for all events of this round what they asked for (`turns.Turns`)."""
        if self._stopped:
            return None
        self.metrics.turns += 1
        self.metrics.stalls = self._turns.stalls
        deadline = self._deadline()
        if deadline is not None and deadline <= self._turns.now:
            self._wake()
        if self._replica.reads.ready and self._has_time:
            self._evaluate()
        work_waits = False
        if self._outlet is not None and self._outlet.waiting:
            # Members and deadlines came first; now the clients whose messages the last turn had no time for.
            self._began = self._clock()
            # A write of another client takes several turns: what waits has a share of each.
            self._time_us = SHARE_US
            work_waits = self._outlet.serve_waiting()
            self._time_us = TURN_US
        self._flush()
        if self._journal.durable < self._journal.written:
            self._sync()
        if self._replica.leader_news is not self._led:
            self._log_leader()
        if self._replica.applied is not self._applied:
            self._note_commits()
        return _AT_ONCE if work_waits else self._deadline()

    def _wake(self) -> None:
        """Wake the replica; measure how long the oldest message waited, if all that waited was proposed."""
        metrics, replica = self.metrics, self._replica
        metrics.wakes += 1
        if self._queued_at is None and replica.has_waiting:
            self._queued_at = self._turns.now
        self._step(_WOKE)
        if self._queued_at is not None and not replica.has_waiting:
            metrics.queue_time.observe(self._clock() - self._queued_at)
            self._queued_at = None

    def _note_commits(self) -> None:
        """Measure how long the entry took that was executed last, where this node proposed it."""
        self._applied = self._replica.applied
        took_us = self._replica.commit_took_us(self._clock())
        if took_us is not None:
            self.metrics.commit_time.observe(took_us)

    def _deadline(self) -> Instant | None:
        return self._replica.deadline if self._has_time else None

    def _evaluate(self) -> None:
        """Go on with the queries that were too many for one step, until this turn has lasted long enough.

        A query of the user's class may take any time, and the replica has no clock: how many make a slice is
        adapted here, so that a slice takes a part of its share.
        """
        reads, clock = self._replica.reads, self._clock
        began = now = clock()
        while reads.ready and now - began < SHARE_US and not self._stopped:
            before, waiting = now, len(reads)
            self._step(_WOKE)
            now = clock()
            if len(reads) == waiting:
                return  # the replica withholds its answers for now
            if now - before > SHARE_US // 3:
                reads.slice_calls = max(1, reads.slice_calls // 2)
            elif now - before < SHARE_US // 12:
                reads.slice_calls = min(SLICE_CALLS_MAX, 2 * reads.slice_calls)

    def _sync(self) -> None:
        if self._stopped:
            return
        try:
            durable = self._syncer.sync()
        except Exception as error:  # noqa: BLE001  a disk that failed, or an invariant
            self.fail(error)
            return
        if durable is not None:
            self._step(Persisted(durable))
            self._flush()

    def _flush(self) -> None:
        outlet = self._outlet
        if outlet is not None and outlet.dirty and not self._stopped:
            outlet.flush()

    def _log_leader(self) -> None:
        self._led = self._replica.leader_news
        self.metrics.leader_changes += 1
        view, leader = self._replica.view, self._replica.leader
        leading = "no leader is known" if leader is None else f"node {leader} leads"
        LOG.info("node %d: view %d, %s", self._node, view, leading)
