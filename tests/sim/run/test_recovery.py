"""What `recover plan` says against the ghosts: kept for certain is kept, what is lost may be lost."""

from itertools import combinations
from random import Random

import pytest

from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.registry import journal_of, protocol_definition
from viewstamp.protocols.replication.recovery import Survivor, find
from viewstamp.replica.events import Outcome
from viewstamp.sim.cluster.cluster import Cluster
from viewstamp.sim.cluster.operators import make_operator
from viewstamp.sim.faults.faults import FaultInjector
from viewstamp.sim.workloads.clients import Plan, SimClient
from viewstamp.sim.workloads.workload import TallyWorkload
from viewstamp.sim.world.options import LoadOptions, draw_options
from viewstamp.sim.world.process import CLUSTER_ID, DATA_PATH
from viewstamp.sim.world.trace import Trace
from viewstamp.storage.directory import open_data_directory

SECOND_US = 1_000_000
ADD = Plan("command", "add", "k", (1,))
SEEDS = 25


class Adding:
    """A client that adds again and again."""

    def completed(self, client: SimClient, plan: Plan | None, outcome: Outcome) -> None:
        if plan is not None:
            client.host.world.after(20_000, self.add, client)

    def add(self, client: SimClient) -> None:
        client.invoke(ADD, SECOND_US)


def disaster(protocol: str, seed: int) -> tuple[Cluster, dict[NodeId, Survivor]]:
    """Let a cluster run through faults that lose no disk, then stop all; return what each disk holds."""
    definition = protocol_definition(protocol)
    options = draw_options(protocol, definition.guarantees, seed, nodes=3, duration_us=4 * SECOND_US)
    cluster = Cluster(
        definition, options, seed, TallyWorkload(LoadOptions()), Trace(), make_operator=make_operator
    )
    injector = FaultInjector(cluster)
    for node in cluster.members:
        cluster.start(node)
    adding = Adding()
    adding.add(cluster.add_client(adding))
    cluster.world.run_until(2 * SECOND_US)
    injector.begin()
    injector.atlas.lost |= set(cluster.members[:1])  # what a wiped disk held is another matter
    cluster.world.run_until(6 * SECOND_US)
    injector.stopped = True
    rng = Random(seed)
    known: dict[NodeId, int] = {}
    for node in list(cluster.running):
        process = cluster.processes[node]
        if process.replica is not None:  # what it wrote down may be a moment old
            known[node] = rng.randint(0, process.replica.status(process.now).committed)
        cluster.crash(node, power=rng.random() < 0.5)
    read = journal_of(protocol).read_survivor
    survivors = {}
    for node, process in cluster.processes.items():
        if process.files.rotten or cluster.judge.ghosts.nodes[node].losses:
            continue
        process.steady()  # what was lost stays lost, but a disk that fails while it is read is another matter
        opened = open_data_directory(
            process.files, DATA_PATH, cluster_id=CLUSTER_ID, node=node, incarnation=Incarnation(0)
        )
        survivors[node] = read(opened.recovered, node, opened.identity.incarnation, known.get(node, 0))
        opened.close()
    return cluster, survivors


@pytest.mark.parametrize("protocol", ["raft", "viewstamped", "primary_backup"])
def test_plan_is_true_whichever_disks_are_left(protocol: str) -> None:
    judged = lost = complete = 0
    for seed in range(SEEDS):
        cluster, survivors = disaster(protocol, seed)
        committed = cluster.judge.ghosts.committed
        for size in (1, 2):
            for nodes in combinations(sorted(survivors), size):
                found = find([survivors[node] for node in nodes])
                taken = survivors[found.taken]
                assert found.certain <= committed.length, (seed, nodes)
                held = [taken.holds(committed.viewstamp(place)) for place in range(1, committed.length + 1)]
                assert all(held[: found.certain]), (seed, nodes, "what was certain is lost")
                lost += not all(held)
                judged += 1
                if found.complete and taken.view == max(each.view for each in survivors.values()):
                    complete += 1
                    assert len(survivors) < len(cluster.members) or all(held), (seed, nodes, "not complete")
    assert judged > 40
    if protocol == "raft":
        assert lost > 0, "a minority that lost nothing in any seed shows nothing"
    else:
        assert complete > 0
