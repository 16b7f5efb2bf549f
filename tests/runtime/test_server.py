import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import viewstamp
from tests.runtime.fakes import cluster_of, until
from tests.runtime.machines import Counter
from viewstamp.core.errors import ConfigurationError, Diverged, JournalCorrupt, NotExecuted, StorageError
from viewstamp.core.events import TakeSnapshot
from viewstamp.core.ids import NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.protocol import Core, CoreSetup, Status
from viewstamp.core.snapshots import Snapshot
from viewstamp.protocols.raft.state import Role
from viewstamp.protocols.registry import protocol_definition
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.config import MIB, NodeConfig
from viewstamp.runtime.local import local_cluster
from viewstamp.runtime.operator import cluster_status
from viewstamp.runtime.server import (
    EXIT_CONFIGURATION,
    EXIT_DIVERGED,
    EXIT_INVARIANT,
    EXIT_OK,
    EXIT_STORAGE,
    Server,
    check_assertions,
    exit_code,
)
from viewstamp.runtime.system import loop_factory

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from tests.runtime.machines import Counter
from viewstamp.core.errors import ViewstampError
from viewstamp.runtime.config import ClusterConfig, NodeConfig
from viewstamp.runtime.server import exit_code, serve_forever
path, node, data = sys.argv[1:]
try:
    config = NodeConfig(data=data, segment_bytes=1 << 20)
    started = lambda server: print("serving", flush=True)
    sys.exit(serve_forever(ClusterConfig.load(path), int(node), Counter, config, started=started))
except ViewstampError as error:
    print(error, file=sys.stderr)
    sys.exit(exit_code(error))
"""


class Process:
    """A server in a process of its own."""

    def __init__(self, path: Path, node: int, data: Path, *flags: str) -> None:
        self.inner = subprocess.Popen(
            [sys.executable, *flags, "-c", PROGRAM, str(path), str(node), str(data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))},
        )

    def await_serving(self) -> None:
        assert self.inner.stdout is not None
        line = self.inner.stdout.readline()
        assert line == "serving\n", self.end()

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Send a signal, if any, and return the exit code and what was said."""
        if number is not None:
            self.inner.send_signal(number)
        _, said = self.inner.communicate(timeout=20)
        return self.inner.returncode, said


@contextmanager
def processes(path: Path, count: int, data: Path) -> Iterator[list[Process]]:
    cluster = cluster_of(*free_ports(count))
    cluster.save(path)
    running = [Process(path, node, data / str(node)) for node in cluster.node_ids]
    try:
        for process in running:
            process.await_serving()
        yield running
    finally:
        for process in running:
            if process.inner.returncode is None:
                process.end(signal.SIGKILL)


@pytest.mark.process
def test_leader_hands_over_and_exits_with_zero_when_terminated(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    with processes(path, 3, tmp_path) as running:
        with viewstamp.connect_blocking(path, Counter, timeout_s=20) as counter:
            counter.add(1)
            accounts = cluster_status(path).values()
            leader = next(s.leader for s in accounts if isinstance(s, Status) and s.leader is not None)
            code, said = running[leader - 1].end(signal.SIGTERM)
            assert (code, said) == (EXIT_OK, "")
            assert counter.add(1) == 2
        followers = [process for node, process in enumerate(running, 1) if node != leader]
        assert followers[0].end(signal.SIGINT) == (EXIT_OK, "")


@pytest.mark.process
def test_everything_acknowledged_is_there_when_all_were_killed(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    with processes(path, 3, tmp_path) as running:
        with viewstamp.connect_blocking(path, Counter, timeout_s=20) as counter:
            for _ in range(20):
                counter.add(1)
        for process in running:
            process.end(signal.SIGKILL)
        again = [Process(path, node, tmp_path / str(node)) for node in (1, 2, 3)]
        running.extend(again)
        for process in again:
            process.await_serving()
        with viewstamp.connect_blocking(path, Counter, timeout_s=20) as counter:
            assert counter.read() == 20


@pytest.mark.process
def test_second_server_is_refused_when_the_directory_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    with processes(path, 1, tmp_path):
        code, said = Process(path, 1, tmp_path / "1").end()
        assert code == EXIT_CONFIGURATION
        assert "in use" in said
        assert said.count("\n") == 1


@pytest.mark.process
def test_server_is_refused_when_python_drops_assertions(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    cluster_of(*free_ports(1)).save(path)
    code, said = Process(path, 1, tmp_path / "1", "-O").end()
    assert code == EXIT_CONFIGURATION
    assert "start without -O" in said
    assert not (tmp_path / "1").exists()


def test_assertions_are_required() -> None:
    check_assertions()
    with pytest.raises(ConfigurationError):
        check_assertions(enabled=False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, EXIT_OK),
        (ConfigurationError("x"), EXIT_CONFIGURATION),
        (StorageError("x"), EXIT_STORAGE),
        (JournalCorrupt("x"), EXIT_STORAGE),
        (OSError("x"), EXIT_STORAGE),
        (Diverged("x"), EXIT_DIVERGED),
        (AssertionError("x"), EXIT_INVARIANT),
        (KeyError("x"), EXIT_INVARIANT),
    ],
)
def test_exit_code_says_what_ended_the_process(error: BaseException | None, code: int) -> None:
    assert exit_code(error) == code


async def test_server_is_refused_when_the_node_is_no_member() -> None:
    with pytest.raises(ConfigurationError, match="node 9 is not a member"):
        Server(cluster_of(*free_ports(1)), NodeId(9), Counter)


async def test_server_is_refused_when_the_directory_is_another_nodes(tmp_path: Path) -> None:
    cluster = cluster_of(*free_ports(2))
    config = NodeConfig(data=str(tmp_path / "data"), segment_bytes=MIB)
    first = Server(cluster, NodeId(1), Counter, config)
    await first.start()
    await first.stop()
    with pytest.raises(ConfigurationError, match="belongs to node 1"):
        await Server(cluster, NodeId(2), Counter, config).start()


async def test_server_leaves_its_directory_free_when_the_port_is_taken(tmp_path: Path) -> None:
    cluster = cluster_of(*free_ports(1))
    host, port = cluster.addresses[NodeId(1)]
    taken = await asyncio.start_server(lambda _reader, _writer: None, host, port)
    config = NodeConfig(data=str(tmp_path / "data"), segment_bytes=MIB)
    server = Server(cluster, NodeId(1), Counter, config)
    with pytest.raises(ConfigurationError, match="cannot listen"):
        await server.start()
    assert not server.running
    taken.close()
    await taken.wait_closed()
    again = Server(cluster, NodeId(1), Counter, config)
    await again.start()
    await again.stop()


async def test_node_stops_and_acknowledges_nothing_when_its_disk_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "viewstamp.runtime")
    async with local_cluster(Counter, replicas=1) as cluster, cluster.connect(timeout_s=20) as counter:
        assert await counter.add(1) == 1
        server = cluster.servers[NodeId(0)]
        directory = server._directory
        assert directory is not None

        def fail() -> None:
            raise StorageError("cannot sync the journal: input/output error")

        directory.journal.begin_sync = fail  # type: ignore[method-assign]
        transport = server._transport
        assert transport is not None
        call = asyncio.ensure_future(viewstamp.with_options(counter, timeout_s=3).add(1))
        await until(lambda: server.failure)
        await until(lambda: transport.clients_connected == 0 or call.done())
        assert transport.clients_connected == 0, "clients are told at once, and need not wait"
        with pytest.raises((NotExecuted, viewstamp.OutcomeUnknown)):
            await call
        assert isinstance(server.failure, StorageError)
        assert not server.running
        with pytest.raises(StorageError):
            await server.wait()
        assert "input/output error" in caplog.text
        assert caplog.text.count("\n") == 1


