"""A server: one replica on its data directory and its port, from start to stop.

SIGTERM hands leadership over, if this node leads, leaves a snapshot of all that was executed here, so that
the next start, perhaps with changed code, executes none of it again, and exits with 0. SIGINT, or a second
signal, stops at once. SIGHUP loads certificates and grants again. A failed disk or a broken invariant ends
the process with a code that says which: see `exit_code`.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from random import Random
from typing import Final, NoReturn, TypeAlias

from viewstamp.core.errors import ConfigurationError, Diverged, EntryNotExecutable, NodeRemoved, StorageError
from viewstamp.core.events import Directive
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.protocol import ProtocolDefinition, Status
from viewstamp.link.handshake import Welcome
from viewstamp.machine.guard import Guard
from viewstamp.machine.state_machine import StateMachine
from viewstamp.protocols.registry import protocol_definition
from viewstamp.replica.replica import Replica
from viewstamp.replica.setup import ReplicaSetup
from viewstamp.runtime import stopping
from viewstamp.runtime.address_book import AddressBook
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.client import ask
from viewstamp.runtime.client_base import make_asker
from viewstamp.runtime.config import ClusterConfig, NodeConfig
from viewstamp.runtime.differences import served_class, service_of
from viewstamp.runtime.disturbed import Disturbed
from viewstamp.runtime.driver import Driver
from viewstamp.runtime.member_watch import changed_at, members_of
from viewstamp.runtime.metrics import Metrics
from viewstamp.runtime.paranoid import paranoid
from viewstamp.runtime.process import OWN_PROCESS, Process
from viewstamp.runtime.removal import refuse_removed, remember_removal
from viewstamp.runtime.security import OPEN, Security, server_security
from viewstamp.runtime.state_hashing import RuntimeHasher
from viewstamp.runtime.system import (
    Clock,
    fresh_number,
    fresh_rng,
    loop_factory,
    monotonic_us,
    raise_descriptor_limit,
)
from viewstamp.runtime.transport import Transport
from viewstamp.runtime.watching import Watching
from viewstamp.storage.directory import DataDirectory, open_data_directory
from viewstamp.storage.memory import MemoryMedium, open_memory_directory

LOG: Final = logging.getLogger("viewstamp.runtime")

EXIT_OK: Final = 0
EXIT_DIVERGED: Final = 65
"""This replica's state differs from the leader's (EX_DATAERR)."""
EXIT_REMOVED: Final = 67
"""This node was removed from its cluster (EX_NOUSER)."""
EXIT_NOT_EXECUTABLE: Final = 69
"""A committed entry cannot be executed here (EX_UNAVAILABLE)."""
EXIT_INVARIANT: Final = 70
"""An invariant of this program's own does not hold (EX_SOFTWARE)."""
EXIT_STORAGE: Final = 74
"""The disk failed (EX_IOERR)."""
EXIT_CONFIGURATION: Final = 78
"""Nothing was started (EX_CONFIG)."""

_DESCRIPTORS_BESIDES_CLIENTS: Final = 512


