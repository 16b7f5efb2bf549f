"""One simulated server process: the production driver's four rules in virtual time, over a simulated disk.

A *life* runs from a start to the next crash. Everything scheduled for a life carries its number, and is
ignored once that life is over. What is not on the disk when it ends is gone.

Rules of this file:

1. The replica is fed one event at a time; while the process is paused events wait in its inbox.
2. Effects are carried out within the step, except what a disk or a network takes time for.
3. One sync is in flight; what is appended meanwhile waits for the next (group commit).
4. The judge hears of a write when it is durable, before anything that the replica says because of it.
"""

from collections import Counter, deque
from random import Random
from typing import Any, Final

import msgspec

from viewstamp.core.effects import Persist, Release, Send, Stage
from viewstamp.core.errors import ConfigurationError, JournalCorrupt, StorageError
from viewstamp.core.events import Captured, Persisted, Staged, Woke
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.protocol import Recovered
from viewstamp.machine.state_digest import digest_of_pieces
from viewstamp.replica import events, snapshot_body
from viewstamp.replica.events import Denied, Halt, Moved, Notice, ReplicaEffect, ReplicaEvent, Respond, Save
from viewstamp.replica.replica import Replica
from viewstamp.replica.setup import ReplicaSetup
from viewstamp.sim.judge.whole_snapshots import check_whole
from viewstamp.sim.world.content import SECTOR_BYTES, DiskFaults
from viewstamp.sim.world.options import DiskOptions, ProcessOptions
from viewstamp.sim.world.process_environment import ProcessSetup, guard_of, make_disk
from viewstamp.sim.world.trace import trace_event
from viewstamp.sim.world.world import NodeClock
from viewstamp.storage.directory import JOURNAL_NAME, DataDirectory, open_data_directory
from viewstamp.storage.journal import SyncJob
from viewstamp.storage.snapshots import SnapshotNotSaved

DATA_PATH: Final = "/data"
CLUSTER_ID: Final = "simulated"
_WOKE: Final = Woke()
_TURN_US: Final = 2_000
_NO_FAULTS: Final = frozenset({"content_untouched", "content_kept", "names_kept"})


