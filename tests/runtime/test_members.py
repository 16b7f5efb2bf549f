"""Members that change while servers and clients run, in one process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.runtime.fakes import cluster_of, quick_config, until
from tests.runtime.machines import Counter
from viewstamp.cli.init import init
from viewstamp.clients.lock_driver import LockTimeout
from viewstamp.clients.locks import LockClient
from viewstamp.core.errors import ConfigurationError, NodeRemoved, NotExecuted, OutcomeUnknown
from viewstamp.core.ids import NodeId
from viewstamp.machine.state_machine import StateMachine
from viewstamp.runtime import joining, members
from viewstamp.runtime.addresses import Address, format_address, free_ports
from viewstamp.runtime.cluster_health import assess
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.connecting import connect, connect_blocking
from viewstamp.runtime.proxies import binding_of
from viewstamp.runtime.server import Server
from viewstamp.services.locks import LockService

SLOW_S = 20.0


class Town:
    """Servers of one cluster that come and go."""

    def __init__(
        self, folder: Path, machine: type[StateMachine] = Counter, *, protocol: str = "raft"
    ) -> None:
        self.folder = folder
        self.machine = machine
        self.cluster = cluster_of(*free_ports(3), protocol=protocol)
        self.servers: dict[int, Server] = {}
        self.file: Path | None = None
        """By which operators go; None: by the address of one member."""
        self.where: dict[int, Address] = {int(node): at for node, at in self.cluster.addresses.items()}

    async def start(self, node: int) -> Server:
        """Start a member that the cluster file lists."""
        config = quick_config(data=str(self.folder / f"data{node}"), segment_bytes=1 << 20)
        server = self.servers[node] = Server(self.cluster, NodeId(node), self.machine, config)
        await server.start()
        return server

    async def join(self, node: int | None = None, seed: int = 1, listed: ClusterConfig | None = None) -> int:
        """Start a node that waits to be added, and has this cluster file; return its id."""
        listen = "127.0.0.1", free_ports(1)[0]
        data = self.folder / f"data{listen[1]}"
        joined = await asyncio.to_thread(
            joining.join, self.where[seed], data, node=node, listen=listen, listed=listed
        )
        config = quick_config(data=str(data), segment_bytes=1 << 20, advertise=format_address(listen))
        server = Server(joined.cluster, NodeId(joined.node), self.machine, config, joining=True)
        self.servers[joined.node] = server
        self.where[joined.node] = listen
        await server.start()
        joining.keep(data, joined)
        return joined.node

    async def do(self, change: Callable[..., Any], *arguments: Any, via: int = 1, **options: Any) -> Any:
        """Let an operator ask, by the address of one member or by the cluster file."""
        if self.file is not None:
            return await asyncio.to_thread(change, self.file, *arguments, **options)
        return await asyncio.to_thread(change, [format_address(self.where[via])], *arguments, **options)

    async def voters(self, via: int = 1) -> list[int]:
        found = await self.do(members.members, via=via)
        known = found.membership
        return [] if known.outgoing else [node for node, _ in known.voters]

    async def wait_for(self, *wanted: int, via: int = 1) -> None:
        async with asyncio.timeout(SLOW_S):
            while await self.voters(via) != list(wanted):  # noqa: ASYNC110  what another thread finds out
                await asyncio.sleep(0.05)


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with running(Town(tmp_path)) as made:
        yield made


@pytest.fixture
async def initial(tmp_path: Path) -> AsyncIterator[Town]:
    """A cluster as `viewstamp init` makes it, with a secret of its own beside its file."""
    made = Town(tmp_path)
    made.file = tmp_path / "prod.toml"
    init(made.file, members=",".join(format_address(at) for at in made.where.values()))
    made.cluster = ClusterConfig.load(made.file)
    assert made.cluster.secret is not None
    async with running(made):
        yield made


@asynccontextmanager
async def running(made: Town) -> AsyncIterator[Town]:
    """Start the three members that the file lists, and stop everything at the end."""
    async with AsyncExitStack() as stack:

        async def stop() -> None:
            await asyncio.gather(*(server.stop() for server in made.servers.values()))

        stack.push_async_callback(stop)
        for node in (1, 2, 3):
            await made.start(node)
        yield made


async def test_node_when_it_joined_and_was_added_votes_and_clients_know_it(town: Town) -> None:
    async with connect(town.cluster, Counter, timeout_s=SLOW_S) as counter:
        assert await counter.add(1) == 1
        node = await town.join()
        assert node == 4
        done = await town.do(members.add_member, town.where[4])
        assert done.membership.settled
        await town.wait_for(1, 2, 3, 4)
        client: Any = binding_of(counter).caller
        await until(lambda: 4 in client.servers, timeout_s=SLOW_S)
        assert client._members_at >= done.membership.changed_at
        assert await counter.add(1) == 2
    with pytest.raises(ConfigurationError, match=r"node 4 at .* votes: nothing was changed"):
        await town.do(members.replace_members, [(NodeId(2), town.where[4])])
    with pytest.raises(ConfigurationError, match=r"node 3 is found at .*: nobody was told"):
        await town.do(members.move_member, NodeId(2), town.where[3])
    assert await town.voters() == [1, 2, 3, 4]


async def test_cluster_when_it_was_made_by_init_grows_by_a_node_that_has_its_file(initial: Town) -> None:
    assert await initial.join(listed=initial.cluster) == 4
    done = await initial.do(members.add_member, initial.where[4])
    assert (NodeId(4) in [node for node, _ in done.membership.voters]) or done.membership.learners
    await initial.wait_for(1, 2, 3, 4)
    await initial.servers[4].stop()
    data = initial.folder / f"data{initial.where[4][1]}"
    nobody = "127.0.0.1", free_ports(1)[0]
    for seed in (nobody, initial.where[1]):  # it keeps where the secret is
        again = await asyncio.to_thread(joining.join, seed, data, node=None, listen=None)
        assert again.cluster.secret == initial.cluster.secret


async def test_node_when_it_joins_without_the_secret_says_what_is_missing_in_its_log(
    initial: Town, caplog: pytest.LogCaptureFixture
) -> None:
    await initial.join()
    await until(lambda: "has not shown that it has the same secret" in caplog.text, timeout_s=SLOW_S)
    (line, *_) = [each for each in caplog.messages if "same secret" in each]
    assert "--cluster FILE" in line
    with pytest.raises(OutcomeUnknown, match=r"node 4 was added, and .* has not heard it within .*remove 4`"):
        await initial.do(members.add_member, initial.where[4], timeout_s=2.0)
    assert await initial.voters() == [1, 2, 3]


async def test_node_when_its_file_is_that_of_another_cluster_does_not_join(initial: Town) -> None:
    other = msgspec.structs.replace(initial.cluster, cluster_id="other")
    with pytest.raises(ConfigurationError, match="the cluster file is that of 'other'"):
        await initial.join(listed=other)


@pytest.mark.parametrize("protocol", ["raft", "viewstamped", "primary_backup"])
async def test_clients_when_all_members_are_replaced_go_on(tmp_path: Path, protocol: str) -> None:
    async with running(Town(tmp_path, protocol=protocol)) as town:
        await replace_all(town)


async def replace_all(town: Town) -> None:
    """A client, a blocking one too, that knew only members that are gone now."""
    blocking = connect_blocking(town.cluster, Counter, timeout_s=SLOW_S)
    async with connect(town.cluster, Counter, timeout_s=SLOW_S) as counter:
        assert await counter.add(1) == 1
        assert await asyncio.to_thread(blocking.proxy.add, 1) == 2
        for node in (4, 5, 6):
            await town.join(node)
        pairs = [(NodeId(old), town.where[new]) for old, new in ((1, 4), (2, 5), (3, 6))]
        await town.do(members.replace_members, pairs)
        await town.wait_for(4, 5, 6, via=4)
        for node in (1, 2, 3):
            server = town.servers[node]
            await until(lambda server=server: isinstance(server.failure, NodeRemoved), timeout_s=SLOW_S)  # type: ignore[misc]
        assert await counter.add(1) == 3
        assert await asyncio.to_thread(blocking.proxy.add, 1) == 4
    await asyncio.to_thread(blocking.close)


async def test_directory_when_its_node_was_removed_says_so_at_the_next_start(town: Town) -> None:
    await town.do(members.remove_members, [NodeId(2)])
    await until(lambda: isinstance(town.servers[2].failure, NodeRemoved), timeout_s=SLOW_S)
    await town.servers.pop(2).stop()
    with pytest.raises(NodeRemoved, match="node 2 was removed from the cluster at"):
        await town.start(2)
    del town.servers[2]
    done = await town.do(members.remove_members, [NodeId(2)])  # repeated, it changes nothing
    assert [node for node, _ in done.membership.voters] == [1, 3]


async def test_node_when_it_joined_before_starts_again_without_a_seed(town: Town) -> None:
    await town.join(4)
    await town.do(members.add_member, town.where[4])
    await town.wait_for(1, 2, 3, 4)
    data = town.folder / f"data{town.where[4][1]}"
    await town.servers[4].stop()
    nobody = "127.0.0.1", free_ports(1)[0]
    again = await asyncio.to_thread(joining.join, nobody, data, node=None, listen=None)
    assert again.node == 4
    assert again.cluster.addresses[NodeId(4)] == town.where[4]
    config = quick_config(data=str(data), segment_bytes=1 << 20, advertise=format_address(town.where[4]))
    server = town.servers[4] = Server(again.cluster, NodeId(4), Counter, config, joining=True)
    await server.start()
    await until(lambda: server.status().role in {"follower", "leader"}, timeout_s=SLOW_S)
    with pytest.raises(ConfigurationError, match="belongs to node 4"):
        await asyncio.to_thread(joining.join, town.where[1], data, node=7, listen=None)


async def test_join_when_nobody_answers_or_no_address_is_given_is_refused(town: Town) -> None:
    nobody = "127.0.0.1", free_ports(1)[0]
    with pytest.raises(ConfigurationError, match="no member answers at"):
        await asyncio.to_thread(joining.join, nobody, town.folder / "x", node=4, listen=nobody)
    with pytest.raises(ConfigurationError, match="--listen HOST:PORT"):
        await asyncio.to_thread(joining.join, town.where[1], town.folder / "x", node=4, listen=None)
    with pytest.raises(ConfigurationError, match="node 2 is a member already"):
        await asyncio.to_thread(joining.join, town.where[1], town.folder / "x", node=2, listen=nobody)


async def test_change_when_it_would_stop_the_cluster_is_refused_with_the_reason(town: Town) -> None:
    status = await town.do(members.members)
    dead = next(node for node in (1, 2, 3) if node != status.leader)
    alive = next(node for node in (1, 2, 3) if node not in {dead, status.leader})
    await town.servers[dead].stop()
    leader = town.servers[int(status.leader)]
    await until(lambda: (leader.status().peers[0].heard_us_ago or 0) > 700_000
                or (leader.status().peers[1].heard_us_ago or 0) > 700_000, timeout_s=SLOW_S)  # fmt: skip
    with pytest.raises(NotExecuted, match=f"without node {alive} the cluster would stop, since node {dead}"):
        await town.do(members.remove_members, [NodeId(alive)], via=alive)


async def test_address_when_an_operator_moves_a_member_is_told_without_a_quorum(town: Town) -> None:
    for node in (2, 3):
        await town.servers[node].stop()
    told = await town.do(members.move_member, NodeId(3), ("127.0.0.1", 9))
    assert told == [1]
    known = await asyncio.to_thread(members.cluster_of, [format_address(town.where[1])])
    assert known.addresses[NodeId(3)] == ("127.0.0.1", 9)


async def test_cluster_when_all_its_addresses_changed_at_once_forms_again(town: Town) -> None:
    async with connect(town.cluster, Counter, timeout_s=SLOW_S) as counter:
        assert await counter.add(5) == 5
    for node in (1, 2, 3):
        await town.servers[node].stop()
    town.cluster = cluster_of(*free_ports(3))
    town.where = {int(node): at for node, at in town.cluster.addresses.items()}
    for node in (1, 2, 3):
        await town.start(node)
    async with connect(town.cluster, Counter, timeout_s=SLOW_S) as counter:
        assert await counter.add(1) == 6


async def test_lock_client_when_all_members_are_replaced_goes_on_and_waits_no_longer_than_it_said(
    tmp_path: Path,
) -> None:
    town = Town(tmp_path, LockService)
    async with running(town), LockClient(town.cluster, part="", timeout_s=SLOW_S) as locks:
        async with locks.hold("door", timeout_s=SLOW_S):
            pass
        for node in (4, 5, 6):
            await town.join(node)
        pairs = [(NodeId(old), town.where[new]) for old, new in ((1, 4), (2, 5), (3, 6))]
        await town.do(members.replace_members, pairs)
        await town.wait_for(4, 5, 6, via=4)
        await until(lambda: all(town.servers[node].failure for node in (1, 2, 3)), timeout_s=SLOW_S)
        async with locks.hold("window", timeout_s=SLOW_S) as held:
            assert held.token > 0
        for node in (4, 5, 6):
            await town.servers[node].stop()
        with pytest.raises(LockTimeout, match=r"was not acquired within 0\.3 s"):
            async with locks.hold("gate", timeout_s=0.3):
                pass


async def test_account_of_a_cluster_when_its_file_is_older_than_a_change_is_that_of_its_members(
    initial: Town,
) -> None:
    initial.file = None
    for old, node in ((1, 4), (2, 5)):
        assert await initial.join(node, seed=3, listed=initial.cluster) == node
        initial.file = initial.folder / "prod.toml"
        await initial.do(members.replace_members, [(NodeId(old), initial.where[node])])
        await until(lambda old=old: not initial.servers[old].running, timeout_s=SLOW_S)  # type: ignore[misc]

    def look() -> tuple[ClusterConfig, dict[NodeId, Any], str]:
        return members.ask_members(initial.cluster)

    async with asyncio.timeout(SLOW_S):
        now, accounts, difference = await asyncio.to_thread(look)
        while assess(accounts, tolerates="minority").word != "healthy":
            now, accounts, difference = await asyncio.to_thread(look)
    assert sorted(accounts) == sorted(now.addresses) == [3, 4, 5]
    assert difference.startswith("the cluster file lists nodes 1, 2, 3, and the members are 3, 4, 5: ")