class Server:
    """One node of a cluster on the running loop."""

    reread: Callable[[], ClusterConfig] | None = None
    """Returns what the cluster file says now, or raises `ConfigurationError`; None: there is no file."""

    security: Security = OPEN

    def __init__(
        self,
        cluster: ClusterConfig,
        node: NodeId,
        machine: type[StateMachine],
        config: NodeConfig | None = None,
        *,
        medium: MemoryMedium | None = None,
        listen: Address | socket.socket | None = None,
        clock: Clock = monotonic_us,
        definition: ProtocolDefinition | None = None,
        accept_class: bool = False,
        joining: bool = False,
        ends_when_stuck: bool = False,
        guard: Guard | None = None,
        process: Process = OWN_PROCESS,
    ) -> None:
        """Prepare a server; nothing is opened before `start`.

        `medium` keeps a node in memory over restarts, where `config.data` is None; `listen` overrides the
        address in the configurations; `definition` the protocol that the configuration names, with one that
        speaks and writes the same: for programs that look into a core. With `accept_class` the data
        directory may have been written with another class; with `joining` the node waits to be added; with
        `ends_when_stuck` this process ends where a command or query runs longer than `command_limit_ms`, else
        it is only named in the log. A `guard` watches the machine for forbidden calls, in tests; `process` is
        where it runs, unless that is this one.

        Raises:
            ConfigurationError: the node is not a member, an option does not fit, or Python runs without
            assertions.
        """
        check_assertions()
        cluster.check()
        if node not in cluster.addresses:
            known = ", ".join(map(str, cluster.node_ids))
            raise ConfigurationError(f"node {node} is not a member of {cluster.cluster_id!r}: it has {known}")
        self.cluster = cluster
        self.node = node
        self.machine = machine
        self.config = config or NodeConfig()
        self.metrics = Metrics()
        self._medium = medium or MemoryMedium()
        self._listen = listen or self._listen_address()
        known_as = definition or protocol_definition(cluster.protocol)
        self._definition = paranoid(known_as) if self.config.paranoid else known_as
        self._clock = clock
        self._accept_class = accept_class
        self._ends_when_stuck = ends_when_stuck
        self._guard = guard
        self._joining = joining
        self._process = process
        self._watching: Watching | None = None
        self._directory: DataDirectory | None = None
        self._driver: Driver | None = None
        self._transport: Transport | None = None
        self._failure: BaseException | None = None
        self.draining = False
        """Whether it is about to stop: clients should go elsewhere."""
        self._over = asyncio.Event()
        """Set when the server has stopped or failed."""

    @property
    def failure(self) -> BaseException | None:
        """Why it stopped by itself; None where it did not."""
        return self._failure

    @property
    def running(self) -> bool:
        """Whether it serves."""
        return self._driver is not None and not self._over.is_set()

    async def start(self) -> None:
        """Recover what the data directory holds, listen, and take part in the cluster.

        Raises:
            ConfigurationError: the directory or the port cannot be used.
            JournalCorrupt: the directory does not hold what was written to it.
            StorageError: the disk failed.
        """
        security = server_security(self.cluster, self.node, self.config, self._listen_address())
        refuse_removed(self.config.data)
        self._directory = directory = await asyncio.to_thread(self._open_directory)
        try:
            await self._start(directory, security)
        except BaseException:
            if self._driver is not None:
                driver, self._driver = self._driver, None
                await driver.stop()
            directory.close()
            raise

    async def _start(self, directory: DataDirectory, security: Security) -> None:
        definition = self._definition
        rng = fresh_rng()
        hasher = self._make_hasher()
        replica = self._make_replica(directory, rng, hasher)
        served = await asyncio.to_thread(served_class, self.machine)
        replica.fingerprint = served.fingerprint
        self._read_addresses(replica)
        await asyncio.to_thread(directory.confirm_service)  # the class could read what is there
        self._driver = driver = Driver(
            replica,
            definition,
            directory,
            self.config,
            node=self.node,
            clock=self._clock,
            metrics=self.metrics,
            failed=self._fail,
            process=self._process,
        )
        driver.attach(hasher)
        self._transport = Transport(
            self.cluster,
            self.node,
            self.config,
            incarnation=directory.identity.incarnation,
            write_routing=definition.write_routing,
            dials_on_demand=definition.dials == "on_demand",
            clock=self._clock,
            rng=rng,
            metrics=self.metrics,
            inbox=driver,
            guests=self._guests(driver),
            book=self._book,
            security=security,
            machine=served,
        )
        self.security = security
        driver.start(self._transport)
        await self._transport.start(self._listen)
        self._start_watching(driver, replica, self._transport)
        LOG.info("node %d of cluster %s serves", self.node, self.cluster.cluster_id)

    def _start_watching(self, driver: Driver, replica: Replica, transport: Transport) -> None:
        """Look after what may hang, and after who the members are."""
        self._watching = Watching(
            self.node,
            self.config,
            self.cluster,
            driver,
            replica,
            transport,
            book=self._book,
            security=self.security,
            ask=self._ask,
            process=self._process,
            ends_when_stuck=self._ends_when_stuck,
            disk_exit_code=EXIT_STORAGE,
        )
        self._watching.start()

    def disturb(self, cut: Iterable[NodeId] = (), delay_s: float = 0.0, disk_s: float = 0.0) -> None:
        """For tests: send nothing to these members, to the others late, and sync slowly; none: as always."""
        assert self._driver is not None and self._transport is not None  # noqa: PT018
        is_calm = not cut and not delay_s
        self._driver.slow_disk(disk_s)
        self._driver.send_by(self._transport if is_calm else Disturbed(self._transport, cut, delay_s))

    async def stop(self, *, hand_over: bool = False) -> None:
        """Stop serving. May be repeated.

        With `hand_over` let another member lead first, if this one does, and leave a snapshot of what was
        executed here.
        """
        driver, transport = self._driver, self._transport
        if driver is not None and transport is not None:
            self.draining = True
            if hand_over and self.running:
                await stopping.hand_over(driver, self.config, self.node)
            if hand_over and self.running:  # another call may have stopped it meanwhile
                await stopping.leave_snapshot(driver, transport, self.config, self.node)
        await self._stop()

    async def _stop(self) -> None:
        if self._driver is None or self._transport is None or self._directory is None:
            return  # it was not started, or another call has stopped it
        driver, self._driver = self._driver, None
        if self._watching is not None:
            await self._watching.stop()
        await driver.stop()
        await self._transport.stop()
        self._over.set()
        self._directory.close()

    def reload(self) -> None:
        """Load certificates, grants and keys of tokens again now; the log says whether they are in use."""
        if self._watching is not None:
            self._watching.rotation.look(force=True)
            self._watching.policy.reload(self.reread)

    async def kill(self) -> None:
        """Stop without a word to anybody, as if the process had ended: what was not synced is lost."""
        if self._driver is not None and self._transport is not None:
            self._transport.halt(abort=True)
            await self.stop()

    async def wait(self) -> None:
        """Return when the server has stopped; raise why, if it failed."""
        await self._over.wait()
        if self._failure is not None:
            raise self._failure

    def status(self) -> Status:
        """Return this node's account of itself."""
        assert self._driver is not None, "the server was not started"
        return self._driver.status()

    def silence(self, *, silenced: bool) -> None:
        """For tests: pull every cable of this node, or plug them in again. Connections stay as they are."""
        assert self._transport is not None, "the server was not started"
        self._transport.silenced = silenced

    def counters(self) -> dict[str, int]:
        """Return what happened here since the start, as numbers by name (`metrics.Metrics`)."""
        if self._transport is not None:
            self._transport.tally()
        if self._driver is not None:
            self._driver.tally()
        return self.metrics.snapshot()

    def budgets(self) -> dict[str, tuple[int, int]]:
        """Return each budget of this node by name: how much of it is used, and how much there is."""
        assert self._driver is not None, "the server was not started"
        assert self._transport is not None
        usage = (*self._transport.usage(), *self._driver.usage())
        return {what: (used, limit) for what, used, limit in usage}

    async def direct(self, directive: Directive) -> str | None:
        """Carry out an admin request here; return why it was refused, or None."""
        assert self._driver is not None, "the server was not started"
        return await self._driver.direct(directive)

    def _open_directory(self) -> DataDirectory:
        incarnation = Incarnation(fresh_number())
        name, node = self.cluster.cluster_id, self.node
        if self.config.data is None:
            return open_memory_directory(self._medium, cluster_id=name, node=node, incarnation=incarnation)
        return open_data_directory(
            self._process.files,
            self.config.data,
            cluster_id=name,
            node=node,
            incarnation=incarnation,
            segment_bytes=self.config.segment_bytes,
            service=service_of(self.cluster.protocol, self.machine),
            accept_class=self._accept_class,
        )

    def _make_hasher(self) -> RuntimeHasher:
        return RuntimeHasher(
            self.cluster.replica_options.check_interval,
            placement=self.config.snapshot_placement,
            inline_bytes_max=self.config.snapshot_inline_bytes_max,
            clock=self._clock,
            fork=self._process.fork,
        )

    def _make_replica(self, directory: DataDirectory, rng: Random, hasher: RuntimeHasher) -> Replica:
        return Replica(
            ReplicaSetup(
                node=self.node,
                members=self.cluster.node_ids,
                joining=self._joining,
                incarnation=directory.identity.incarnation,
                definition=self._definition,
                protocol_options=self.cluster.protocol_options,
                options=self.cluster.replica_options,
                machine=self.machine,
                rng=rng,
                recovered=directory.recovered,
                now=self._clock(),
                guard=self._guard,
                hasher=hasher,
                grants=self.cluster.grants,
            )
        )

    def _read_addresses(self, replica: Replica) -> None:
        self._book = AddressBook(self.cluster, self.node, self.config.data)
        if (why := self._book.contradiction(replica.status(self._clock()).membership)) is not None:
            raise ConfigurationError(why)

    def _guests(self, driver: Driver) -> Callable[[], Iterable[NodeId]] | None:
        """Return what names the nodes that take part now; None: those of the cluster file do."""
        if self.cluster.open_host is not None:
            return lambda: driver.status().members
        if not self._definition.guarantees.changes_members:
            return None
        if self._joining:  # until the log tells it, this node goes by the members that it asked
            return lambda: members_of(driver.status()) or driver.status().members
        return lambda: members_of(driver.status())

    async def _ask(self, address: Address) -> Welcome | str:
        secure = self.security.dial(self.cluster.cluster_id, None)
        return await ask(address, make_asker(fresh_rng()), self._clock, secure)

    def _listen_address(self) -> Address:
        host, port = self.cluster.addresses[self.node]
        return self.config.listen_host or host, port

    def _fail(self, error: BaseException) -> None:
        """Stop at once. What has not been written to a connection never will be."""
        self._failure = error
        remember_removal(self.config.data, error)
        reason = " ".join(str(error).split()) or type(error).__name__
        is_bug = exit_code(error) == EXIT_INVARIANT and not isinstance(error, InvariantViolated)
        detail = error if is_bug else None  # an invariant says in its one line what does not hold
        LOG.critical("node %d stops, nothing acknowledged is lost: %s", self.node, reason, exc_info=detail)
        if self._transport is not None:
            if (gone := isinstance(error, NodeRemoved)) and self._driver is not None:  # its last word
                last = self._driver.status()
                self._transport.members_are(members_of(last) - {self.node}, changed_at(last))
            self._transport.halt(abort=not gone)
        self._over.set()


