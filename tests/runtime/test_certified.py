"""TLS on real sockets: who gets in, who does not, and what happens when certificates change."""

import asyncio
import os
import socket
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
import uvloop

from tests.runtime.certified import NAME, Certified, certified, certify, make, outcome, wrong
from tests.runtime.fakes import until
from tests.runtime.machines import Counter
from viewstamp.cli.authority import Authority
from viewstamp.core.errors import ConfigurationError, NotExecuted, ViewstampError
from viewstamp.core.events import TakeSnapshot
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.link.credentials import Trust
from viewstamp.link.framing import HELLO, REFUSAL, Splitter, encode_frame
from viewstamp.link.handshake import Doorkeeper, client_hello
from viewstamp.runtime import admissions, certificates, joining, members
from viewstamp.runtime.addresses import LOOPBACK, format_address, free_ports
from viewstamp.runtime.config import NodeConfig, TlsFiles
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.connection import Connection
from viewstamp.runtime.operator import direct
from viewstamp.runtime.security import server_security
from viewstamp.runtime.server import Server
from viewstamp.runtime.system import wall_s

CLIENT_HELLO = client_hello(NAME, None)


async def apart(function: object, *arguments: object, **named: object) -> object:
    """Run what blocks beside the loop of the servers."""
    return await asyncio.to_thread(function, *arguments, **named)  # type: ignore[arg-type]


def principals(made: Certified) -> set[str]:
    """Of all connections of clients."""
    transports = [server._transport for server in made.servers.values()]
    return {each.principal for transport in transports if transport for each in transport._clients.values()}


async def test_node_joins_and_is_added_when_its_certificate_is_right(tmp_path: Path) -> None:
    async with certified(tmp_path) as made:
        made.issue("node-4", "node/4", is_server=True)
        seed, listen = made.cluster.addresses[NodeId(1)], (LOOPBACK, free_ports(1)[0])
        data = tmp_path / "data4"
        with pytest.raises(ConfigurationError, match="say with --node which id the certificate"):
            await apart(joining.join, seed, data, node=None, listen=listen, listed=made.cluster)
        joined = await apart(joining.join, seed, data, node=4, listen=listen, listed=made.cluster)
        assert isinstance(joined, joining.Joined)
        config = NodeConfig(data=str(data), snapshot_placement="inline", advertise=format_address(listen))
        made.servers[NodeId(4)] = Server(joined.cluster, NodeId(4), Counter, config, joining=True)
        await made.servers[NodeId(4)].start()
        await apart(members.add_member, made.cluster, listen)
        joiner = made.servers[NodeId(4)]
        await until(lambda: joiner.status().role == "follower")


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_members_and_clients_meet_when_their_certificates_are_right(tmp_path: Path, loop: object) -> None:
    async def meet() -> None:
        async with certified(tmp_path) as made, connect(made.cluster, Counter) as counter:
            assert [await counter.add(1) for _ in range(3)] == [1, 2, 3]
            assert principals(made) == {"client/client"}
            assert await apart(made.add) == 4
            address = ",".join(f"{host}:{port}" for host, port in made.cluster.addresses.values())
            async with connect(address, Counter, tls=made.files("operator")) as other:
                assert await other.add(1) == 5
            status = made.servers[NodeId(1)].status()
            assert status.warnings == ()

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(meet())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_server_stops_soon_when_another_cannot_be_dialled(tmp_path: Path, loop: object) -> None:
    """uvloop makes the protocol of a connection before there is one."""

    async def stop() -> None:
        made = make(tmp_path)
        server = Server(made.cluster, NodeId(1), Counter, NodeConfig(snapshot_placement="inline"))
        await server.start()
        transport = server._transport
        assert transport is not None
        await until(lambda: all(link.dials > 2 for link in transport._links.values()))
        async with asyncio.timeout(10):
            await server.stop()

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(stop())


async def test_client_is_refused_when_its_certificate_is_wrong(tmp_path: Path) -> None:
    async with certified(tmp_path) as made:
        assert await apart(made.add) == 1
        for address in made.cluster.addresses.values():
            assert await apart(outcome, address, made.files("client"), CLIENT_HELLO) == "welcome"
        address = made.cluster.addresses[NodeId(1)]
        for name, files in wrong(made).items():
            ended = str(await apart(outcome, address, files, CLIENT_HELLO))
            assert ended.startswith(("ended", "refused")), (name, ended)
        assert str(await apart(outcome, address, None, CLIENT_HELLO)).startswith("ended")
        assert await apart(made.add) == 2