async def test_paranoid_node_stops_with_one_line_when_an_invariant_is_broken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "viewstamp.runtime")
    definition = protocol_definition("raft")
    cores: list[Any] = []

    def make_core(setup: CoreSetup) -> Core:
        cores.append(definition.make_core(setup))
        core: Core = cores[-1]
        return core

    planted = msgspec.structs.replace(definition, make_core=make_core)
    cluster = cluster_of(*free_ports(1))
    server = Server(cluster, NodeId(1), Counter, NodeConfig(paranoid=True), definition=planted)
    await server.start()
    async with viewstamp.connect(cluster, Counter, timeout_s=20) as counter:
        assert await counter.add(1) == 1
        cores[0].state.role = Role.FOLLOWER
        await until(lambda: server.failure)
    assert isinstance(server.failure, InvariantViolated)
    assert exit_code(server.failure) == EXIT_INVARIANT
    assert "I1 ElectionSafety" in caplog.text
    assert caplog.text.count("\n") == 1
    await server.stop()


@pytest.mark.parametrize("protocol", ["raft", "viewstamped", "primary_backup"])
async def test_paranoid_nodes_serve_when_nothing_is_wrong(protocol: str) -> None:
    config = NodeConfig(paranoid=True)
    async with local_cluster(Counter, protocol=protocol, node_config=config) as cluster:
        async with cluster.connect(timeout_s=20) as counter:
            assert [await counter.add(1) for _ in range(20)] == list(range(1, 21))
        assert [server.failure for server in cluster.servers.values()] == [None] * 3


async def test_last_snapshot_holds_everything_when_another_was_under_way(tmp_path: Path) -> None:
    config = NodeConfig(data=str(tmp_path / "data"), segment_bytes=MIB)
    server = Server(cluster_of(*free_ports(1)), NodeId(1), Counter, config)
    await server.start()
    driver = server._driver
    assert driver is not None
    save, may_save = driver._snapshotter._save, threading.Event()

    def late(*arguments: Any) -> Snapshot | None:
        assert may_save.wait(20.0)
        return save(*arguments)

    driver._snapshotter._save = late  # type: ignore[assignment, method-assign]
    async with viewstamp.connect(server.cluster, Counter, timeout_s=20) as counter:
        await counter.add(1)
        early = asyncio.ensure_future(server.direct(TakeSnapshot()))
        await asyncio.sleep(0)
        await counter.add(1)
        applied = server.status().applied
    stopping = asyncio.ensure_future(server.stop(hand_over=True))
    await until(lambda: not driver._has_time)
    may_save.set()
    await stopping
    assert await early is None
    again = Server(server.cluster, NodeId(1), Counter, config)
    await again.start()
    assert again.status().snapshot >= applied
    await again.stop()


async def test_status_is_that_of_the_replica_when_asked() -> None:
    async with local_cluster(Counter, replicas=1) as cluster:
        await until(lambda: cluster.statuses()[NodeId(0)].role == "leader")
        server = cluster.servers[NodeId(0)]
        assert server.running
        assert server.counters()["turns"] > 0


def test_loop_is_uvloop_when_it_is_installed() -> None:
    for choice in ("auto", "uvloop"):
        loop = loop_factory(choice)()
        assert "uvloop" in type(loop).__module__
        loop.close()
    plain = loop_factory("asyncio")()
    assert "uvloop" not in type(plain).__module__
    plain.close()
