"""A node is admitted that the members list and that proves itself, and no other, whatever the protocol."""

from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from tests.runtime.fakes import until
from tests.runtime.machines import Counter
from viewstamp.core.ids import NodeId
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.runtime.addresses import LOOPBACK, format_address, free_ports
from viewstamp.runtime.config import ClusterConfig, Member, NodeConfig
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.secret_file import make_secret
from viewstamp.runtime.server import Server


@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
@pytest.mark.parametrize("advertises", [False, True])
async def test_a_node_with_the_secret_is_not_admitted_when_its_own_file_alone_lists_it(
    tmp_path: Path, protocol: str, *, advertises: bool
) -> None:
    """Without `--join` its file is its claim; the members' files, or the log, say who belongs to them."""
    make_secret(tmp_path / "secret")
    listed = tuple(Member(node, LOOPBACK, port) for node, port in enumerate(free_ports(4), 1))
    theirs = ClusterConfig(
        cluster_id="closed", members=listed[:3], secret=str(tmp_path / "secret"), protocol=protocol
    )
    own = msgspec.structs.replace(theirs, members=listed)
    place = format_address(own.addresses[NodeId(4)]) if advertises else None
    async with AsyncExitStack() as stack:
        servers = [Server(theirs, node, Counter, NodeConfig()) for node in theirs.node_ids]
        stranger = Server(own, NodeId(4), Counter, NodeConfig(advertise=place))
        for server in servers:
            await server.start()
            stack.push_async_callback(server.stop)
        async with connect(theirs, Counter, timeout_s=60.0) as counter:
            assert await counter.add(1) == 1
            await stranger.start()
            stack.push_async_callback(stranger.stop)
            transport = stranger._transport
            assert transport is not None
            # It is refused by each member, or refuses what each of them says of the members.
            await until(lambda: all(link.refusal for link in transport._links.values()) or _refused(servers))
            assert await counter.add(1) == 2
            await until(lambda: all(set(server.status().members) == {1, 2, 3} for server in servers))


def _refused(servers: list[Server]) -> bool:
    """Return whether each member was refused by somebody."""
    transports = [server._transport for server in servers]
    return all(each is not None and any(link.refusal for link in each._links.values()) for each in transports)
