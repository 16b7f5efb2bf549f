from collections.abc import Iterator

import msgspec
import pytest

import viewstamp
from tests.runtime.machines import Counter
from viewstamp.core.errors import NotExecuted
from viewstamp.core.events import TakeSnapshot, TransferLeadership
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.runtime.local import BlockingLocalCluster, local_cluster
from viewstamp.runtime.operator import cluster_status, direct


@pytest.fixture
def cluster() -> Iterator[BlockingLocalCluster[Counter]]:
    with local_cluster(Counter) as made:
        made.leader()
        yield made


def test_every_node_gives_its_account(cluster: BlockingLocalCluster[Counter]) -> None:
    accounts = cluster_status(cluster.config)
    assert list(accounts) == list(cluster.config.node_ids)
    statuses = [account for account in accounts.values() if isinstance(account, Status)]
    assert sorted(status.role for status in statuses) == ["follower", "follower", "leader"]


def test_missing_node_is_named_with_a_reason_when_it_is_down(cluster: BlockingLocalCluster[Counter]) -> None:
    cluster.kill(1)
    # On a busy machine the others' answers may come after the call has ended.
    while not isinstance((accounts := cluster_status(cluster.config, timeout_s=1))[NodeId(0)], Status):
        assert isinstance(accounts[NodeId(1)], str)
    account = accounts[NodeId(1)]
    assert account == "it cannot be reached"  # who that is says the key


def test_refusal_is_told_when_the_cluster_is_another(cluster: BlockingLocalCluster[Counter]) -> None:
    other = msgspec.structs.replace(cluster.config, cluster_id="other")
    refused = "refused this client: this is cluster 'local', not 'other'"
    told = {node: f"it cannot be reached; node {node} {refused}" for node in other.node_ids}
    # On a busy machine a refusal may come after the call has ended.
    while (accounts := cluster_status(other, timeout_s=0.5)) != told:
        assert all(told[node].startswith(str(account)) for node, account in accounts.items())
    with viewstamp.connect_blocking(other, Counter, timeout_s=0.5) as counter:
        explanation = ""
        while refused not in explanation:
            with pytest.raises(NotExecuted) as ended:
                counter.add(1)
            explanation = str(ended.value)


def test_leadership_moves_when_it_is_transferred(cluster: BlockingLocalCluster[Counter]) -> None:
    leader = cluster.leader()
    other = NodeId((leader + 1) % 3)
    assert direct(cluster.config, leader, TransferLeadership(other)) is None
    assert cluster.leader() == other


def test_directive_is_refused_with_a_reason_when_the_node_cannot_follow_it(
    cluster: BlockingLocalCluster[Counter],
) -> None:
    follower = NodeId((cluster.leader() + 1) % 3)
    assert direct(cluster.config, follower, TransferLeadership(None))


def test_snapshot_is_taken_when_an_operator_asks(cluster: BlockingLocalCluster[Counter]) -> None:
    with cluster.connect() as counter:
        counter.add(1)
    leader = cluster.leader()
    assert direct(cluster.config, leader, TakeSnapshot()) is None
    assert cluster.statuses()[leader].snapshot > 0


def test_directive_ends_in_time_when_the_node_is_down(cluster: BlockingLocalCluster[Counter]) -> None:
    cluster.kill(2)
    with pytest.raises(NotExecuted, match="2"):
        direct(cluster.config, NodeId(2), TakeSnapshot(), timeout_s=0.5)
