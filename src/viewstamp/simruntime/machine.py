"""A server node of the simulated world: `runtime.server.Server` on a machine with a disk, over its lives.

Rules of this file:

1. What runs is the server of production. The judge stands beside its core and its replica, and below its
   files; it changes nothing.
2. A process that fails ends as in production: at once, with what it had written still in the page cache.
3. A node that ends for another reason than its disk has found a bug.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from viewstamp.core.errors import ConfigurationError, JournalCorrupt, StorageError
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.protocol import Core, CoreSetup, ProtocolDefinition
from viewstamp.machine.state_digest import digest_of_pieces
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica import snapshot_body
from viewstamp.replica.events import ReplicaEffect, ReplicaEvent, Requested, Respond
from viewstamp.replica.replica import Replica
from viewstamp.runtime.config import ClusterConfig, NodeConfig
from viewstamp.runtime.server import Server
from viewstamp.runtime.watchdog import EXIT_STUCK
from viewstamp.sim.judge.judge import Judge
from viewstamp.sim.world.trace import Trace, trace_event
from viewstamp.simruntime.calls import Disk
from viewstamp.simruntime.host import Host
from viewstamp.simruntime.loop import SimLoop, make_loop
from viewstamp.simruntime.options import LoopOptions
from viewstamp.simruntime.process import SimProcess
from viewstamp.simruntime.sockets import Network
from viewstamp.simruntime.watch import DiskWatch

DATA_PATH = "/viewstamp-simulated/data"
"""Stands on the simulated disk. The files beside storage's, which are hints, do not exist in this world."""
_PARENT = "/viewstamp-simulated"


def address_of(node: int) -> str:
    """Return the host of a node: on the loopback, where a server needs no certificate."""
    return f"127.0.0.{node + 1}"


class Setup(msgspec.Struct, frozen=True):
    """What all nodes of a run share."""

    cluster: ClusterConfig
    definition: ProtocolDefinition
    machine: type[StateMachine]
    config: NodeConfig
    judge: Judge
    trace: Trace
    network: Network
    loop: LoopOptions
    state_check_every: int
    ended: Callable[["Machine", str], None]
    """Called when a process ended by itself: an operator may start it again."""
    failed: Callable[[BaseException], None]
    """Called with what must never happen: it is the verdict of the run."""