class Process:
    """A server of the cluster, with its disk and its clock. Made down; `start` brings it up."""

    def __init__(self, node: NodeId, setup: ProcessSetup, disk: DiskOptions) -> None:
        self.node = node
        self.setup = setup
        self.world = setup.world
        self._oracle = setup.judge.ghosts.oracle
        self.disk_options = disk
        self.life = 0
        """Number of the present or last life; grows at each start and each crash."""
        self.running = False
        self.removed = False
        """Whether its disk is that of a removed member."""
        self.joins = node not in setup.members
        """Whether it waits to be added where its disk is empty: a removed member begins no second cluster."""
        self.damaged = False
        """Whether its disk refuses to be opened. Only wiping it helps."""
        self.incarnation: Incarnation | None = None
        """Of the data directory that it last opened; None: it was wiped since, or there never was one."""
        self.replica: Replica | None = None
        self.directory: DataDirectory | None = None
        rng = setup.tree.stream("node", node)
        drift = setup.process_options.drift_max_ppm
        self.clock = NodeClock(start_us=rng.randrange(10**9), drift_ppm=rng.randint(-drift, drift))
        self.files = make_disk(self.setup, self.node, self.life, self.disk_options)
        self._old_effects: Counter[str] = Counter()
        """Of disks that were wiped."""
        self._effects: Counter[str] = Counter()
        """Of this process: what was slow or out of order."""
        self._rng: Random = rng
        self._process_options = setup.process_options
        self._wiped = False
        """Whether the disk was emptied since the last start."""
        self._paused_until_us = 0
        self._inbox: deque[ReplicaEvent] = deque()
        self._armed_at_us: int | None = None
        self._job: SyncJob | None = None
        self._unsynced: deque[tuple[PersistSeq, tuple[bytes, ...]]] = deque()
        """Appended, not durable yet."""
        self._completions = 0
        """Numbers what the disk was asked for in this life."""
        self._completed = 0
        """The highest number that was answered."""
        self._checked = 0
        """Seqno at which the state was last compared."""

    # Start and end

    def start(self) -> bool:
        """Recover from the disk and run. False: the disk is damaged, and the process refused to start."""
        assert not self.running
        self.life += 1
        try:
            directory = open_data_directory(
                self.files,
                DATA_PATH,
                cluster_id=CLUSTER_ID,
                node=self.node,
                incarnation=Incarnation(self._rng.getrandbits(63)),
                segment_bytes=self.setup.segment_bytes,
            )
            recovered = msgspec.structs.replace(directory.recovered, writes=tuple(directory.recovered.writes))
        except (JournalCorrupt, ConfigurationError) as error:
            self._refuse(str(error))
            return False
        except StorageError as error:
            self.files.crash()
            self.setup.environment.died(self.node, str(error))
            return False
        self.directory = directory
        self.incarnation = directory.identity.incarnation
        self._note("start", writes=recovered.written, incarnation=directory.identity.incarnation)
        self._tell_judge(recovered)
        self._make_replica(directory, recovered)
        return True

    def crash(self, *, power: bool = True) -> None:
        """End at once. In a power failure what was not synced may vanish, tear or stay; else it stays."""
        assert self.running
        self._note("crash", power=power)
        self._end()
        (self.files.crash if power else self.files.kill)()

    def wipe(self) -> None:
        """Empty the disk of a process that is down."""
        assert not self.running
        self._note("wipe")
        self._old_effects.update(self.files.effects)
        self.files = make_disk(self.setup, self.node, self.life, self.disk_options)
        self.incarnation = None
        self._wiped = True
        self.damaged = self.removed = False

    def rot(self) -> bool:
        """Flip a bit on the disk of a process that is down. False: there is nothing on it."""
        assert not self.running
        damage = self.files.rot(DATA_PATH)
        if damage is not None:
            self._note("bit rot", path=damage.path, offset=damage.offset)
        return damage is not None

    def displace(self, sectors: int) -> None:
        """Let the next write of the journal land this many sectors away, which damages the disk."""
        self._note("misdirected write to come", sectors=sectors)
        self.files.displace_next_bytes = sectors * SECTOR_BYTES
        self.files.displace_under = f"{DATA_PATH}/{JOURNAL_NAME}"

    def fault_counts(self) -> dict[str, int]:
        """Return how often each fault of its disks took effect, and how often it was late."""
        counts = self._old_effects + self.files.effects
        of_disks = {f"disk {name}": count for name, count in counts.items() if name not in _NO_FAULTS}
        return of_disks | self._effects

    def pause(self, length_us: int) -> None:
        """Stop running for a while, as by SIGSTOP."""
        until = self.world.now_us + length_us
        self._note("pause", length_us=length_us)
        self._paused_until_us = max(self._paused_until_us, until)
        self.world.at(until, self._resume, self.life)

    def steady(self) -> None:
        """From now on keep exact time, wake on time, and use a disk without faults."""
        self.clock.steady(self.world.now_us)
        self._process_options = ProcessOptions()
        self._paused_until_us = self.world.now_us
        self.disk_options = DiskOptions()
        self.files.faults = DiskFaults()
        self.files.displace_next_bytes = 0
        if self.running:
            self._resume(self.life)

    # Events from the world

    def feed(self, event: ReplicaEvent) -> None:
        """Deliver an event to the process; one that is down ignores it."""
        if not self.running:
            return
        if self._inbox or self._paused_until_us > self.world.now_us:
            self._inbox.append(event)
            return
        life, chance = self.life, self._process_options.spurious_wake
        self._run(event)
        if chance and life == self.life and self._rng.random() < chance:
            self._effects["spurious wake"] += 1
            self._run(_WOKE)

    @property
    def now(self) -> Instant:
        """The time on its clock."""
        return self.clock.local(self.world.now_us)

    def state_digest(self) -> int:
        """Return the hash of everything replicated: the machine, the sessions, the log's time."""
        assert self.replica is not None
        return digest_of_pieces(snapshot_body.capture(self.replica.state))

    # Within a life

    def _make_replica(self, directory: DataDirectory, recovered: Recovered) -> None:
        setup = self.setup
        self.running = True
        self.replica = Replica(
            ReplicaSetup(
                node=self.node,
                members=tuple(sorted({*setup.members, self.node})),
                joining=self.joins,
                incarnation=directory.identity.incarnation,
                definition=setup.definition,
                protocol_options=setup.protocol_options,
                options=setup.replica_options,
                machine=setup.machine,
                rng=setup.tree.stream("node", self.node, "core", self.life),
                recovered=recovered,
                now=self.now,
                strict=True,
                grants=setup.grants,
                guard=guard_of(setup.machine),
            )
        )
        self._checked = 0
        self._arm()

    def _tell_judge(self, recovered: Recovered) -> None:
        image = self.setup.judge.ghosts.oracle.make_image()
        applied = 0
        for seq, records in recovered.writes:
            image.write(seq, records)
        if recovered.snapshot is not None:
            image.snapshot(recovered.snapshot.meta)
            applied = recovered.snapshot.meta.viewstamp.seqno
        self.setup.judge.recovered(
            self.node, image, lost=self._wiped, applied=applied, written=recovered.written
        )
        self._wiped = False

    def _refuse(self, reason: str) -> None:
        self._note("refused to start", reason=reason)
        if not self.files.rotten:
            raise InvariantViolated(
                "I29 RecoverExact", f"node {self.node} refuses an undamaged disk: {reason}"
            )
        self.damaged = True

    def _end(self) -> None:
        self.life += 1
        self.running = False
        self.replica = None
        self.directory = None
        self._inbox.clear()
        self._unsynced.clear()
        self._armed_at_us = self._job = None
        self._completed = self._completions
        self._paused_until_us = 0
        self.setup.judge.crashed(self.node)

    def _fail(self, error: StorageError) -> None:
        """The disk failed: a process that cannot promise durability ends (docs/faults.md#rule-2)."""
        self._note("storage failed", reason=str(error))
        self._end()
        self.files.crash()
        self.setup.environment.died(self.node, str(error))

    def _resume(self, life: int) -> None:
        if life != self.life or self._paused_until_us > self.world.now_us:
            return
        inbox = self._inbox
        if inbox and self._rng.random() < 0.5:
            # Sockets are not read in the order of arrival: here those of clients come first.
            inbox = self._inbox = deque(sorted(inbox, key=events.is_of_client, reverse=True))
        for _ in range(self._rng.randint(1, max(1, len(inbox)))):
            if not inbox or not self.running:
                break
            self._run(inbox.popleft())
        if self._inbox:
            self.world.after(self._rng.randrange(_TURN_US), self._resume, life)
        if self.running:
            self._arm()

    def _run(self, event: ReplicaEvent) -> None:
        replica = self.replica
        assert replica is not None
        world = self.world
        self.setup.judge.ghosts.now_us = world.now_us
        trace_event(self.setup.trace, self._oracle, world.now_us, self.node, event)
        effects = replica.step(event, self.clock.local(world.now_us))
        if effects and not self._carry_out(effects):
            return
        self.setup.judge.served(self.node, replica, event)
        seqno = replica.applied.seqno
        if seqno != self._checked and seqno % self.setup.state_check_every == 0:
            self._checked = seqno
            self.setup.judge.state(self.node, replica.applied, self.state_digest())
        self._arm()

    def _carry_out(self, effects: list[ReplicaEffect]) -> bool:
        """Do what a step asks for. False: the process ended because of it."""
        directory, environment = self.directory, self.setup.environment
        assert directory is not None
        appended = False
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                environment.send(self.node, effect.to, effect.message)  # type: ignore[union-attr, arg-type]
            elif kind is Persist:
                directory.journal.append(effect.seq, effect.records)  # type: ignore[union-attr]
                self._unsynced.append((effect.seq, effect.records))  # type: ignore[union-attr]
                appended = True
            elif kind is Respond:
                self._respond(effect)  # type: ignore[arg-type]
            else:
                self._carry_out_rare(effect)
                if not self.running:
                    return False
        return not appended or self._begin_sync()

    def _respond(self, effect: Respond) -> None:
        self.setup.judge.responded(self.node, effect.message)
        self.setup.environment.respond(self.node, effect.to, effect.message)

    def _carry_out_rare(self, effect: ReplicaEffect) -> None:
        assert self.directory is not None
        match effect:
            case Release():
                self.directory.journal.release(effect.before)
            case Save():
                self._save(effect)
            case Stage():
                self._stage(effect)
            case Denied() | Moved():
                pass  # its client was told; the judge looks at what was executed
            case Halt(cause="removed"):
                self.removed = self.joins = True
                self._end()
                self.files.kill()
                self.setup.environment.removed(self.node)
            case Halt() if self.files.rotten:
                self._fail(StorageError(effect.reason))
            case Notice(reason, about="versions"):
                self._note("versions", reason=reason)
            case Halt(reason) | Notice(reason):
                raise InvariantViolated("I28 BackupPrefix", f"node {self.node}: {reason}")
            case _:
                raise AssertionError(f"an unknown effect: {effect!r}")

    # Disk

    def _begin_sync(self) -> bool:
        """Start the next sync unless one is in flight. False: the disk failed."""
        directory = self.directory
        assert directory is not None
        if self._job is not None:
            return True
        job = directory.journal.begin_sync()
        if job is None:
            return True
        self._job = job
        try:
            job.write()
        except StorageError as error:
            self._fail(error)
            return False
        delay = 0 if self.disk_options.inline_sync else self._sync_delay()
        self._completions += 1
        self.world.after(delay, self._synced, self.life, job, self._completions)
        return True

    def _sync_delay(self) -> int:
        options = self.disk_options
        if options.stall_rate and self._rng.random() < options.stall_rate:
            self._effects["disk slow"] += 1
            return self._rng.randrange(options.stall_max_us)
        return options.sync_min_us + int(self._rng.expovariate(1.0 / options.sync_mean_us))

    def _snapshot_done(self, event: Captured | Staged) -> None:
        """Schedule the disk's answer about a snapshot; a sync requested later may overtake it."""
        delay, options = self._sync_delay(), self.disk_options
        if options.slow_snapshots and self._rng.random() < options.slow_snapshots:
            self._effects["disk slow snapshot"] += 1
            delay += self._rng.randrange(options.stall_max_us)
        self._completions += 1
        self.world.after(delay, self._later, self.life, event, self._completions)

    def _complete(self, number: int) -> None:
        """Count an answer of the disk that others, asked for later, have overtaken."""
        if number < self._completed:
            self._effects["disk completions reordered"] += 1
        else:
            self._completed = number

    def _synced(self, life: int, job: SyncJob, number: int) -> None:
        if life != self.life:
            return
        self._complete(number)
        assert self.directory is not None
        try:
            job.flush()
            durable = self.directory.journal.finish_sync(job)
        except StorageError as error:
            self._fail(error)
            return
        self._job = None
        judge = self.setup.judge
        judge.ghosts.now_us = self.world.now_us
        judge.wrote(self.node, self._take_synced(durable))
        self.feed(Persisted(durable))
        if self.running and life == self.life:
            self._begin_sync()

    def _take_synced(self, durable: PersistSeq) -> list[tuple[PersistSeq, tuple[bytes, ...]]]:
        taken = []
        while self._unsynced and self._unsynced[0][0] <= durable:
            taken.append(self._unsynced.popleft())
        return taken

    def _save(self, effect: Save) -> None:
        assert self.directory is not None
        assert self.replica is not None
        at, body = effect.viewstamp, b"".join(effect.parts)
        check_whole(self.node, self.replica.state, effect, body)
        try:
            snapshot = self.directory.snapshots.save(at, effect.header, (body,), effect.versions)
        except SnapshotNotSaved:
            self._snapshot_done(Captured(effect.token, None))
            return
        except StorageError as error:
            self._fail(error)
            return
        self._note("snapshot", at=str(effect.viewstamp), size_bytes=len(body))
        self.setup.judge.saved(self.node, snapshot.meta)
        self._snapshot_done(Captured(effect.token, snapshot))

    def _stage(self, effect: Stage) -> None:
        assert self.directory is not None
        staged: Staged | None
        try:
            staged = self.directory.snapshots.stage(effect.token, effect.meta, effect.offset, effect.data)
        except SnapshotNotSaved:
            staged = Staged(effect.token, None)
        except StorageError as error:
            self._fail(error)
            return
        if staged is not None:
            if staged.snapshot is not None:
                self.setup.judge.saved(self.node, staged.snapshot.meta)
            self._snapshot_done(staged)

    def _later(self, life: int, event: ReplicaEvent, number: int) -> None:
        if life == self.life:
            self._complete(number)
            self.feed(event)

    # Time

    def _arm(self) -> None:
        """Schedule a wake for when its deadline has passed."""
        assert self.replica is not None
        deadline = self.replica.deadline
        if deadline is None:
            return
        now = self.world.now_us
        at = self.clock.true(deadline)
        if at <= now:
            at = now + self._turn()
        armed = self._armed_at_us
        if armed is None or at < armed:
            self._armed_at_us = at
            self.world.at(at, self._wake, self.life, at)

    def _turn(self) -> int:
        """Return how late the loop handles a deadline that has passed."""
        process_options, rng = self._process_options, self._rng
        if process_options.late_wake and rng.random() < process_options.late_wake:
            self._effects["late wake"] += 1
            return rng.randrange(process_options.late_wake_max_us)
        return rng.randrange(process_options.turn_max_us) if process_options.turn_max_us else 0

    def _wake(self, life: int, armed_at_us: int) -> None:
        if life != self.life or armed_at_us != self._armed_at_us:
            return
        self._armed_at_us = None
        if self._paused_until_us > self.world.now_us:
            return  # resuming arms again
        assert self.replica is not None
        deadline = self.replica.deadline
        if deadline is not None and deadline <= self.now:
            self._run(_WOKE)
        else:
            self._arm()

    def _note(self, kind: str, **fields: Any) -> None:
        self.setup.trace.note(self.world.now_us, kind, self.node, **fields)
