"""Operators who change the members: what they ask for happens, and the members that are left serve."""

import pytest

from viewstamp.core.ids import NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.protocols.registry import protocol_definition
from viewstamp.replica.events import Outcome
from viewstamp.sim.cluster.cluster import Cluster
from viewstamp.sim.cluster.operators import make_operator
from viewstamp.sim.faults.faults import FaultInjector
from viewstamp.sim.workloads.clients import Plan, SimClient
from viewstamp.sim.workloads.workload import TallyWorkload
from viewstamp.sim.world.options import LoadOptions, MembershipOptions, SwarmOptions, draw_options
from viewstamp.sim.world.trace import Trace

SECOND_US = 1_000_000
ADD = Plan("command", "add", "k", (1,))


class Adding:
    """A client that adds again and again."""

    answered = 0

    def completed(self, client: SimClient, plan: Plan | None, outcome: Outcome) -> None:
        if plan is not None:
            self.answered += 1
            client.host.world.after(30_000, self.add, client)

    def add(self, client: SimClient) -> None:
        client.invoke(ADD, SECOND_US)


def changed(
    seed: int, *, spares: int, rate: float, seconds: int = 30, protocol: str = "raft"
) -> tuple[Cluster, Adding]:
    """Let some seconds pass in which the members change and nothing else goes wrong."""
    options = SwarmOptions(protocol, 3, membership=MembershipOptions(spares, rate))
    definition, workload = protocol_definition(protocol), TallyWorkload(LoadOptions())
    cluster = Cluster(definition, options, seed, workload, Trace(), make_operator=make_operator)
    injector = FaultInjector(cluster)
    for node in cluster.members:
        cluster.start(node)
    adding = Adding()
    adding.add(cluster.add_client(adding))
    injector.begin()
    cluster.world.run_until(seconds * SECOND_US)
    injector.stop()
    return cluster, adding


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("protocol", ["raft", "viewstamped", "primary_backup"])
def test_members_when_operators_change_them_all_the_time_go_on_serving(protocol: str, seed: int) -> None:
    cluster, adding = changed(seed, spares=4, rate=3.0, protocol=protocol)
    assert cluster.judge.ghosts.committed.length > 200
    assert adding.answered > 200
    assert cluster.judge.rare["member removed"] > 5
    listed = cluster.judge.listed()
    assert listed is not None
    assert set(listed) != set(cluster.first_members), "nobody was changed"


def test_spare_when_nobody_adds_it_does_nothing() -> None:
    cluster, _ = changed(1, spares=2, rate=0.0, seconds=5)
    assert set(cluster.judge.listed() or ()) == set(cluster.first_members)
    assert cluster.processes[NodeId(4)].running


def test_removal_when_the_ghosts_do_not_know_of_it_is_a_violation() -> None:
    cluster, _ = changed(1, spares=0, rate=0.0, seconds=5)
    with pytest.raises(InvariantViolated, match="takes itself for removed"):
        cluster.removed(NodeId(1))


def test_members_are_changed_only_where_the_protocol_can() -> None:
    for protocol, can in (("raft", True), ("viewstamped", True), ("primary_backup_course", False)):
        guarantees = protocol_definition(protocol).guarantees
        drawn = [draw_options(protocol, guarantees, seed).membership.rate for seed in range(20)]
        assert any(drawn) == can
