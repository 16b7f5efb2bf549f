"""Where an operator looks for the members: by the cluster file, and by members that proved who they are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

from tests.runtime.certified import certified
from tests.runtime.fakes import cluster_of, quick_config
from tests.runtime.machines import Counter
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import MembersChanged, encode_message
from viewstamp.link.framing import HELLO, SERVER, WELCOME, Splitter, encode_frame
from viewstamp.link.handshake import WIRE, Welcome, decode_hello, encode_hello
from viewstamp.link.proof import KEY_BYTES, Secret
from viewstamp.runtime import members
from viewstamp.runtime.addresses import LOOPBACK, Address, free_ports
from viewstamp.runtime.blocking import BlockingClient
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.server import Server

SLOW_S = 20.0
SECRET = Secret(b"k" * KEY_BYTES)
NOWHERE = LOOPBACK, 9


class Liar(asyncio.Protocol):
    """Welcomes everybody as node 1, and says that the other members are where it listens itself."""

    def __init__(self, at: Address, meant: list[int], *, insists: bool) -> None:
        """`insists`: it says so again after its welcome."""
        self._insists = insists
        self._members = [(node, *at) for node in (2, 3)]
        self._meant = meant
        self._splitter = Splitter(1 << 16)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for kind, payload in self._splitter.split(data):
            if kind == HELLO:
                self._meant.append(decode_hello(payload).to)
                welcome = Welcome(WIRE, "test", 1, "raft", "leader", self._members)
                self._transport.write(encode_frame(WELCOME, encode_hello(welcome)))
                # First they are gone, then they are here.
                for told in ([(1, *NOWHERE)], self._members) if self._insists else ():
                    self._transport.write(encode_frame(SERVER, encode_message(MembersChanged(told))))


@asynccontextmanager
async def lied_to(folder: Path, *, insists: bool = False) -> AsyncIterator[tuple[ClusterConfig, list[int]]]:
    """Run three nodes, then a liar in the place of node 1; yield for whom the liar's callers took it."""
    cluster, meant = cluster_of(*free_ports(3)).holding(SECRET), list[int]()
    async with AsyncExitStack() as stack:
        servers = [
            Server(cluster, node, Counter, quick_config(data=str(folder / f"data{node}")))
            for node in cluster.node_ids
        ]
        for server in servers:
            await server.start()
            stack.push_async_callback(server.stop)
        await asyncio.to_thread(members.members, cluster, timeout_s=SLOW_S)
        await servers[0].stop()
        at = cluster.addresses[NodeId(1)]
        liar = await asyncio.get_running_loop().create_server(lambda: Liar(at, meant, insists=insists), *at)
        stack.callback(liar.close)
        yield cluster, meant


async def test_members_when_a_liar_is_at_the_first_address_are_those_of_proved_members(
    tmp_path: Path,
) -> None:
    async with lied_to(tmp_path) as (cluster, meant):
        known = await asyncio.to_thread(members.cluster_of, cluster)
        assert known.addresses == cluster.addresses
        found = await asyncio.to_thread(members.members, cluster, timeout_s=SLOW_S)
        assert found.leader in {2, 3}
        assert await asyncio.to_thread(members.move_member, cluster, NodeId(1), NOWHERE) == [2, 3]
        learned = await asyncio.to_thread(members.cluster_of, cluster)
        assert learned.addresses[NodeId(1)] == NOWHERE
    assert set(meant) <= {1, -1}


async def test_members_when_nobody_proves_itself_are_those_of_the_file(tmp_path: Path) -> None:
    async with lied_to(tmp_path) as (cluster, meant):
        other = cluster.holding(Secret(b"o" * KEY_BYTES))
        known = await asyncio.to_thread(members.cluster_of, other)
    assert known.addresses == cluster.addresses
    assert 2 not in meant


async def test_operator_when_a_server_without_the_secret_names_members_does_not_follow(
    tmp_path: Path,
) -> None:
    def operate(cluster: ClusterConfig) -> None:
        client = BlockingClient(cluster, timeout_s=0.5, operator=True)
        try:
            client.operate([(NodeId(1), None)])
            assert client.servers == (1, 2, 3)
        finally:
            client.close()

    async with lied_to(tmp_path, insists=True) as (cluster, meant):
        await asyncio.to_thread(operate, cluster)
    assert set(meant) == {1}


async def test_members_when_the_cluster_speaks_tls_are_listed_and_moved(tmp_path: Path) -> None:
    async with certified(tmp_path) as made:
        found = await asyncio.to_thread(members.members, made.cluster, timeout_s=SLOW_S)
        assert [node for node, _ in found.membership.voters] == [1, 2, 3]
        assert await asyncio.to_thread(members.move_member, made.cluster, NodeId(3), NOWHERE) == [1, 2]
        known = await asyncio.to_thread(members.cluster_of, made.cluster)
        assert known.addresses[NodeId(3)] == NOWHERE
