"""Certificates from other tools: which of them open the door, as whom, and until when."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from tests.runtime import odd_certificates as odd
from tests.runtime.certified import NAME, Certified, certified, make, outcome
from tests.runtime.machines import Counter
from tests.runtime.odd_certificates import BOTH, CLIENT, SERVER, Signer, issue, write
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.link.handshake import Doorkeeper, client_hello
from viewstamp.runtime.config import NodeConfig, TlsFiles
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.security import server_security

HELLO = client_hello(NAME, None)
SHOP, ANN = f"viewstamp://{NAME}/client/shop", f"viewstamp://{NAME}/operator/ann"
MakeCase = Callable[[Signer], Signer]

WELCOME: dict[str, MakeCase] = {
    "no purpose at all": lambda ca: issue(ca, [SHOP], purposes=None),
    "another scheme beside it": lambda ca: issue(ca, [SHOP, "spiffe://x/node/1"], dns=["node-1"]),
    "RSA of 2048 bits": lambda ca: issue(ca, [SHOP], key=rsa.generate_private_key(65537, 2048)),
    "Ed25519": lambda ca: issue(ca, [SHOP], key=ed25519.Ed25519PrivateKey.generate()),
    "no basic constraints": lambda ca: issue(ca, [SHOP], is_ca=None),
    "an intermediate": lambda ca: issue(issue(ca, is_ca=True, common="mid", purposes=None), [SHOP]),
}
REFUSED: dict[str, MakeCase] = {
    "no name": issue,
    "a name of the DNS": lambda ca: issue(ca, dns=[f"{NAME}.client.shop"]),
    "an empty URI": lambda ca: issue(ca, [""]),
    "another scheme alone": lambda ca: issue(ca, [f"spiffe://{NAME}/client/shop"]),
    "upper case": lambda ca: issue(ca, [f"VIEWSTAMP://{NAME}/client/shop"]),
    "upper case beside ours": lambda ca: issue(ca, [SHOP, f"VIEWSTAMP://{NAME}/node/1"]),
    "two of ours": lambda ca: issue(ca, [SHOP, ANN]),
    "the same twice": lambda ca: issue(ca, [SHOP, SHOP]),
    "a wildcard": lambda ca: issue(ca, [f"viewstamp://{NAME}/client/*"]),
    "a wildcard for the role": lambda ca: issue(ca, [f"viewstamp://{NAME}/*/shop"]),
    "percent-encoding": lambda ca: issue(ca, [f"viewstamp://{NAME}/client/sh%6Fp"]),
    "an encoded slash": lambda ca: issue(ca, [f"viewstamp://{NAME}/client%2Fshop"]),
    "a query": lambda ca: issue(ca, [f"{SHOP}?as=operator"]),
    "a fragment": lambda ca: issue(ca, [f"{SHOP}#operator/ann"]),
    "a slash at the end": lambda ca: issue(ca, [f"{SHOP}/"]),
    "dots for a path": lambda ca: issue(ca, [f"viewstamp://{NAME}/client/../operator/ann"]),
    "a user and a port": lambda ca: issue(ca, [f"viewstamp://me@{NAME}:1/client/shop"]),
    "another cluster in upper case": lambda ca: issue(ca, [f"viewstamp://{NAME.upper()}/client/shop"]),
    "an upper-case role": lambda ca: issue(ca, [f"viewstamp://{NAME}/Client/shop"]),
    "a node with zeros": lambda ca: issue(ca, [f"viewstamp://{NAME}/node/01"]),
    "a node called one": lambda ca: issue(ca, [f"viewstamp://{NAME}/node/one"]),
    "a node beyond all": lambda ca: issue(ca, [f"viewstamp://{NAME}/node/{1 << 31}"]),
    "a node with a thousand digits": lambda ca: issue(ca, [f"viewstamp://{NAME}/node/{'9' * 60}"]),
    "an operator of this machine": lambda ca: issue(ca, [f"viewstamp://{NAME}/local-operator"]),
    "for servers alone": lambda ca: issue(ca, [SHOP], purposes=[SERVER]),
    "RSA of 1024 bits": lambda ca: issue(ca, [SHOP], key=odd.small_rsa()),
    "expired a second ago": lambda ca: issue(ca, [SHOP], begins_days=-1, days=1 - 1 / 86_400),
    "valid from tomorrow": lambda ca: issue(ca, [SHOP], begins_days=1),
    "signed by itself": lambda _ca: _itself(),
    "an intermediate that has expired": lambda ca: issue(
        issue(ca, is_ca=True, common="mid", purposes=None, begins_days=-9, days=8), [SHOP]
    ),
    "an intermediate that is no CA": lambda ca: issue(issue(ca, common="mid"), [SHOP]),
    "signed by a client that is a CA": lambda ca: issue(issue(ca, [SHOP], is_ca=True, common="shop"), [ANN]),
    "signed by a client in upper case": lambda ca: issue(
        issue(ca, [SHOP.upper()], is_ca=True, common="shop"), [ANN]
    ),
}


def _itself() -> Signer:
    alone = issue(None, [SHOP])
    return Signer(alone.certificate, alone.key, (alone.certificate,))


async def apart(function: Any, *arguments: Any) -> Any:
    return await asyncio.to_thread(function, *arguments)


def of_ca(folder: Path, ca: Signer, made: Certified) -> None:
    """Let the cluster in this folder have another CA, from another tool."""
    (folder / "ca.pem").write_bytes(ca.pem())
    for node in made.cluster.node_ids:
        write(folder, f"node-{node}", issue(ca, [f"viewstamp://{NAME}/node/{node}"]))
    for name in ("client", "operator"):
        write(folder, name, issue(ca, [f"viewstamp://{NAME}/{name}/{name}"], purposes=[CLIENT]))


async def with_ca(folder: Path, ca: Signer, do: Callable[[Certified], Awaitable[None]]) -> None:
    """Run a cluster, and give it the CA while it runs."""
    async with certified(folder) as made:
        older = (folder / "ca.pem").read_bytes()
        of_ca(folder, ca, made)
        (folder / "ca.pem").write_bytes(ca.pem() + older)
        made.rotate()
        (folder / "ca.pem").write_bytes(ca.pem())
        made.rotate()
        assert all(server.status().warnings == () for server in made.servers.values())
        await do(made)


async def test_a_certificate_opens_the_door_when_its_one_uri_names_a_principal(tmp_path: Path) -> None:
    ca = Signer.root("ca")

    async def try_all(made: Certified) -> None:
        address = made.cluster.addresses[NodeId(1)]
        ended = {}
        for number, (what, case) in enumerate((WELCOME | REFUSED).items()):
            files = write(tmp_path, f"odd-{number}", case(ca))
            ended[what] = await apart(outcome, address, files, HELLO)
        assert {what for what, how in ended.items() if how == "welcome"} == set(WELCOME), ended
        assert await apart(made.add) == 1

    await with_ca(tmp_path, ca, try_all)


async def test_no_odd_certificate_is_a_members(tmp_path: Path) -> None:
    ca = Signer.root("ca")

    async def try_all(made: Certified) -> None:
        address = made.cluster.addresses[NodeId(1)]
        hello = Doorkeeper(made.cluster.identity(NodeId(2), "leader")).hello_to(NodeId(1), Incarnation(9))
        client = issue(ca, [SHOP], is_ca=True, common="shop")
        for number, leaf in enumerate(
            [
                issue(ca, [f"viewstamp://{NAME}/node/02"]),
                issue(ca, [f"viewstamp://{NAME}/node/2", SHOP]),
                issue(ca, [f"viewstamp://{NAME}/node/2/"]),
                issue(ca, [f"viewstamp://{NAME}/node/+2"]),
                issue(ca, [f"viewstamp://{NAME}/node/2 "]),
                issue(ca, [f"viewstamp://{NAME}/node/4294967298"]),
                issue(ca, ["spiffe://x"], dns=["node-2", "localhost"]),
                issue(client, [f"viewstamp://{NAME}/node/2"]),
            ]
        ):
            files = write(tmp_path, f"odd-{number}", leaf)
            assert str(await apart(outcome, address, files, hello)).startswith("refused"), number
        mid = issue(ca, is_ca=True, common="mid", purposes=None)
        real = write(tmp_path, "real", issue(mid, [f"viewstamp://{NAME}/node/2"]))
        assert await apart(outcome, address, real, hello) == "welcome", "a chain that is right"

    await with_ca(tmp_path, ca, try_all)


async def test_a_node_does_not_start_with_what_the_others_would_refuse(tmp_path: Path) -> None:
    ca = Signer.root("ca")
    made = make(tmp_path)
    (tmp_path / "ca.pem").write_bytes(ca.pem())
    uri = f"viewstamp://{NAME}/node/1"
    for number, leaf in enumerate(
        [
            issue(ca, [uri], purposes=[CLIENT]),
            issue(ca, [uri, uri]),
            issue(ca, [f"viewstamp://{NAME}/node/01"]),
            issue(ca, [uri], begins_days=-9, days=8),
            issue(ca, [uri], key=odd.small_rsa()),
            issue(issue(ca, [SHOP], is_ca=True, common="shop"), [uri]),
            issue(issue(ca, is_ca=True, common="mid", purposes=None, begins_days=-9, days=8), [uri]),
        ]
    ):
        files = write(tmp_path, f"odd-{number}", leaf)
        with pytest.raises(ConfigurationError):
            server_security(made.cluster, NodeId(1), NodeConfig(tls=files), ("127.0.0.1", 1))
    for leaf in (issue(ca, [uri], purposes=BOTH), issue(issue(ca, is_ca=True, common="mid"), [uri])):
        files = write(tmp_path, "good", leaf)
        server_security(made.cluster, NodeId(1), NodeConfig(tls=files), ("127.0.0.1", 1))


# Standing connections


async def reasons(made: Certified, files: TlsFiles, change: Callable[[], None]) -> set[str]:
    """Connect, change the files, and return why the servers ended connections of that client."""
    ended: set[str] = set()
    async with connect(made.cluster, Counter, tls=files, timeout_s=60.0) as counter:
        assert await counter.add(1) > 0
        transports = [server._transport for server in made.servers.values()]
        mine = [
            each
            for transport in transports
            if transport
            for each in transport.connections()
            if each.principal == "client/shop"
        ]
        assert mine
        change()
        made.rotate()
        ended |= {each._reason for each in mine if each._closed}
        assert await counter.add(1) > 0 or ended
    return ended


async def test_a_chain_goes_on_while_its_ca_is_trusted(tmp_path: Path) -> None:
    ca = Signer.root("ca")

    async def stay(made: Certified) -> None:
        mid = issue(ca, is_ca=True, common="mid", purposes=None)
        files = write(tmp_path, "shop", issue(mid, [SHOP]))
        assert await reasons(made, files, lambda: None) == set()

    await with_ca(tmp_path, ca, stay)


async def test_a_ca_of_the_same_name_is_another_one(tmp_path: Path) -> None:
    old, new = Signer.root("our CA"), Signer.root("our CA")

    async def replace(made: Certified) -> None:
        shop = write(tmp_path, "shop", issue(old, [SHOP]))
        made_new = issue(new, [SHOP])

        def drop() -> None:
            of_ca(tmp_path, new, made)
            write(tmp_path, "shop", made_new)

        (tmp_path / "ca.pem").write_bytes(new.pem() + old.pem())
        made.rotate()
        assert await reasons(made, shop, drop) == {"the CA of its certificate is no longer trusted"}

    await with_ca(tmp_path, old, replace)


async def test_a_connection_ends_with_the_intermediate_of_its_chain(tmp_path: Path) -> None:
    ca = Signer.root("ca")

    async def look(made: Certified) -> None:
        mid = issue(ca, is_ca=True, common="mid", purposes=None, days=2)
        files = write(tmp_path, "shop", issue(mid, [SHOP], days=30))
        async with connect(made.cluster, Counter, tls=files, timeout_s=60.0) as counter:
            assert await counter.add(1) == 1
            server = made.servers[NodeId(1)]
            assert server._transport is not None
            (mine,) = [each for each in server._transport.connections() if each.principal == "client/shop"]
            assert mine.tls is not None
            assert mine.tls.peer is not None
            assert mine.tls.peer.not_after_s == mid.certificate.not_valid_after_utc.timestamp()

    await with_ca(tmp_path, ca, look)
