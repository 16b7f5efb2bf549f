"""Clients stay with the process that made them."""

import asyncio

import pytest

from tests.forking import in_child
from tests.runtime.fakes import cluster_of
from tests.runtime.machines import Counter
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.blocking import BlockingClient
from viewstamp.runtime.client import AsyncClient
from viewstamp.runtime.local import local_cluster

pytestmark = pytest.mark.process

REFUSED = "NotExecuted('the client was made before fork, and is the parent\\'s: make one in this process')"


def test_a_child_calls_nothing_through_its_parents_client() -> None:
    with local_cluster(Counter, replicas=1) as cluster, cluster.connect() as counter:
        assert counter.add(1) == 1
        for _ in range(3):
            assert in_child(lambda: counter.add(10)).replace('"', "'") == REFUSED.replace("\\'", "'")
            assert counter.add(1) > 0
        assert counter.read() == 4


def test_closing_in_a_child_closes_nothing_of_its_parents() -> None:
    with local_cluster(Counter, replicas=1) as cluster:
        connection = cluster.connect()
        assert connection.proxy.add(1) == 1
        assert in_child(connection.close) == "None"
        assert connection.proxy.add(1) == 2
        connection.close()


def test_a_lock_that_a_thread_of_the_parent_has_stops_no_child() -> None:
    client = BlockingClient(cluster_of(*free_ports(3)))
    with client._changed:
        refused = in_child(lambda: client.set_session_time_to_live(1.0))
        assert in_child(client.close) == "None"
    assert "made before fork" in refused
    client.close()


async def test_a_client_on_a_loop_is_refused_in_a_child_too() -> None:
    client = AsyncClient(cluster_of(*free_ports(3)))
    await client.start()

    def use() -> object:
        asyncio.events._set_running_loop(None)
        return client.invoke("command", b"")

    assert "made before fork" in in_child(use)
    assert not client.is_closed
    await client.close()