class Machine(Host):
    """One node."""

    def __init__(self, node: NodeId, setup: Setup, disk: Disk, rng: Any, *, drift_ppm: int) -> None:
        super().__init__(address_of(node), setup.network.world, rng, drift_ppm=drift_ppm)
        self.node = node
        self.setup = setup
        self.disk = disk
        self.watch = DiskWatch(node, disk.files, DATA_PATH, setup.judge)
        self.server: Server | None = None
        self.loop: SimLoop | None = None
        self.replica: Replica | None = None
        self._judged = False
        """Whether the judge knows of this life."""
        self._checked = 0
        disk.files.mkdir(_PARENT)
        disk.files.sync_directory("/")
        disk.on_crash = self.crash
        disk.synced = self._synced
        setup.network.hosts[self.name] = self

    # Start and end

    def start(self) -> None:
        """Begin a life of the process."""
        setup = self.setup
        self.begin()
        setup.trace.note(self.world.now_us, "start", self.node)
        self.loop = make_loop(self, setup.network, setup.loop, setup.failed)
        self.loop.create_task(self._main(self.life))

    def stop(self) -> None:
        """Let the process stop as by SIGTERM."""
        self.setup.trace.note(self.world.now_us, "stop", self.node)
        if self.server is not None and self.loop is not None and self.server.running:
            self.loop.create_task(self._stop(self.server, self.life))

    async def _stop(self, server: Server, life: int) -> None:
        try:
            await server.stop(hand_over=True)
        except (StorageError, OSError) as error:  # the last word could not be written
            self._storage_failed(life, error)
        if life == self.life:
            self.setup.trace.note(self.world.now_us, "stopped", self.node)
            self._over(power=False)
            self.setup.ended(self, "stopped")

    async def _main(self, life: int) -> None:
        setup = self.setup
        process = SimProcess(self, self.disk, self._exit)
        definition = msgspec.structs.replace(setup.definition, make_core=self._make_core)
        server = _WatchedServer(
            setup.cluster,
            self.node,
            setup.machine,
            setup.config,
            clock=self.read_clock,
            definition=definition,
            ends_when_stuck=True,
            process=process,
        )
        server.host = self
        self.server = server
        try:
            await server.start()
            await server.wait()
        except (ConfigurationError, StorageError, OSError) as error:
            self._storage_failed(life, error)
        except BaseException as error:
            if life == self.life:
                setup.failed(error)
            raise

    def _storage_failed(self, life: int, error: Exception) -> None:
        """The process ends by itself, as `serve_forever` lets it."""
        if life != self.life:
            return
        self.setup.trace.note(self.world.now_us, "failed", self.node, reason=str(error))
        refused = isinstance(error, ConfigurationError) and not isinstance(error.__cause__, OSError)
        if refused or isinstance(error, JournalCorrupt):
            self.setup.failed(
                InvariantViolated("I29 RecoverExact", f"node {self.node} refuses an undamaged disk: {error}")
            )
        self._over(power=False)
        self.setup.ended(self, str(error))

    def _exit(self, code: int) -> None:
        """The process ended itself with this code (a hanging disk)."""
        self.disk.counts[f"exit {code}"] += 1
        if code == EXIT_STUCK:
            self.setup.failed(InvariantViolated("I21 Stuck", f"node {self.node}: a command never ended"))
        self._over(power=False)
        self.setup.ended(self, f"exit code {code}")

    def crash(self, *, power: bool | None = None) -> None:
        """End at once, with or without a loss of power; None: draw."""
        if power is None:
            power = self.rng.random() < 0.5
        self.setup.trace.note(self.world.now_us, "crash", self.node, power=power)
        self._over(power=power)
        self.setup.ended(self, "crash")

    def _over(self, *, power: bool) -> None:
        self.powered = not power
        self.setup.network.process_ended(self)
        self.end()
        self.server = self.replica = None
        files = self.disk.files
        (files.crash if power else files.kill)()
        self.disk.crash_at = None
        self.powered = True
        self.watch.ended()
        if self._judged:
            self._judged = False
            self.setup.judge.crashed(self.node)

    # What the judge sees

    def _synced(self, folder: str) -> None:
        self.setup.judge.ghosts.now_us = self.world.now_us
        self.watch.synced(folder)

    def _make_core(self, core_setup: CoreSetup) -> Core:
        """Let the judge look at the core, from what its node has read on."""
        judge = self.setup.judge
        recovered = core_setup.recovered
        recovered = msgspec.structs.replace(recovered, writes=tuple(recovered.writes))
        if recovered.written > self.watch.durable:
            raise InvariantViolated(
                "I29 RecoverDurable",
                f"node {self.node} begins with write {recovered.written}, but only those up to "
                f"{self.watch.durable} are durable",
            )
        image = judge.ghosts.oracle.make_image()
        applied = 0
        for seq, records in recovered.writes:
            image.write(seq, records)
        if recovered.snapshot is not None:
            image.snapshot(recovered.snapshot.meta)
            applied = recovered.snapshot.meta.viewstamp.seqno
        judge.recovered(self.node, image, lost=False, applied=applied, written=recovered.written)
        self.watch.began()
        self._judged = True
        self._checked = 0
        made = self.setup.definition.make_core(msgspec.structs.replace(core_setup, recovered=recovered))
        return judge.watch(self.node, made)

    def step(self, replica: Replica, event: ReplicaEvent, now: Instant) -> list[ReplicaEffect]:
        """Let the replica take a step, under the eyes of the judge."""
        setup, judge = self.setup, self.setup.judge
        judge.ghosts.now_us = self.now_us()
        trace_event(setup.trace, judge.ghosts.oracle, self.now_us(), self.node, event)
        if type(event) is Requested:
            judge.requested(self.node, event.message)
        effects = Replica.step(replica, event, now)
        for effect in effects:
            if type(effect) is Respond:
                judge.responded(self.node, effect.message)
        judge.served(self.node, replica)
        seqno = replica.applied.seqno
        if seqno != self._checked and seqno % setup.state_check_every == 0:
            self._checked = seqno
            judge.state(self.node, replica.applied, self.state_digest(replica))
        return effects

    @staticmethod
    def state_digest(replica: Replica) -> int:
        """Return the hash of everything replicated."""
        return digest_of_pieces(snapshot_body.capture(replica.state))


class _WatchedServer(Server):
    """The server of production, of which the world knows the replica."""

    host: Machine

    def _make_replica(self, *arguments: Any) -> Replica:
        host, replica = self.host, super()._make_replica(*arguments)
        kind = type("WatchedReplica", (Replica,), {"__slots__": (), "step": _watched(host)})
        replica.__class__ = kind
        host.replica = replica
        return replica


def _watched(host: Machine) -> Callable[[Replica, ReplicaEvent, Instant], list[ReplicaEffect]]:
    def step(replica: Replica, event: ReplicaEvent, now: Instant) -> list[ReplicaEffect]:
        return host.step(replica, event, now)

    return step
