"""Simulated servers meet by the link of production: hello, welcome, refusal, back-off, and dialling again."""

from itertools import permutations

import msgspec
import pytest

from viewstamp.core.ids import NodeId
from viewstamp.protocols.registry import protocol_definition
from viewstamp.sim.cluster.cluster import Cluster
from viewstamp.sim.workloads.workload import TallyWorkload
from viewstamp.sim.world.options import LoadOptions, NetworkOptions, SwarmOptions
from viewstamp.sim.world.trace import Trace

SECOND_US = 1_000_000
ONE, TWO, THREE = NodeId(0), NodeId(1), NodeId(2)
PAIRS = list(permutations((ONE, TWO, THREE), 2))


def made(protocol: str = "raft", network: NetworkOptions | None = None, seed: int = 1) -> Cluster:
    """Return a cluster of three whose servers are down."""
    options = SwarmOptions(protocol, 3, network=network or NetworkOptions())
    definition = protocol_definition(protocol)
    return Cluster(definition, options, seed, TallyWorkload(LoadOptions()), Trace())


def started(protocol: str = "raft", network: NetworkOptions | None = None) -> Cluster:
    cluster = made(protocol, network)
    for node in cluster.members:
        cluster.start(node)
    return cluster


def pass_us(cluster: Cluster, length_us: int) -> None:
    cluster.world.run_until(cluster.world.now_us + length_us)


def ups(cluster: Cluster) -> list[tuple[NodeId, NodeId]]:
    return [pair for pair in PAIRS if cluster.links.is_up(*pair)]


@pytest.mark.parametrize("protocol", ["raft", "viewstamped"])
def test_every_server_is_welcomed_by_every_other_when_nothing_is_wrong(protocol: str) -> None:
    cluster = started(protocol)
    assert ups(cluster) == []
    pass_us(cluster, SECOND_US)
    assert ups(cluster) == PAIRS
    assert max(cluster.links.dials(*pair) for pair in PAIRS) <= 3


def test_no_message_passes_when_a_hello_is_refused() -> None:
    cluster = made()
    identities = cluster.links.identities
    identities[THREE] = msgspec.structs.replace(identities[THREE], cluster_id="another")
    for node in cluster.members:
        cluster.start(node)
    pass_us(cluster, 5 * SECOND_US)
    assert ups(cluster) == [(ONE, TWO), (TWO, ONE)]
    assert cluster.counts["hellos refused"] > 10
    assert cluster.judge.ghosts.committed.length == 0, "a cluster needs all to begin"


def test_servers_dial_again_when_their_connection_is_reset() -> None:
    cluster = started()
    pass_us(cluster, SECOND_US)
    cluster.reset(ONE, TWO)
    assert cluster.world.run_while(lambda: len(ups(cluster)) > 4, cluster.world.now_us + SECOND_US)
    assert not {(ONE, TWO), (TWO, ONE)} & set(ups(cluster))
    pass_us(cluster, 2 * SECOND_US)
    assert ups(cluster) == PAIRS


def test_dials_are_few_and_the_server_is_met_at_once_when_it_was_down_for_long() -> None:
    cluster = started()
    pass_us(cluster, SECOND_US)
    cluster.crash(THREE)
    before = cluster.links.dials(ONE, THREE)
    pass_us(cluster, 60 * SECOND_US)
    assert 50 <= cluster.links.dials(ONE, THREE) - before <= 130
    cluster.start(THREE)
    pass_us(cluster, SECOND_US // 10)
    assert ups(cluster) == PAIRS, "it dials the others, and they dial the one that called"


def test_handshake_begins_again_when_its_bytes_are_damaged() -> None:
    cluster = started(network=NetworkOptions(corruption=1.0))
    pass_us(cluster, 5 * SECOND_US)
    assert ups(cluster) == []
    assert cluster.counts["handshakes damaged"] > 10
    cluster.network.configure(NetworkOptions())
    pass_us(cluster, 2 * SECOND_US)
    assert ups(cluster) == PAIRS


def test_server_gives_up_and_dials_again_when_the_network_is_cut() -> None:
    cluster = made()
    cluster.network.cut({pair for pair in PAIRS if THREE in pair})
    for node in cluster.members:
        cluster.start(node)
    pass_us(cluster, 10 * SECOND_US)
    assert ups(cluster) == [(ONE, TWO), (TWO, ONE)]
    assert cluster.counts["dials given up"] >= 4
    cluster.network.heal()
    pass_us(cluster, 3 * SECOND_US)
    assert ups(cluster) == PAIRS


def test_handshake_is_given_up_when_the_other_end_dies_within_a_frame() -> None:
    for step_us in range(0, 12_000, 300):
        cluster = started(network=NetworkOptions(delay_min_us=1_000))
        pass_us(cluster, 2_000 + step_us)
        cluster.crash(THREE)
        pass_us(cluster, SECOND_US)
        assert ups(cluster) == [(ONE, TWO), (TWO, ONE)]
        cluster.start(THREE)
        pass_us(cluster, 4 * SECOND_US)
        assert ups(cluster) == PAIRS
        if cluster.counts["connections cut within a frame"]:
            return
    pytest.fail("no connection ended between the two halves of a hello")


def test_connections_are_the_same_when_the_seed_is() -> None:
    def dials(seed: int) -> list[int]:
        cluster = made(seed=seed)
        for node in cluster.members:
            cluster.start(node)
        pass_us(cluster, SECOND_US)
        cluster.crash(TWO)
        pass_us(cluster, 20 * SECOND_US)
        return [cluster.links.dials(node, TWO) for node in (ONE, THREE)]

    assert dials(3) == dials(3)
