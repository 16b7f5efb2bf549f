"""6.5840 lab 3D: snapshots (docs/labs/6.5840.md#raft-tests).

The kit calls for a snapshot at every tenth entry and allows 2,000 bytes of state; here the servers compact by
themselves, with a limit of 1,000 bytes.
"""

from typing import Literal

import pytest

from tests.sim.suites.machines import Recorder
from tests.sim.suites.seeds import every_seed
from viewstamp.sim.cluster.scenario import RELIABLE, UNRELIABLE, Scenario
from viewstamp.sim.world.options import NetworkOptions

STATE_BYTES_MAX = 2_000
Fate = Literal["stays", "disconnected", "crashed"]


def run_snapshots(seed: int, network: NetworkOptions, fate: Fate) -> None:
    """30 rounds of some commands while one server is away, and then comes back."""
    scenario = Scenario(Recorder, 3, seed=seed, network=network, log_bytes_max=1_000)
    scenario.one("first", 3)
    leader = scenario.leader()
    for iteration in range(30):
        victim = scenario.members[(leader + 1) % 3]
        sender = leader
        if iteration % 3 == 1:
            sender, victim = victim, leader
        if fate == "disconnected":
            scenario.disconnect(victim)
        elif fate == "crashed":
            scenario.crash(victim)
        away = fate != "stays"
        if away:
            scenario.one(f"{iteration} away", 2)
        for number in range(5 + scenario.rng.randrange(10)):
            if sender in scenario.cluster.running:
                scenario.record(sender, f"{iteration}.{number}")
        scenario.one(f"{iteration} next", 2 if away else 3)
        check_size(scenario)
        scenario.restart(victim)
        scenario.connect(victim)
        scenario.one(f"{iteration} back", 3)
        leader = scenario.leader()
    check_size(scenario)


def check_size(scenario: Scenario) -> None:
    """Assert that no server keeps more log than it may."""
    for server in scenario.cluster.running:
        size = scenario.log_bytes(server)
        assert size < STATE_BYTES_MAX, f"server {server} keeps {size} bytes"


@every_seed
def test_snapshot_basic_3d(seed: int) -> None:
    run_snapshots(seed, RELIABLE, "stays")


@every_seed
@pytest.mark.parametrize("network", [RELIABLE, UNRELIABLE], ids=["reliable", "unreliable"])
def test_snapshot_install_3d(seed: int, network: NetworkOptions) -> None:
    run_snapshots(seed, network, "disconnected")


@every_seed
@pytest.mark.parametrize("network", [RELIABLE, UNRELIABLE], ids=["reliable", "unreliable"])
def test_snapshot_install_crash_3d(seed: int, network: NetworkOptions) -> None:
    run_snapshots(seed, network, "crashed")


@every_seed
def test_snapshot_all_crash_3d(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed, network=UNRELIABLE, log_bytes_max=1_000)
    scenario.one("first", 3)
    for iteration in range(5):
        for number in range(5 + scenario.rng.randrange(10)):
            scenario.one(f"{iteration}.{number}", 3)
        scenario.one(f"{iteration} before", 3)
        length = len(scenario.values(scenario.members[0]))
        scenario.crash(*scenario.members)
        scenario.restart(*scenario.members)
        scenario.one(f"{iteration} after", 3)
        assert len(scenario.values(scenario.members[0])) >= length + 1


@every_seed
def test_snapshot_init_3d(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed, network=UNRELIABLE, log_bytes_max=1_000)
    scenario.one("first", 3)
    for number in range(11):
        scenario.one(f"{number}", 3)
    for turn in range(2):
        scenario.crash(*scenario.members)
        scenario.restart(*scenario.members)
        scenario.one(f"turn {turn}", 3)
    assert scenario.values(scenario.members[0])[:1] == ["first"]
