"""6.5840 lab 3A: elections (docs/labs/6.5840.md#raft-tests)."""

from collections.abc import Callable

import pytest

from tests.sim.suites.machines import Recorder
from tests.sim.suites.seeds import every_seed
from viewstamp.core.ids import NodeId
from viewstamp.sim.cluster.scenario import Scenario


@every_seed
def test_initial_election_3a(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed)
    scenario.leader()
    scenario.run(0.05)
    view = scenario.same_view()
    assert view >= 1
    scenario.run(2)
    assert scenario.same_view() == view, "the view changed without a failure"
    scenario.leader()


@every_seed
def test_re_election_3a(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed)
    first = scenario.leader()
    scenario.disconnect(first)
    scenario.leader()
    scenario.connect(first)
    second = scenario.leader()
    other = scenario.members[(second + 1) % 3]
    scenario.disconnect(second, other)
    scenario.run(2)
    scenario.assert_no_leader()
    scenario.connect(other)
    scenario.leader()
    scenario.connect(second)
    scenario.leader()


@every_seed
@pytest.mark.parametrize("how", [Scenario.deafen, Scenario.mute], ids=["deaf", "mute"])
def test_re_election_one_way_3a(seed: int, how: Callable[[Scenario, NodeId], None]) -> None:
    """Half a disconnection, which the kit never makes: the leader hears nobody, or nobody hears it."""
    scenario = Scenario(Recorder, 3, seed=seed)
    first = scenario.leader()
    how(scenario, first)
    others = [node for node in scenario.members if node != first]
    assert scenario.wait(lambda: scenario.cluster.leaders()[:1] in ([others[0]], [others[1]]), 5), (
        "nobody who hears and is heard leads"
    )
    leader = scenario.cluster.leaders()[0]
    assert not scenario.record(leader, "among those who hear").refused
    assert scenario.wait(lambda: {leader, *others} <= scenario.recorded("among those who hear"), 2)
    scenario.heal()
    scenario.one("among all", 3)


@every_seed
def test_many_elections_3a(seed: int) -> None:
    scenario = Scenario(Recorder, 7, seed=seed)
    scenario.leader()
    for _ in range(9):
        chosen = [scenario.rng.choice(scenario.members) for _ in range(3)]
        scenario.disconnect(*chosen)
        scenario.leader()
        scenario.connect(*chosen)
    scenario.leader()
