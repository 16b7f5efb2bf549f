import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

import viewstamp
import viewstamp.runtime.client as client_module
from tests.runtime.fakes import LATE_S, cluster_of, until
from tests.runtime.machines import Counter, Empty, Greeter
from viewstamp.core.errors import CommandFailed, ConfigurationError, InvalidCall, NotExecuted, OutcomeUnknown
from viewstamp.core.events import TransferLeadership
from viewstamp.runtime.addresses import format_address, free_ports
from viewstamp.runtime.client import AsyncClient
from viewstamp.runtime.client_base import CLIENT_LIMITS
from viewstamp.runtime.local import LocalCluster, local_cluster
from viewstamp.runtime.proxies import binding_of


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster[Counter]]:
    async with local_cluster(Counter) as made:
        yield made


async def test_calls_return_what_the_machine_returns(cluster: LocalCluster[Counter]) -> None:
    async with cluster.connect() as counter:
        assert await counter.add(3) == 3
        assert await counter.add(amount=4) == 7
        assert await counter.add() == 8
        assert await counter.read() == 8


async def test_cluster_is_found_when_one_address_is_known(cluster: LocalCluster[Counter]) -> None:
    known = format_address(next(iter(cluster.config.addresses.values())))
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    async with viewstamp.connect([nobody, known], Counter) as counter:
        assert await counter.add(1) == 1
    counter = await viewstamp.connect(f"{nobody},{known}", Counter)
    assert await counter.add(1) == 2
    await viewstamp.close(counter)


async def test_machine_exception_is_raised_when_it_was_declared(cluster: LocalCluster[Counter]) -> None:
    async with cluster.connect() as counter:
        await counter.add(5)
        with pytest.raises(Empty, match="only 5 left"):
            await counter.take(6)
        with pytest.raises(CommandFailed) as caught:
            await counter.explode()
        assert (caught.value.kind, caught.value.explanation) == ("ZeroDivisionError", "boom")
        assert await counter.take(5) == 0


async def test_call_is_refused_when_its_arguments_are_wrong(cluster: LocalCluster[Counter]) -> None:
    async with cluster.connect() as counter:
        with pytest.raises(InvalidCall, match="Expected `int`"):
            await counter.add("three")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await counter.add(1, 2)  # type: ignore[call-arg]
        with pytest.raises(AttributeError):
            await counter.subtract(1)  # type: ignore[attr-defined]
        assert await counter.read() == 0


async def test_every_call_has_its_own_result_when_a_thousand_are_open(cluster: LocalCluster[Counter]) -> None:
    async with cluster.connect() as counter:
        results = await asyncio.gather(*(counter.add(1) for _ in range(1000)))
        assert sorted(results) == list(range(1, 1001))


async def test_calls_of_one_turn_travel_in_one_message(cluster: LocalCluster[Counter]) -> None:
    async with cluster.connect() as counter:
        await counter.add(1)
        before = sum(server.metrics.client_messages_in for server in cluster.servers.values())
        await asyncio.gather(*(counter.add(1) for _ in range(1000)))
        after = sum(server.metrics.client_messages_in for server in cluster.servers.values())
        assert after - before <= 2


async def test_other_calls_go_on_when_one_is_cancelled(cluster: LocalCluster[Counter]) -> None:
    async with cluster.connect() as counter:
        await counter.add(0)
        kept = [asyncio.ensure_future(counter.add(1)) for _ in range(5)]
        given_up = asyncio.create_task(_awaited(counter.add(1)))
        kept += [asyncio.ensure_future(counter.add(1)) for _ in range(5)]
        await asyncio.sleep(0)
        given_up.cancel()
        assert len(set(await asyncio.gather(*kept))) == 10
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert await counter.read() in {10, 11}
        caller = binding_of(counter).caller
        assert isinstance(caller, AsyncClient)
        assert caller._calls == {}


