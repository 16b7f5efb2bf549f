"""The attacks that stopped clusters, again and again: refused, told once, and nothing has changed.

Three members in this process, with a secret and with certificates. The attackers: somebody who proves nothing
(any local user, any peer), a client with a certificate, and one whose certificate another CA has signed.
"""

import asyncio
import logging
import re
from collections import Counter as Tally
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.runtime.certified import NAME, Certified, certified, make, outcome
from tests.runtime.machines import Counter
from viewstamp.cli.authority import Authority
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.link.framing import HELLO, PEER, encode_frame
from viewstamp.link.handshake import Doorkeeper
from viewstamp.runtime.config import ClusterConfig, NodeConfig, TlsFiles
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.secret_file import make_secret
from viewstamp.runtime.server import Server
from viewstamp.testkit.hostile_wire import Attacker

TIMES = 6
TERM = msgspec.msgpack.encode([2, (1 << 53) - 1, 0, 0, True, True, 1])
"""A message of Raft with a term near the highest."""
ENTRIES = msgspec.msgpack.encode([0, 3, 1, 0, 0, [[1, 1, 0, b"forged"]], 1, 1])


@asynccontextmanager
async def guarded(folder: Path) -> AsyncIterator[Certified]:
    """Run three members that have a secret."""
    made = make(folder)
    make_secret(folder / "secret")
    made.cluster = msgspec.structs.replace(made.cluster, tls=None, secret=str(folder / "secret"))
    try:
        for node in made.cluster.node_ids:
            server = made.servers[node] = Server(
                made.cluster, node, Counter, NodeConfig(snapshot_placement="inline")
            )
            await server.start()
        yield made
    finally:
        for server in made.servers.values():
            await server.stop()


def hello(cluster: ClusterConfig, node: int, to: NodeId, incarnation: int) -> bytes:
    return Doorkeeper(cluster.identity(NodeId(node), "leader")).hello_to(to, Incarnation(incarnation))


def attack_in_clear(cluster: ClusterConfig) -> None:
    """Pose as each member with fresh incarnations, forge entries and terms, as any local user can."""
    for incarnation in range(1, TIMES + 1):
        for to, address in cluster.addresses.items():
            for node in set(cluster.node_ids) - {to}:
                said = encode_frame(HELLO, hello(cluster, node, to, incarnation))
                with Attacker(address, hello=said) as stranger:
                    assert not stranger.welcomed
                    stranger.send(encode_frame(PEER, ENTRIES) + encode_frame(PEER, TERM))
                    assert stranger.ended()
            with Attacker(address) as client:
                assert client.welcomed
                client.send(encode_frame(PEER, ENTRIES) + encode_frame(PEER, TERM))
                assert client.ended()


def attack_by_certificate(made: Certified, files: TlsFiles | None) -> None:
    """Pose as each member with fresh incarnations, by a certificate that is not a member's, or without."""
    for incarnation in range(1, TIMES + 1):
        for to, address in made.cluster.addresses.items():
            for node in set(made.cluster.node_ids) - {to}:
                ended = outcome(address, files, hello(made.cluster, node, to, incarnation))
                assert ended.startswith(("ended", "refused")), ended


def lines(caplog: pytest.LogCaptureFixture) -> Tally[str]:
    """Return how often each line about a stranger was written, without its port."""
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    return Tally(
        re.sub(r":\d{4,5}\b", ":PORT", line) for line in said if line.startswith(("refused", "closed"))
    )


async def standing(made: Certified) -> tuple[object, ...]:
    """Return what the attacks used to change."""
    async with connect(made.cluster, Counter, timeout_s=60.0) as counter:
        assert await counter.add(1) > 0
    known = [server.status() for server in made.servers.values()]
    return (
        [each.incarnation for each in known],
        {each.members for each in known},
        {each.view for each in known},
    )


@pytest.mark.parametrize("again", [1, 2])
async def test_a_local_user_is_refused_and_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, again: int
) -> None:
    with caplog.at_level(logging.INFO):
        async with guarded(tmp_path) as made:
            before = await standing(made)
            for _ in range(again):
                await asyncio.to_thread(attack_in_clear, made.cluster)
            told = lines(caplog)
            assert set(told.values()) == {3}, "each of three members writes each line once"
            assert len(told) == 2, told
            assert await standing(made) == before


async def test_a_client_with_a_certificate_is_refused_and_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with certified(tmp_path) as made:
            before = await standing(made)
            await asyncio.to_thread(attack_by_certificate, made, made.files("client"))
            told = lines(caplog)
            refused = {line: count for line, count in told.items() if line.startswith("refused")}
            assert {line.partition(": ")[2] for line in refused} == {
                f"the certificate is that of client/client, not of node/{node}" for node in (1, 2, 3)
            }
            assert sum(refused.values()) == 6, "each of three members writes each of two lines once"
            assert await standing(made) == before


async def test_a_stranger_to_the_ca_is_refused_and_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with certified(tmp_path) as made:
            before = await standing(made)
            other = made.issue("other", "node/2", is_server=True, authority=Authority.new(NAME))
            for files in (None, other):
                await asyncio.to_thread(attack_by_certificate, made, files)
            told = lines(caplog)
            assert 0 < max(told.values()) <= 3, told
            assert await standing(made) == before
