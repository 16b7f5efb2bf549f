"""Seven servers, a tenth of all messages lost, another partition every second, crashes: back soon.

Connections stall as TCP's do: what was lost in a cut is sent again after waits that double. The same with
kernels and processes: tests/process/test_lossy_network.py.
"""

import pytest

from tests.sim.suites.machines import Recorder
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import RESULT
from viewstamp.sim.cluster.scenario import Scenario, Submission
from viewstamp.sim.world.options import NetworkOptions

PROTOCOLS = ("raft", "viewstamped", "primary_backup")
LOSSY = NetworkOptions(delay_min_us=100, delay_mean_us=500, loss=0.1, stalls=True)
SEEDS = range(1, 6)
SERVERS = 7
BOOTSTRAPPED_WITHIN_S = {"raft": 5.0, "viewstamped": 15.0, "primary_backup": 5.0}
SERVES_WITHIN_S = {"raft": 1.0, "viewstamped": 2.0, "primary_backup": 1.0}
"""A view of viewstamped changes by one member at a time, and every member must hear the others."""


class Story:
    def __init__(self, protocol: str, seed: int) -> None:
        self.scenario = Scenario(Recorder, SERVERS, seed=seed, protocol=protocol, network=LOSSY)
        self.down: list[NodeId] = []

    def second(self, *, crashes: bool = True) -> None:
        """Deal the servers to two sides; at times one crashes, or comes back."""
        scenario, rng = self.scenario, self.scenario.rng
        left = {node for node in scenario.members if rng.random() < 0.5}
        scenario.partition(left, set(scenario.members) - left)
        if crashes and len(self.down) < SERVERS // 2 and rng.random() < 0.5:
            self.down.append(rng.choice([node for node in scenario.members if node not in self.down]))
            scenario.crash(self.down[-1])
        elif self.down:
            scenario.restart(self.down.pop(0))
        scenario.run(1)

    def until_served(self, within_s: float) -> float:
        """Return the seconds until a command is executed that is given to a leader from now on."""
        scenario, sent = self.scenario, list[Submission]()
        began_s = scenario.now_s
        while scenario.now_s < began_s + within_s:
            sent += [scenario.record(node, f"{scenario.now_s}") for node in scenario.cluster.leaders()]
            scenario.run(0.02)
            if any(each.result is not None and each.result[0] == RESULT for each in sent):
                return scenario.now_s - began_s
        raise AssertionError(f"nothing was executed in {within_s} s")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_cluster_is_bootstrapped_soon_when_its_network_is_bad_from_the_start(
    protocol: str, seed: int
) -> None:
    story = Story(protocol, seed)
    while not story.scenario.cluster.leaders():
        story.second(crashes=False)
        assert story.scenario.now_s <= BOOTSTRAPPED_WITHIN_S[protocol]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_cluster_serves_soon_after_the_heal_of_a_bad_network(protocol: str, seed: int) -> None:
    story = Story(protocol, seed)
    story.scenario.leader()
    for _ in range(4):
        for _ in range(5):
            story.second()
        story.scenario.restart(*story.down)
        story.down.clear()
        story.scenario.run(0.5)
        story.scenario.heal()
        assert story.until_served(10) <= SERVES_WITHIN_S[protocol]