async def test_nothing_is_kept_of_a_call_when_it_is_cancelled() -> None:
    async with viewstamp.connect(cluster_of(*free_ports(3)), Counter) as counter:
        call = asyncio.create_task(_awaited(counter.add(1)))
        await asyncio.sleep(0.01)
        caller = binding_of(counter).caller
        assert isinstance(caller, AsyncClient)
        assert caller._core is not None
        assert caller._core.open_calls == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert caller._core.open_calls == 0
        assert caller._calls == {}


async def _awaited(call: object) -> None:
    await call  # type: ignore[misc]


@pytest.mark.parametrize("timeout_s", [0.2, 0.7])
async def test_call_ends_by_its_deadline_and_names_the_nodes_when_nobody_is_there(timeout_s: float) -> None:
    cluster = cluster_of(*free_ports(3))
    async with viewstamp.connect(cluster, Counter, timeout_s=timeout_s) as counter:
        begun = time.monotonic()
        with pytest.raises(NotExecuted, match=r"(?s)1.*2.*3"):
            await counter.add(1)
        assert timeout_s - 0.01 <= time.monotonic() - begun <= timeout_s + LATE_S


async def test_call_ends_by_its_deadline_as_unknown_when_the_quorum_is_lost(
    cluster: LocalCluster[Counter],
) -> None:
    async with cluster.connect(timeout_s=20) as counter:
        await counter.add(1)
        leader = await cluster.leader()
        others = [node for node in cluster.config.node_ids if node != leader]
        for node in others:
            await cluster.kill(node)
        begun = time.monotonic()
        impatient = viewstamp.with_options(counter, timeout_s=0.5)
        with pytest.raises(OutcomeUnknown):
            await impatient.add(1)
        with pytest.raises((NotExecuted, OutcomeUnknown)):
            await viewstamp.with_options(counter, timeout_s=0.3).read()
        assert time.monotonic() - begun <= 0.5 + 0.3 + LATE_S
        for node in others:
            await cluster.restart(node)
        assert await counter.add(1) in {2, 3}


async def test_stale_read_is_answered_when_there_is_no_quorum(cluster: LocalCluster[Counter]) -> None:
    async with cluster.connect() as counter:
        await counter.add(7)
        leader = await cluster.leader()
        for node in [node for node in cluster.config.node_ids if node != leader]:
            await cluster.kill(node)
        stale = viewstamp.with_options(counter, reads="stale", timeout_s=20)
        assert await stale.read() == 7


async def test_nothing_is_lost_or_duplicated_when_the_leader_is_killed_under_load(
    cluster: LocalCluster[Counter],
) -> None:
    async with cluster.connect(timeout_s=20) as counter:

        async def load() -> None:
            for _ in range(100):
                await counter.add(1)

        tasks = [asyncio.create_task(load()) for _ in range(10)]
        await counter.add(0)
        leader = await cluster.leader()
        await cluster.kill(leader)
        await asyncio.gather(*tasks)
        assert await counter.read() == 1000
        await cluster.restart(leader)
        await until(lambda: cluster.statuses()[leader].applied >= 1)
        assert await counter.read() == 1000


async def test_server_that_was_away_is_dialled_at_once_when_it_is_named_as_the_leader(
    cluster: LocalCluster[Counter], monkeypatch: pytest.MonkeyPatch
) -> None:
    never = msgspec.structs.replace(CLIENT_LIMITS, backoff_min_ms=60_000, backoff_max_ms=60_000)
    monkeypatch.setattr(client_module, "CLIENT_LIMITS", never)
    async with cluster.connect(timeout_s=20) as counter:
        await counter.add(1)
        leader = await cluster.leader()
        away = next(node for node in cluster.servers if node != leader)
        client = binding_of(counter).caller
        assert isinstance(client, AsyncClient)
        await cluster.kill(away)
        await until(lambda: client.trouble(away) != "")
        await cluster.restart(away)
        await until(lambda: cluster.statuses()[away].leader == leader)
        assert await cluster.servers[leader].direct(TransferLeadership(away)) is None
        assert await counter.add(1) == 2
        assert client.trouble(away) == ""


