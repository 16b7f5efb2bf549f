"""Clusters in this process that offer locks beside the key/value store, one for each protocol."""

from collections.abc import Iterator

import pytest

from viewstamp.machine.state_machine import StateMachine
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.runtime.local import BlockingLocalCluster, local_cluster
from viewstamp.services.stock import StockService

Stock = BlockingLocalCluster[StateMachine]


@pytest.fixture(scope="module", params=PROTOCOL_NAMES)
def stock(request: pytest.FixtureRequest) -> Iterator[Stock]:
    with local_cluster(StockService, protocol=request.param) as running:
        running.leader()
        yield running
