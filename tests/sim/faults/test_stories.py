"""Aimed faults: each story runs to its end, does what it says, and leaves nothing cut."""

import pytest

from viewstamp.core.ids import NodeId
from viewstamp.protocols.registry import protocol_definition
from viewstamp.replica.events import Outcome
from viewstamp.sim.cluster.cluster import Cluster
from viewstamp.sim.faults.faults import FaultInjector
from viewstamp.sim.faults.stories import STORIES, StoryRunner
from viewstamp.sim.workloads.clients import Plan, SimClient
from viewstamp.sim.workloads.workload import TallyWorkload
from viewstamp.sim.world.options import STORY_NAMES, LoadOptions, StoryOptions, SwarmOptions
from viewstamp.sim.world.trace import Trace

SECOND_US = 1_000_000


ADD = Plan("command", "add", "k", (1,))


class Adding:
    """A client that adds again and again."""

    def completed(self, client: SimClient, plan: Plan | None, outcome: Outcome) -> None:
        if plan is not None:
            client.host.world.after(30_000, self.add, client)

    def add(self, client: SimClient) -> None:
        client.invoke(ADD, SECOND_US)


def tell(kind: str, seed: int, nodes: int = 5, seconds: int = 10) -> tuple[Cluster, FaultInjector]:
    """Let some seconds pass with this story alone, told again and again."""
    options = SwarmOptions("raft", nodes, stories=StoryOptions(2.0, (kind,)))
    definition = protocol_definition("raft")
    cluster = Cluster(definition, options, seed, TallyWorkload(LoadOptions()), Trace())
    injector = FaultInjector(cluster)
    for node in cluster.members:
        cluster.start(node)
    adding = Adding()
    adding.add(cluster.add_client(adding))
    injector.begin()
    StoryRunner(injector).begin()
    cluster.world.run_until(seconds * SECOND_US)
    return cluster, injector


def test_every_story_can_be_drawn() -> None:
    assert sorted(STORIES) == list(STORY_NAMES)


@pytest.mark.parametrize("kind", STORY_NAMES)
def test_story_runs_to_its_end(kind: str) -> None:
    cluster, injector = tell(kind, seed=1)
    assert cluster.counts[f"story {kind}"] >= 2
    assert cluster.judge.ghosts.committed.length > 10
    injector.stop()
    pairs = [(one, other) for one in cluster.members for other in cluster.members]
    assert not any(cluster.network.is_cut(*pair) for pair in pairs)


@pytest.mark.parametrize("kind", ["depose", "strand", "pause"])
def test_story_brings_another_leader_when_it_is_about_the_leader(kind: str) -> None:
    cluster, _ = tell(kind, seed=2)
    assert cluster.judge.rare["leader elected"] >= 3


def test_disks_that_stories_lose_are_within_the_atlas() -> None:
    for seed in range(2):
        cluster, injector = tell("forget", seed)
        assert cluster.counts["disk wiped"] >= 1
        assert len(injector.atlas.lost) <= 2
        assert cluster.network.counts["echoed"] > 0


def test_story_is_broken_off_when_the_faults_end() -> None:
    cluster, injector = tell("depose", seed=3)
    injector.stop()
    told = cluster.counts["story depose"]
    cluster.world.run_until(cluster.world.now_us + 5 * SECOND_US)
    assert cluster.counts["story depose"] == told
    assert {cluster.processes[NodeId(node)].running for node in cluster.running} == {True}