async def test_member_is_refused_when_the_certificate_names_another(tmp_path: Path) -> None:
    async with certified(tmp_path) as made:
        door = Doorkeeper(made.cluster.identity(NodeId(2), "leader"))
        hello = door.hello_to(NodeId(1), Incarnation(9))
        address = made.cluster.addresses[NodeId(1)]
        for name in ("client", "operator", "node-3", "node-1"):
            assert "not node/2" in str(await apart(outcome, address, made.files(name), hello)).replace(
                "not of node/2", "not node/2"
            )
        other = made.issue("other", "node/2", is_server=True, cluster_id="other")
        assert "cluster 'other'" in str(await apart(outcome, address, other, hello))
        assert await apart(made.add) == 1


async def test_cluster_goes_on_when_a_stolen_certificate_comes_with_another_incarnation(
    tmp_path: Path,
) -> None:
    """Which incarnation of node 2 counts is decided by the configuration."""
    async with certified(tmp_path) as made:
        assert await apart(made.add) == 1
        door = Doorkeeper(made.cluster.identity(NodeId(2), "leader"))
        for to in (NodeId(1), NodeId(3)):
            for incarnation in (9, 10, 11):
                hello = door.hello_to(to, Incarnation(incarnation))
                ended = await apart(outcome, made.cluster.addresses[to], made.files("node-2"), hello)
                assert ended == "welcome"
        assert [await apart(made.add) for _ in range(3)] == [2, 3, 4]
        assert made.servers[NodeId(1)].status().members == (1, 2, 3)


async def test_client_leaves_when_a_server_shows_the_certificate_of_another(tmp_path: Path) -> None:
    async with certified(tmp_path) as made:
        turned = {1: 2, 2: 3, 3: 1}
        members = tuple(
            msgspec.structs.replace(member, id=turned[member.id]) for member in made.cluster.members
        )
        mixed = msgspec.structs.replace(made.cluster, members=members)
        with pytest.raises(NotExecuted, match="not of node/"):
            await apart(Certified(tmp_path, made.authority, mixed).add, timeout_s=2.0)
        async with connect(mixed, Counter, timeout_s=2.0) as counter:
            with pytest.raises(NotExecuted, match="not of node/"):
                await counter.add(1)


async def test_directive_needs_the_certificate_of_an_operator(tmp_path: Path) -> None:
    async with certified(tmp_path) as made:
        assert await apart(made.add) == 1
        assert await apart(direct, made.cluster, NodeId(1), TakeSnapshot()) is None
        (tmp_path / "operator.pem").rename(tmp_path / "put-away.pem")
        refusal = await apart(direct, made.cluster, NodeId(1), TakeSnapshot())
        assert "needs an operator" in str(refusal)


async def test_plain_client_is_told_when_the_port_speaks_tls(tmp_path: Path) -> None:
    async with certified(tmp_path) as made:
        plain = msgspec.structs.replace(made.cluster, tls=None)

        def call() -> None:
            with pytest.raises(NotExecuted, match="this node speaks TLS"):
                Certified(tmp_path, made.authority, plain).add(timeout_s=3.0)

        await apart(call)


async def test_tls_client_is_told_when_the_port_is_plain(tmp_path: Path) -> None:
    made = make(tmp_path)
    plain = msgspec.structs.replace(made.cluster, tls=None)
    servers = [Server(plain, node, Counter, NodeConfig()) for node in plain.node_ids]
    for server in servers:
        await server.start()
    try:
        with pytest.raises(NotExecuted, match="TLS"):
            await apart(made.add, timeout_s=2.0)
        async with connect(made.cluster, Counter, timeout_s=2.0) as counter:
            with pytest.raises(NotExecuted, match="TLS"):
                await counter.add(1)
    finally:
        for server in servers:
            await server.stop()


async def test_clients_get_in_when_ten_times_the_limit_does_not_shake_hands(tmp_path: Path) -> None:
    config = NodeConfig(strangers_max=8, hello_timeout_ms=60_000)
    async with certified(tmp_path, config) as made:
        with ExitStack() as stack:
            for _ in range(80):
                for address in made.cluster.addresses.values():
                    stack.enter_context(socket.create_connection(address))
            assert await apart(made.add) == 1
            for server in made.servers.values():
                used, limit = server.budgets()["connections without a hello"]
                assert used <= limit == 8


