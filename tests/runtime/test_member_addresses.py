"""Where an operator looks for the members: by the cluster file, and by members that proved who they are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from tests.runtime.certified import certified
from tests.runtime.fakes import cluster_of, quick_config, until
from tests.runtime.machines import Counter
from viewstamp.core.ids import NodeId, Seqno, View, Viewstamp
from viewstamp.core.messages import MembersChanged, encode_message
from viewstamp.link.framing import HELLO, SERVER, WELCOME, Splitter, encode_frame
from viewstamp.link.handshake import WIRE, Welcome, decode_hello, encode_hello
from viewstamp.link.proof import KEY_BYTES, Secret
from viewstamp.runtime import members
from viewstamp.runtime.addresses import LOOPBACK, Address, format_address, free_ports
from viewstamp.runtime.blocking import BlockingClient
from viewstamp.runtime.client import AsyncClient
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


class Teller(asyncio.Protocol):
    """Welcomes everybody as node 1, and then says who the members are, several times."""

    def __init__(self, words: list[MembersChanged]) -> None:
        self._words = words
        self._splitter = Splitter(1 << 16)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for kind, _ in self._splitter.split(data):
            if kind == HELLO:
                welcome = Welcome(WIRE, "test", 1, "raft", "leader", self._words[0].members)
                self._transport.write(encode_frame(WELCOME, encode_hello(welcome)))
                for word in self._words:
                    self._transport.write(encode_frame(SERVER, encode_message(word)))


@asynccontextmanager
async def told(*words: tuple[tuple[int, ...], Viewstamp | None]) -> AsyncIterator[Address]:
    """Run a server that names these members, by the entry beside them; yield where it listens."""
    at = LOOPBACK, free_ports(1)[0]
    said = [MembersChanged([(node, *at) for node in nodes], by) for nodes, by in words]
    listener = await asyncio.get_running_loop().create_server(lambda: Teller(said), *at)
    try:
        yield at
    finally:
        listener.close()


NEWER, OLDER = Viewstamp(View(5), Seqno(9)), Viewstamp(View(4), Seqno(70))


WORDS = ((1, 4, 5), NEWER), ((1,), OLDER), ((1, 4, 5, 6), NEWER)


def followed_by(kind: type[AsyncClient | BlockingClient], patch: pytest.MonkeyPatch) -> list[int]:
    """Return how many members each word names that a client of this kind follows, from now on."""
    follow, heard = kind._follow, list[int]()

    def note(client: Any, word: MembersChanged) -> None:
        heard.append(len(word.members))
        follow(client, word)

    patch.setattr(kind, "_follow", note)
    return heard


async def test_client_when_a_member_names_the_members_of_an_older_entry_does_not_follow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = followed_by(AsyncClient, monkeypatch)
    async with told(*WORDS) as at:
        client = AsyncClient([format_address(at)], timeout_s=SLOW_S)
        await client.start()
        try:
            await until(lambda: 6 in client.servers, timeout_s=SLOW_S)
        finally:
            await client.close()
    assert heard[:2] == [3, 4]  # each connection says all of it again
    assert 1 not in heard


async def test_blocking_client_when_a_word_about_the_members_is_older_does_not_follow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = followed_by(BlockingClient, monkeypatch)

    def operate(at: Address) -> None:
        client = BlockingClient([format_address(at)], timeout_s=0.5)
        try:
            for _ in range(20):  # each reads what has come meanwhile
                client.operate([(NodeId(1), None)])
                if 4 in heard:
                    break
        finally:
            client.close()

    async with told(*WORDS) as at:
        await asyncio.to_thread(operate, at)
    assert heard[:2] == [3, 4]  # each connection says all of it again
    assert 1 not in heard


def test_word_of_the_members_when_it_has_no_position_is_followed() -> None:
    client = AsyncClient(cluster_of(9), timeout_s=SLOW_S)
    heard = [client._is_news(MembersChanged([(1, *NOWHERE)], at)) for at in (NEWER, OLDER, None, OLDER)]
    assert heard == [True, False, True, True]