async def test_servers_that_are_away_are_dialled_at_once_when_another_connection_breaks(
    cluster: LocalCluster[Counter], monkeypatch: pytest.MonkeyPatch
) -> None:
    never = msgspec.structs.replace(CLIENT_LIMITS, backoff_min_ms=60_000, backoff_max_ms=60_000)
    monkeypatch.setattr(client_module, "CLIENT_LIMITS", never)
    async with cluster.connect(timeout_s=20) as counter:
        await counter.add(1)
        leader = await cluster.leader()
        away = next(node for node in cluster.servers if node != leader)
        client = binding_of(counter).caller
        assert isinstance(client, AsyncClient)
        await cluster.kill(away)
        await until(lambda: client.trouble(away) != "")
        await cluster.restart(away)
        await cluster.kill(leader)
        await until(lambda: client.trouble(away) == "")
        assert await counter.add(1) == 2


async def test_one_way_message_arrives_when_the_machine_notifies() -> None:
    heard: list[str] = []

    def notified(payload: bytes) -> None:
        heard.append(msgspec.msgpack.decode(payload, type=str))

    async with (
        local_cluster(Greeter, replicas=1) as cluster,
        viewstamp.connect(cluster.config, Greeter, notified=notified) as greeter,
    ):
        await greeter.greet("hello")
        await until(lambda: heard == ["hello"])


async def test_discovery_ends_in_time_when_nobody_answers() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    begun = time.monotonic()
    with pytest.raises(NotExecuted, match=rf"(?s)no server answered.*{address}: connection refused"):
        await viewstamp.connect(address, Counter, timeout_s=0.3)
    assert time.monotonic() - begun <= 0.3 + LATE_S


async def test_discovery_says_what_is_wrong_when_another_protocol_answers() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(NotExecuted, match="not of this protocol"):
        await viewstamp.connect(f"127.0.0.1:{port}", Counter, timeout_s=0.3)
    server.close()
    await server.wait_closed()


async def test_open_calls_end_when_the_client_is_closed() -> None:
    cluster = cluster_of(*free_ports(3))
    counter = await viewstamp.connect(cluster, Counter)
    call = asyncio.ensure_future(counter.add(1))
    await asyncio.sleep(0)
    await viewstamp.close(counter)
    await viewstamp.close(counter)
    with pytest.raises(NotExecuted):
        await call
    with pytest.raises(NotExecuted, match="closed"):
        await counter.add(1)


async def test_client_is_refused_when_it_means_another_cluster(cluster: LocalCluster[Counter]) -> None:
    other = msgspec.structs.replace(cluster.config, cluster_id="other")
    async with viewstamp.connect(other, Counter, timeout_s=0.5) as counter:
        told, refused = "", "nodes 0, 1, 2 refused this client: this is cluster 'local'"
        while refused not in told:  # on a busy machine a refusal may come after the call has ended
            with pytest.raises(NotExecuted) as ended:
                await counter.add(1)
            told = str(ended.value)
        caller = binding_of(counter).caller
        assert isinstance(caller, AsyncClient)
        assert "this is cluster 'local', not 'other'" in caller.trouble(caller.servers[0])


@pytest.mark.parametrize("where", ["", "nonsense", "host:99999", "none.toml", []])
def test_connect_is_refused_when_where_is_no_cluster(where: str) -> None:
    with pytest.raises(ConfigurationError):
        viewstamp.connect(where, Counter)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_connect_is_refused_when_its_timeout_makes_no_sense(timeout_s: float) -> None:
    for connect in (viewstamp.connect, viewstamp.connect_blocking):
        with pytest.raises(ConfigurationError, match="timeout_s is"):
            connect("127.0.0.1:1", Counter, timeout_s=timeout_s)


async def test_nothing_is_left_when_cluster_and_clients_are_closed() -> None:
    before = asyncio.all_tasks()
    async with local_cluster(Counter) as cluster, cluster.connect() as counter:
        await counter.add(1)
    await until(lambda: asyncio.all_tasks() == before)
