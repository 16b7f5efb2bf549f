"""A whole cluster in one process: for embedding, for trying things out, and for tests that kill replicas.

The replicas talk over TCP on loopback, exactly as servers do. With a directory they keep their data in it;
without, in memory, where it outlives a kill of a replica but not the cluster.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

import msgspec

from viewstamp.core.events import TakeSnapshot
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.link.proof import KEY_BYTES, Secret
from viewstamp.machine.guard import Guard
from viewstamp.machine.state_machine import StateMachine
from viewstamp.runtime.addresses import LOOPBACK, free_ports
from viewstamp.runtime.config import ClusterConfig, Member, NodeConfig
from viewstamp.runtime.connecting import BlockingConnection, Connecting, connect, connect_blocking
from viewstamp.runtime.server import Server
from viewstamp.runtime.system import Clock, fresh_bytes, loop_factory, monotonic_us
from viewstamp.storage.memory import MemoryMedium

M = TypeVar("M", bound=StateMachine)
T = TypeVar("T")
_LEADER_POLL_S: Final = 0.01


class LocalCluster(Generic[M]):
    """The replicas of one machine on the running loop. Use it as an async context manager."""

    def __init__(
        self,
        machine: type[M],
        cluster: ClusterConfig,
        node_config: NodeConfig,
        data: Path | None,
        guard: Guard | None = None,
        clock: Clock = monotonic_us,
    ) -> None:
        self.machine = machine
        self._clock = clock
        self._groups: list[set[NodeId]] = []
        self._delay_s = 0.0
        self.guard = guard
        """What watched the machine's methods, and what it found."""
        self.config = cluster if cluster.secret else cluster.holding(Secret(fresh_bytes(KEY_BYTES)))
        """Where the replicas listen: what `connect` needs."""
        self._node_config = node_config
        self._data = data
        self._media = {node: MemoryMedium() for node in cluster.node_ids}
        self.servers: dict[NodeId, Server] = {}
        """Those that run."""

    async def __aenter__(self) -> "LocalCluster[M]":
        try:
            for node in self.config.node_ids:
                await self.restart(node)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop all replicas."""
        servers, self.servers = self.servers, {}
        await asyncio.gather(*(server.stop() for server in servers.values()))

    async def kill(self, node: NodeId | int) -> None:
        """End a replica as if its process had been killed."""
        await self.servers.pop(NodeId(node)).kill()

    async def restart(self, node: NodeId | int) -> None:
        """Start a replica that does not run, on the data that it left."""
        node = NodeId(node)
        assert node not in self.servers, f"node {node} runs"
        config = self._node_config
        if self._data is not None:
            config = msgspec.structs.replace(config, data=str(self._data / f"node-{node}"))
        server = Server(
            self.config,
            node,
            self.machine,
            config,
            medium=self._media[node],
            guard=self.guard,
            clock=self._clock,
        )
        await server.start()
        self.servers[node] = server
        self._disturb()

    def partition(self, *groups: Iterable[NodeId | int]) -> None:
        """Let replicas reach only those of their own group, until `heal`. Clients still reach all."""
        self._groups = [{NodeId(node) for node in group} for group in groups]
        self._disturb()

    def delay(self, seconds: float) -> None:
        """Hold back each message between replicas, until `heal`."""
        self._delay_s = seconds
        self._disturb()

    def heal(self) -> None:
        """Connect all replicas again, without a delay."""
        self._groups, self._delay_s = [], 0.0
        self._disturb()

    def _disturb(self) -> None:
        for node, server in self.servers.items():
            reached = next((group for group in self._groups if node in group), set(self.config.node_ids))
            cut = set(self.config.node_ids) - reached if self._groups else set()
            server.disturb(cut - {node}, self._delay_s)

    async def snapshot(self, node: NodeId | int) -> None:
        """Let a replica take a snapshot now, and release the log before it."""
        refusal = await self.servers[NodeId(node)].direct(TakeSnapshot())
        assert refusal is None, refusal

    def connect(self, **options: Any) -> Connecting[M]:
        """Return a client, as `viewstamp.connect` does with the same options."""
        return connect(self.config, self.machine, **options)

    def statuses(self) -> dict[NodeId, Status]:
        """Return the account of every replica that runs."""
        return {node: server.status() for node, server in self.servers.items()}

    async def leader(self, *, timeout_s: float = 10.0) -> NodeId:
        """Return the replica that leads, as soon as it is known; or `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while (leader := self._leader()) is None:  # noqa: ASYNC110  nothing announces it
                await asyncio.sleep(_LEADER_POLL_S)
        return leader

    def _leader(self) -> NodeId | None:
        """The one that a majority of the members takes for the leader, itself included."""
        believed = [status.leader for status in self.statuses().values() if status.leader in self.servers]
        for leader in believed:
            if 2 * believed.count(leader) > len(self.config.members):
                return leader
        return None


class BlockingLocalCluster(Generic[M]):
    """A `LocalCluster` on a loop in a thread of its own, with the same methods, blocking."""

    def __init__(self, make: Callable[[], LocalCluster[M]]) -> None:
        self._loop = loop_factory("auto")()
        self._thread = threading.Thread(target=self._loop.run_forever, name="viewstamp-cluster", daemon=True)
        self._thread.start()
        try:
            self._inner = make()
            self._run(self._inner.__aenter__())
        except BaseException:
            self._end_loop()
            raise

    @property
    def config(self) -> ClusterConfig:
        """Where the replicas listen."""
        return self._inner.config

    def stop(self) -> None:
        """Stop all replicas and the thread."""
        try:
            self._run(self._inner.stop())
        finally:
            self._end_loop()

    def kill(self, node: NodeId | int) -> None:
        """End a replica as if its process had been killed."""
        self._run(self._inner.kill(node))

    def restart(self, node: NodeId | int) -> None:
        """Start a replica that does not run, on the data that it left."""
        self._run(self._inner.restart(node))

    def leader(self, *, timeout_s: float = 10.0) -> NodeId:
        """Return the replica that leads, as soon as there is one; `TimeoutError` otherwise."""
        return self._run(self._inner.leader(timeout_s=timeout_s))

    def partition(self, *groups: Iterable[NodeId | int]) -> None:
        """Let replicas reach only those of their own group, until `heal`. Clients still reach all."""
        self._loop.call_soon_threadsafe(self._inner.partition, *[tuple(group) for group in groups])

    def delay(self, seconds: float) -> None:
        """Hold back each message between replicas, until `heal`."""
        self._loop.call_soon_threadsafe(self._inner.delay, seconds)

    def heal(self) -> None:
        """Connect all replicas again, without a delay."""
        self._loop.call_soon_threadsafe(self._inner.heal)

    def snapshot(self, node: NodeId | int) -> None:
        """Let a replica take a snapshot now, and release the log before it."""
        self._run(self._inner.snapshot(node))

    @property
    def guard(self) -> Guard | None:
        """What watched the machine's methods, and what it found."""
        return self._inner.guard

    def statuses(self) -> dict[NodeId, Status]:
        """Return the account of every replica that runs."""

        async def statuses() -> dict[NodeId, Status]:
            return self._inner.statuses()

        return self._run(statuses())

    def connect(self, **options: Any) -> BlockingConnection[M]:
        """Return a client, as `viewstamp.connect_blocking` does with the same options."""
        return connect_blocking(self._inner.config, self._inner.machine, **options)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _end_loop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_default_executor(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class LocalClusterMaker(Generic[M]):
    """What `local_cluster` returns: enter it with `async with` or with `with`."""

    def __init__(self, make: Callable[[], LocalCluster[M]]) -> None:
        self._make = make
        self._entered: LocalCluster[M] | None = None
        self._blocking: BlockingLocalCluster[M] | None = None

    async def __aenter__(self) -> LocalCluster[M]:
        self._entered = self._make()
        return await self._entered.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._entered is not None
        await self._entered.stop()

    def __enter__(self) -> BlockingLocalCluster[M]:
        self._blocking = BlockingLocalCluster(self._make)
        return self._blocking

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._blocking is not None
        self._blocking.stop()


def local_cluster(
    machine: type[M],
    replicas: int = 3,
    *,
    protocol: str = "raft",
    options: dict[str, Any] | None = None,
    replica: dict[str, Any] | None = None,
    directory: Path | str | None = None,
    node_config: NodeConfig | None = None,
    guard: bool = False,
    secret: Path | str | None = None,
    clock: Clock = monotonic_us,
) -> LocalClusterMaker[M]:
    """Return a cluster of replicas of `machine` in this process, to be entered by `async with` or `with`.

    `directory` keeps the data of each replica, synced to disk; without it everything is in memory. `options`
    and `replica` are those of `ClusterConfig`, `node_config` holds for every replica. With `guard` a command
    that calls what differs between replicas (a clock, randomness, files) ends in `CommandFailed` of the kind
    `ForbiddenCall`, which names the rule and the line: for tests. `secret` names the file by which operators
    in other processes are known (`viewstamp init` makes one); without it only this process can give
    directives. `clock` is for tests: microseconds that never go back, for all replicas.

    Raises:
        ConfigurationError: an option or the machine cannot be used.
    """
    cluster = ClusterConfig(
        cluster_id="local",
        members=tuple(Member(node, LOOPBACK, port) for node, port in enumerate(free_ports(replicas))),
        protocol=protocol,
        options=options or {},
        replica=replica or {},
        secret=None if secret is None else str(secret),
    )
    cluster.check()
    # A fork of a process that is not ours to fork may copy locks that other threads hold.
    config = node_config or NodeConfig(snapshot_placement="inline", loop="auto")
    data = None if directory is None else Path(directory)
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
    return LocalClusterMaker(
        lambda: LocalCluster(machine, cluster, config, data, Guard(machine) if guard else None, clock)
    )