async def test_slow_handshake_is_ended_when_its_time_is_over(tmp_path: Path) -> None:
    config = NodeConfig(hello_timeout_ms=200)
    async with certified(tmp_path, config) as made:
        address = made.cluster.addresses[NodeId(1)]

        def crawl() -> bytes:
            with socket.create_connection(address, timeout=10) as sock:
                sock.sendall(b"\x16\x03\x01\x02\x00\x01")
                return sock.recv(100)

        assert await apart(crawl) == b""


# What a configuration is refused for


def as_pipe(path: Path) -> None:
    """Put a named pipe without a writer in a file's place."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda folder: (folder / "node-1.pem").unlink(), "cannot read"),
        (lambda folder: as_pipe(folder / "node-1.pem"), "not a regular file"),
        (lambda folder: as_pipe(folder / "ca.pem"), "not a regular file"),
        (lambda folder: (folder / "node-1.key").write_text("x" * 2_000_000), "too long"),
        (lambda folder: (folder / "node-1.key").write_text("half a k"), "cannot be used"),
        (lambda folder: (folder / "node-2.key").replace(folder / "node-1.key"), "cannot be used"),
        (lambda folder: (folder / "ca.pem").write_text(""), "cannot be used"),
        (
            lambda folder: (folder / "node-1.pem").write_bytes((folder / "node-2.pem").read_bytes()),
            "cannot be",
        ),
    ],
)
def test_node_does_not_start_when_its_files_cannot_be_used(
    tmp_path: Path, break_it: object, reason: str
) -> None:
    made = make(tmp_path)
    break_it(tmp_path)  # type: ignore[operator]
    with pytest.raises(ConfigurationError, match=reason):
        server_security(made.cluster, NodeId(1), NodeConfig(), ("127.0.0.1", 1))


@pytest.mark.parametrize("name", ["client", "node-2"])
def test_node_does_not_start_when_its_certificate_names_another(tmp_path: Path, name: str) -> None:
    made = make(tmp_path)
    with pytest.raises(ConfigurationError):
        server_security(made.cluster, NodeId(1), NodeConfig(tls=made.files(name)), ("127.0.0.1", 1))


def test_node_starts_beyond_loopback_when_it_has_a_certificate(tmp_path: Path) -> None:
    made = make(tmp_path)
    security = server_security(made.cluster, NodeId(1), NodeConfig(), ("0.0.0.0", 1))
    assert (security.trust, security.warnings) == (Trust.CERTIFICATE, ())
    assert security.expires_at_s > wall_s()


# Rotation


async def calls_until(made: Certified, stop: asyncio.Event, failures: list[ViewstampError]) -> int:
    """Make calls, one after the other, as a client that stays and as new ones."""
    done = 0
    async with connect(made.cluster, Counter) as counter:
        while not stop.is_set():
            try:
                await counter.add(1)
                if done % 20 == 0:
                    await apart(made.add)
            except ViewstampError as error:
                failures.append(error)
            done += 1
    return done


async def test_no_call_fails_when_certificates_and_then_the_ca_are_replaced(tmp_path: Path) -> None:
    async with certified(tmp_path) as made:
        stop, failures = asyncio.Event(), list[ViewstampError]()
        load = asyncio.create_task(calls_until(made, stop, failures))
        await apart(made.add)
        old = TlsFiles(str(tmp_path / "old-ca.pem"), str(tmp_path / "old.pem"), str(tmp_path / "old.key"))
        for now, then in (("ca.pem", "old-ca.pem"), ("client.pem", "old.pem"), ("client.key", "old.key")):
            (tmp_path / then).write_bytes((tmp_path / now).read_bytes())

        certify(tmp_path, made.authority, renew=True)  # leaves
        made.rotate()
        await apart(made.add)

        newest = Authority.new(NAME)  # both CAs are trusted, then all leaves are of the new one
        newest.save(tmp_path, (tmp_path / "ca.pem").read_bytes())
        made.rotate()
        await apart(made.add)
        certify(tmp_path, newest, renew=True)
        made.rotate()
        await apart(made.add)

        newest.save(tmp_path, b"\n")  # the old CA is dropped
        made.rotate()
        for _ in range(5):
            await apart(made.add)
        stop.set()
        assert await load > 5
        assert failures == []
        for address in made.cluster.addresses.values():
            assert str(await apart(outcome, address, old, CLIENT_HELLO)).startswith("ended")
        status = made.servers[NodeId(1)].status()
        assert status.warnings == ()


async def test_old_files_stay_in_use_when_new_ones_are_half_written(tmp_path: Path) -> None:
    async with certified(tmp_path) as made:
        server = made.servers[NodeId(1)]
        whole = (tmp_path / "node-1.pem").read_bytes()
        (tmp_path / "node-1.pem").write_bytes(whole[: len(whole) // 2])
        server.reload()
        (warning,) = server.status().warnings
        assert "the old ones are" in warning
        assert await apart(made.add) == 1
        (tmp_path / "node-1.pem").write_bytes(whole)
        server.reload()
        assert server.status().warnings == ()
        pair = made.authority.issue(NAME, "node/2", is_server=True)
        (tmp_path / "node-1.key").write_bytes(pair[1])
        (tmp_path / "node-1.pem").write_bytes(pair[0])
        server.reload()
        assert "names another one" in server.status().warnings[0]
        assert await apart(made.add) == 2


async def test_connection_is_closed_when_the_certificate_has_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with certified(tmp_path) as made, connect(made.cluster, Counter) as counter:
        assert await counter.add(1) == 1
        before = wall_s()
        monkeypatch.setattr(certificates, "wall_s", lambda: before + 360 * 86_400)
        made.rotate()
        assert "expires in 4 days" in made.servers[NodeId(1)].status().warnings[0]
        assert await counter.add(1) == 2
        open_before = {each for server in made.servers.values() for each in server._transport.connections()}  # type: ignore[union-attr]
        monkeypatch.setattr(certificates, "wall_s", lambda: before + 366 * 86_400)
        made.rotate()
        assert all(connection._closed for connection in open_before)
        assert "has expired" in made.servers[NodeId(1)].status().warnings[0]


async def test_a_connection_ends_at_the_moment_when_its_certificate_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: set[tuple[str, str]] = set()
    close = Connection.close

    def note(connection: Connection, reason: str) -> None:
        ended.add((connection.principal, reason))
        close(connection, reason)

    async with certified(tmp_path) as made, connect(made.cluster, Counter) as counter:
        assert await counter.add(1) == 1
        standing = [each for server in made.servers.values() for each in server._transport.connections()]  # type: ignore[union-attr]
        ends = max(each.tls.peer.not_after_s for each in standing if each.tls and each.tls.peer)
        monkeypatch.setattr(admissions, "wall_s", lambda: ends - 0.2)
        monkeypatch.setattr(Connection, "close", note)
        for each in standing:
            each.close("connect again")
        # No call is made: its connection lasts 0.2 s, which on a busy machine is too short for an answer.
        wanted = {(who, "its certificate has expired") for who in ("client/client", "node/1", "node/2")}
        await until(lambda: wanted <= ended)


# Many handshakes


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_nothing_is_kept_when_many_have_shaken_hands(tmp_path: Path, loop: object) -> None:
    async def shake() -> None:
        async with certified(tmp_path) as made:
            server = made.servers[NodeId(1)]
            address = made.cluster.addresses[NodeId(1)]
            for _ in range(60):
                assert await apart(outcome, address, made.files("client"), CLIENT_HELLO) == "welcome"
            transport = server._transport
            assert transport is not None
            await until(
                lambda: (
                    not (transport._clients or transport._strangers or len(transport._admissions))
                    and len(transport._open) <= 2
                )
            )

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(shake())


async def test_refusal_of_plain_bytes_is_a_frame_when_they_are_ours(tmp_path: Path) -> None:
    async with certified(tmp_path) as made:
        address = made.cluster.addresses[NodeId(1)]

        def ask() -> bytes:
            with socket.create_connection(address, timeout=10) as sock:
                sock.sendall(encode_frame(HELLO, CLIENT_HELLO))
                return sock.recv(1 << 16)

        (frame,) = Splitter(1 << 16).split(await apart(ask))  # type: ignore[arg-type]
        assert frame[0] == REFUSAL
