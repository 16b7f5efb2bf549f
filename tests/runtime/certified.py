"""Clusters that speak TLS in this process, and certificates that are wrong in one way each."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from tests.runtime.machines import Counter
from viewstamp.cli.authority import Authority, write_pair
from viewstamp.core.ids import NodeId
from viewstamp.link.framing import HELLO, REFUSAL, WELCOME, Splitter, encode_frame
from viewstamp.link.handshake import decode_refusal
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.authorization import Grant
from viewstamp.runtime.addresses import LOOPBACK, free_ports
from viewstamp.runtime.config import ClusterConfig, Member, NodeConfig, TlsFiles
from viewstamp.runtime.connecting import connect_blocking
from viewstamp.runtime.server import Server
from viewstamp.runtime.system import wall_s

NAME = "certified"


def certify(folder: Path, authority: Authority, *, renew: bool = False) -> None:
    """Write what three nodes, a client and an operator show."""
    for node in (1, 2, 3):
        pair = authority.issue(NAME, f"node/{node}", is_server=True)
        write_pair(folder / f"node-{node}", pair, replace=renew)
    for name in ("client", "operator"):
        write_pair(folder / name, authority.issue(NAME, f"{name}/{name}", is_server=False), replace=renew)


class Certified:
    """Three servers, their CA, and its folder."""

    def __init__(self, folder: Path, authority: Authority, cluster: ClusterConfig) -> None:
        self.folder = folder
        self.authority = authority
        self.cluster = cluster
        self.servers: dict[NodeId, Server] = {}

    def files(self, name: str) -> TlsFiles:
        """What a client shows that has the certificate of this name."""
        stem = self.folder / name
        return TlsFiles(str(self.folder / "ca.pem"), f"{stem}.pem", f"{stem}.key")

    def issue(self, name: str, principal: str, *, is_server: bool = False, **how: object) -> TlsFiles:
        """Make a certificate of this cluster's CA, and return what shows it."""
        cluster_id = str(how.pop("cluster_id", NAME))
        authority = how.pop("authority", self.authority)
        assert isinstance(authority, Authority)
        pair = authority.issue(cluster_id, principal, is_server=is_server, **how)  # type: ignore[arg-type]
        write_pair(self.folder / name, pair)
        return self.files(name)

    def rotate(self) -> None:
        """Let every server look at its files now."""
        for server in self.servers.values():
            server.reload()

    def add(self, *, tls: TlsFiles | None = None, timeout_s: float = 10.0) -> int:
        """Make one call with a new client."""
        with connect_blocking(self.cluster, Counter, tls=tls, timeout_s=timeout_s) as counter:
            return counter.add(1)


def make(folder: Path) -> Certified:
    authority = Authority.new(NAME)
    authority.save(folder)
    certify(folder, authority)
    ports = free_ports(3)
    members = tuple(Member(node, LOOPBACK, port) for node, port in enumerate(ports, start=1))
    tls = TlsFiles(str(folder / "ca.pem"))
    return Certified(folder, authority, ClusterConfig(cluster_id=NAME, members=members, tls=tls))


@asynccontextmanager
async def certified(
    folder: Path,
    config: NodeConfig | None = None,
    *,
    machine: type[StateMachine] = Counter,
    grants: tuple[Grant, ...] = (),
) -> AsyncIterator[Certified]:
    """Run the three servers."""
    made = make(folder)
    made.cluster = msgspec.structs.replace(made.cluster, grants=grants)
    node_config = config or NodeConfig(snapshot_placement="inline")
    try:
        for node in made.cluster.node_ids:
            server = Server(made.cluster, node, machine, msgspec.structs.replace(node_config))
            await server.start()
            made.servers[node] = server
        yield made
    finally:
        for server in made.servers.values():
            await server.stop()
        for _ in range(8):  # a connection that was accepted as its server stopped is closed now
            await asyncio.sleep(0)


def wrong(made: Certified) -> dict[str, TlsFiles]:
    """Certificates for a client that are wrong in one way each."""
    now = datetime.fromtimestamp(wall_s(), UTC)
    stranger = Authority.new(NAME)
    return {
        "another CA": made.issue("w1", "client/shop", authority=stranger),
        "expired": made.issue("w2", "client/shop", begins=now - timedelta(days=9), days=1),
        "not yet valid": made.issue("w3", "client/shop", begins=now + timedelta(days=1)),
        "no name of ours": made.issue("w4", "client/shop", uris=["https://example.org/client/shop"]),
        "two names": made.issue(
            "w5", "x", uris=[f"viewstamp://{NAME}/{who}" for who in ("client/a", "node/1")]
        ),
        "another cluster": made.issue("w6", "client/shop", cluster_id="other"),
    }


def outcome(address: tuple[str, int], files: TlsFiles | None, hello: bytes) -> str:
    """Dial by the standard library alone, without a look at the own certificate; return how it ended."""
    with socket.create_connection(address, timeout=60) as plain:
        try:
            with _secured(plain, files) as end:
                end.sendall(encode_frame(HELLO, hello))
                splitter = Splitter(1 << 16)
                while data := end.recv(1 << 16):
                    for kind, payload in splitter.split(data):
                        if kind == WELCOME:
                            return "welcome"
                        if kind == REFUSAL:
                            return f"refused: {decode_refusal(payload)}"
        except OSError as error:
            return f"ended: {error}"
    return "ended"


def _secured(plain: socket.socket, files: TlsFiles | None) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if files is not None and files.cert is not None:
        context.load_cert_chain(files.cert, files.key)
    return context.wrap_socket(plain)
