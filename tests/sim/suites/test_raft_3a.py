"""6.5840 lab 3A: elections (SCENARIOS 3.1)."""

from tests.sim.suites.machines import Recorder
from tests.sim.suites.seeds import every_seed
from viewstamp.sim.scenario import Scenario


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
    scenario.nobody_leads()
    scenario.connect(other)
    scenario.leader()
    scenario.connect(second)
    scenario.leader()


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
