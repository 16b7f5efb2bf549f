"""6.5840 lab 3C: crashes, an unreliable network, churn (docs/labs/6.5840.md#raft-tests)."""

import pytest

from tests.sim.suites.machines import Recorder
from tests.sim.suites.seeds import every_seed, few_seeds
from viewstamp.core.ids import NodeId
from viewstamp.sim.cluster.scenario import RELIABLE, UNRELIABLE, Scenario, Task, pauses
from viewstamp.sim.world.options import NetworkOptions

REORDERING = NetworkOptions(
    delay_min_us=0,
    delay_mean_us=13_000,
    loss=0.1,
    duplication=0.05,
    late=0.42,
    late_max_us=2_200_000,
    encode=1.0,
)
"""The kit's long reordering. It delays two thirds of the answers by up to 2.2 s; here requests are delayed as
well, and as many round trips (a third) are in time."""


def neighbour(scenario: Scenario, server: NodeId, step: int) -> NodeId:
    """Return the server `places` after this one."""
    return scenario.members[(server + step) % len(scenario.members)]


@every_seed
def test_persist1_3c(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed)
    scenario.one("11", 3)
    scenario.crash(*scenario.members)
    scenario.restart(*scenario.members)
    scenario.one("12", 3)
    leader = scenario.leader()
    scenario.crash(leader)
    scenario.restart(leader)
    scenario.one("13", 3)
    leader = scenario.leader()
    scenario.crash(leader)
    scenario.one("14", 2)
    scenario.restart(leader)
    assert scenario.wait(lambda: len(scenario.recorded("14")) == 3, 10)
    follower = neighbour(scenario, scenario.leader(), 1)
    scenario.crash(follower)
    scenario.one("15", 2)
    scenario.restart(follower)
    scenario.one("16", 3)


@every_seed
def test_persist2_3c(seed: int) -> None:
    scenario = Scenario(Recorder, 5, seed=seed)
    value = 10
    for _ in range(5):
        scenario.one(str(value), 5)
        leader = scenario.leader()
        at = [neighbour(scenario, leader, step) for step in range(5)]
        scenario.crash(at[1], at[2])
        scenario.one(str(value + 1), 3)
        scenario.crash(at[0], at[3], at[4])
        scenario.restart(at[1], at[2])
        scenario.run(1)
        scenario.restart(at[3])
        scenario.one(str(value + 2), 3)
        scenario.restart(at[4], at[0])
        value += 3
    scenario.one("1000", 5)


@every_seed
def test_persist3_3c(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed)
    scenario.one("101", 3)
    leader = scenario.leader()
    second, third = neighbour(scenario, leader, 1), neighbour(scenario, leader, 2)
    scenario.disconnect(third)
    scenario.one("102", 2)
    scenario.crash(leader, second)
    scenario.connect(third)
    scenario.restart(leader)
    scenario.one("103", 2)
    scenario.restart(second)
    scenario.one("104", 3)


@few_seeds
def test_figure8_3c(seed: int) -> None:
    scenario = Scenario(Recorder, 5, seed=seed)
    scenario.one("first", 1)
    rng = scenario.rng
    for iteration in range(1000):
        submit_everywhere(scenario, str(iteration))
        scenario.run(rng.random() * (0.5 if rng.random() < 0.1 else 0.013))
        leading = scenario.cluster.leaders()
        if leading:
            scenario.crash(leading[0])
        down = [node for node in scenario.members if node not in scenario.cluster.running]
        if len(down) > 2:
            scenario.restart(rng.choice(down))
    scenario.restart(*scenario.members)
    scenario.one("last", 5)


def submit_everywhere(scenario: Scenario, value: str) -> None:
    """Give the value to every server that is up."""
    for server in scenario.cluster.running:
        scenario.record(server, f"{value} at {server}")


