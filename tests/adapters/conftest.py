"""A cluster in this process, and clients of its store."""

from collections.abc import Iterator

import pytest

from viewstamp.clients.coordination_blocking import BlockingCoordination
from viewstamp.machine.state_machine import StateMachine
from viewstamp.runtime.local import BlockingLocalCluster, local_cluster
from viewstamp.services.stock import StockService

Stock = BlockingLocalCluster[StateMachine]


@pytest.fixture(scope="module")
def stock() -> Iterator[Stock]:
    with local_cluster(StockService) as running:
        running.leader()
        yield running


@pytest.fixture
def store(stock: Stock) -> Iterator[BlockingCoordination]:
    """A client of the store, whose keys are gone when the test begins."""
    with BlockingCoordination(stock.config, timeout_s=30) as client:
        client.kv.delete(prefix="")
        yield client