def exit_code(error: BaseException | None) -> int:
    """Return the code with which a process ends that stopped for this reason."""
    if error is None:
        return EXIT_OK
    if isinstance(error, ConfigurationError):
        return EXIT_CONFIGURATION
    if isinstance(error, StorageError | OSError):
        return EXIT_STORAGE
    if isinstance(error, NodeRemoved):
        return EXIT_REMOVED
    if isinstance(error, EntryNotExecutable):
        return EXIT_NOT_EXECUTABLE
    return EXIT_DIVERGED if isinstance(error, Diverged) else EXIT_INVARIANT


def check_assertions(*, enabled: bool = __debug__) -> None:
    """Raise `ConfigurationError` where Python was told to drop assertions."""
    if not enabled:
        raise ConfigurationError("python -O drops the checks that keep data safe: start without -O")


Beside: TypeAlias = Callable[[Server], AbstractAsyncContextManager[None]]
"""What else runs on the loop of a server, for as long as the block lasts that it returns."""


def serve_forever(
    cluster: ClusterConfig,
    node: NodeId,
    machine: type[StateMachine],
    config: NodeConfig,
    *,
    started: Callable[[Server], None] | None = None,
    beside: Beside | None = None,
    accept_class: bool = False,
    joining: bool = False,
) -> int:
    """Run a server as this process's only task until a signal; return the exit code.

    `started` is called once it listens, and what `beside` returns is entered before that, and left when the
    server has stopped. After a failure the process ends here, without further clean-up.

    Raises:
        ConfigurationError, JournalCorrupt, StorageError: it could not start.
    """
    check_assertions()
    connections_max = config.clients_max + config.operators_max + config.strangers_max
    raise_descriptor_limit(connections_max + _DESCRIPTORS_BESIDES_CLIENTS)
    with asyncio.Runner(loop_factory=loop_factory(config.loop)) as runner:
        server = Server(
            cluster,
            node,
            machine,
            config,
            accept_class=accept_class,
            joining=joining,
            ends_when_stuck=True,
        )
        return runner.run(_serve_beside(server, started, beside))


async def _serve_beside(
    server: Server, started: Callable[[Server], None] | None, beside: Beside | None
) -> int:
    await server.start()
    async with nullcontext() if beside is None else beside(server):
        return await _serve(server, started)


async def _serve(server: Server, started: Callable[[Server], None] | None) -> int:
    stop = asyncio.Event()
    now = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if number == signal.SIGINT or stop.is_set():
            now.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, server.reload)
    if started is not None:
        started(server)
    await stopping.first_of(server.wait(), stop.wait())
    if server.failure is not None:
        _die(server.failure)
    await stopping.first_of(server.stop(hand_over=not now.is_set()), now.wait())
    await server.stop()
    return EXIT_OK


def _die(failure: BaseException) -> NoReturn:
    """End the process now: a thread may hang in a disk that does not answer, and must not hold it up."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(exit_code(failure))