@every_seed
def test_unreliable_agree_3c(seed: int) -> None:
    scenario = Scenario(Recorder, 5, seed=seed, network=UNRELIABLE)
    values = [f"{iteration}.{number}" for iteration in range(1, 50) for number in range(4)]
    for iteration in range(1, 50):
        leader = scenario.leader() if iteration == 1 else (scenario.cluster.leaders() or [NodeId(0)])[0]
        for value in values[4 * iteration - 4 : 4 * iteration]:
            scenario.record(leader, value)
        scenario.one(f"{iteration}", 1)
    lost = [value for value in values if not scenario.recorded(value)]
    for value in lost:  # the kit's `one` submits again as well
        scenario.one(value, 1)
    scenario.configure(RELIABLE)
    scenario.one("100", 5)
    for node in scenario.members:
        assert set(values) <= set(scenario.values(node)), f"server {node} lacks some of the {len(values)}"


@few_seeds
def test_figure8_unreliable_3c(seed: int) -> None:
    scenario = Scenario(Recorder, 5, seed=seed, network=UNRELIABLE)
    scenario.one("first", 1)
    rng = scenario.rng
    for iteration in range(1000):
        if iteration == 200:
            scenario.configure(REORDERING)
        submit_everywhere(scenario, str(iteration))
        scenario.run(rng.random() * (0.5 if rng.random() < 0.1 else 0.013))
        leading = [node for node in scenario.cluster.leaders() if node in scenario.connected]
        if leading and rng.random() < 0.5:
            scenario.disconnect(leading[0])
        elif leading and rng.random() < 0.2:
            # Half a disconnection, which the kit never makes.
            (scenario.deafen if iteration % 2 else scenario.mute)(leading[0])
        away = [node for node in scenario.members if node not in scenario.connected]
        if len(away) > 2:
            scenario.connect(rng.choice(away))
    scenario.heal()
    scenario.one("last", 5)


@few_seeds
@pytest.mark.parametrize("network", [RELIABLE, UNRELIABLE], ids=["reliable", "unreliable"])
def test_churn_3c(seed: int, network: NetworkOptions) -> None:
    scenario = Scenario(Recorder, 5, seed=seed, network=network)
    scenario.leader()  # the first start needs all members once (docs/divergence.md)
    rng = scenario.rng
    seen: list[str] = []
    until_s = scenario.now_s + 14
    clients = [Task(submit_until(scenario, number, until_s, seen)) for number in range(3)]
    for _ in range(20):
        disturb(scenario)
        scenario.run(0.7)
    assert scenario.wait(lambda: all(client.done for client in clients), 5)
    assert len(seen) > 20, "hardly anything was committed"
    scenario.configure(RELIABLE)
    scenario.restart(*scenario.members)
    scenario.heal()
    scenario.run(1)
    scenario.one(f"last {rng.random()}", 5)
    for node in scenario.members:
        missing = set(seen) - set(scenario.values(node))
        assert not missing, f"server {node} lost {missing}"


async def submit_until(scenario: Scenario, client: int, until_s: float, seen: list[str]) -> None:
    """Give values to all servers, one after the other, and record those that a server says are committed."""
    pause, number = pauses(scenario), 0
    while scenario.now_s < until_s:
        value, number = f"{client}.{number}", number + 1
        given = [scenario.record(server, value) for server in scenario.cluster.running]
        if all(each.refused for each in given):
            await pause(0.079 + 0.017 * client)
            continue
        for wait_s in (0.01, 0.02, 0.05, 0.1, 0.2):
            await pause(wait_s)
            if any(each.result is not None for each in given):
                seen.append(value)
                break
        await pause(0.04)


def disturb(scenario: Scenario) -> None:
    """Disconnect, bring back or crash a random server, with the kit's odds; and cut one off one way."""
    rng = scenario.rng
    scenario.mute(*([rng.choice(scenario.members)] if rng.random() < 0.2 else []))
    if rng.random() < 0.2:
        scenario.disconnect(rng.choice(scenario.members))
    if rng.random() < 0.5:
        server = rng.choice(scenario.members)
        scenario.restart(server)
        scenario.connect(server)
    if rng.random() < 0.2:
        scenario.crash(rng.choice(scenario.members))
