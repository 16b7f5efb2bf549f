"""What must be refused at the port changes nothing and disturbs nobody."""

import asyncio
import socket
from random import Random

import msgspec
import pytest

import viewstamp
from tests.process.conftest import MakeGroup
from viewstamp.cli import failures
from viewstamp.core.errors import InvalidCall
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.link.framing import HELLO, encode_frame
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.connecting import connect
from viewstamp.testkit.load import Load, accounts, read_all, wait_for_leader
from viewstamp.testkit.processes import ServerDied, ServerGroup

pytestmark = pytest.mark.process

CLOSES_WITHIN_S = 10.0
WRITES = 200


class Different(viewstamp.StateMachine):
    """Another machine than the one that is served."""

    @viewstamp.command
    def set(self, key: int) -> int:
        return key

    @viewstamp.command
    def explode(self) -> int:
        return 1


def closes(address: Address, data: bytes) -> bool:
    """Send bytes and return whether the server ends the connection."""
    with socket.create_connection(address, timeout=CLOSES_WITHIN_S) as stream:
        try:
            stream.sendall(data)
            while stream.recv(65536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
    return True


def oversized() -> bytes:
    frame = bytearray(encode_frame(HELLO, b""))
    frame[4:8] = (2**31 - 1).to_bytes(4, "little")
    return bytes(frame)


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "zeros": bytes(4096),
    "random": Random(7).randbytes(65536),
    "oversized": oversized(),
    "not a hello": encode_frame(5, b"\x92\x06\x01"),
    "hello of nonsense": encode_frame(HELLO, b"\xff" * 40),
    "deeply nested": encode_frame(HELLO, b"\x91" * 4000),
}


def status_of(answer: Status | str) -> Status:
    assert isinstance(answer, Status), answer
    return answer


async def test_garbage_is_cut_off_and_nobody_else_notices(make_group: MakeGroup) -> None:
    group = make_group(3)
    leader = await wait_for_leader(group)
    async with Load(group) as load:
        await load.more(WRITES)
        for data in GARBAGE.values():
            for address in group.cluster.addresses.values():
                assert await asyncio.to_thread(closes, address, data)
        await load.more(WRITES)
    assert load.ledger.audit(await read_all(group)) == []
    assert load.ledger.unknown == load.ledger.refused == {}
    assert status_of((await accounts(group))[leader.node]).view == leader.view
    for server in group.servers.values():
        assert server.running
        assert "Traceback" not in server.log.read_text()


async def test_wrong_arguments_are_not_executed(make_group: MakeGroup) -> None:
    group = make_group(1)
    async with connect(group.cluster, Different, timeout_s=10.0) as wrong:
        with pytest.raises(InvalidCall, match="set"):
            await wrong.set(5)
        with pytest.raises(InvalidCall, match="explode"):
            await wrong.explode()
    assert await read_all(group) == {}


async def test_node_of_another_cluster_is_not_let_in(make_group: MakeGroup) -> None:
    group = make_group(3)
    load = await write_two_thirds(group)
    stranger = make_group(3, name="stranger", start=False)
    config = msgspec.structs.replace(group.cluster, cluster_id="another")
    stranger.cluster_file.unlink()
    config.save(stranger.cluster_file)
    victim, impostor = group.servers[NodeId(3)], stranger.servers[NodeId(3)]
    victim.kill()
    impostor.start()
    impostor.wait_ready()
    account = status_of((await accounts(stranger_view(stranger, config)))[NodeId(3)])
    assert account.committed == 0
    assert account.leader is None
    assert load.ledger.audit(await read_all(group)) == []
    impostor.kill()


async def write_two_thirds(group: ServerGroup) -> Load:
    await wait_for_leader(group)
    async with Load(group) as load:
        await load.more(WRITES)
    return load


def stranger_view(stranger: ServerGroup, config: viewstamp.runtime.config.ClusterConfig) -> ServerGroup:
    stranger.cluster = config
    return stranger


def test_port_in_use_is_told_in_one_line(make_group: MakeGroup) -> None:
    group = make_group(1, start=False)
    server = group.servers[NodeId(1)]
    with socket.socket() as holder:
        holder.bind(group.cluster.addresses[NodeId(1)])
        holder.listen()
        server.start()
        with pytest.raises(ServerDied, match="in use"):
            server.wait_ready()
        assert server.wait() == failures.CONFIGURATION
