"""A disk that stalls: another member leads soon, and leadership does not come back at once."""

import pytest

from tests.sim.suites.machines import Recorder
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import RESULT
from viewstamp.sim.cluster.scenario import Scenario, Submission
from viewstamp.sim.workloads.clients import Plan
from viewstamp.sim.world.options import DiskOptions

PROTOCOLS = ("raft", "viewstamped", "primary_backup")
STALLED = DiskOptions(sync_min_us=3_600_000_000)
ONE_SECOND = DiskOptions(sync_min_us=1_000_000)
NOW_AND_THEN = DiskOptions(stall_rate=0.2, stall_max_us=4_000_000)
BOUND_S = 2.0


class Load:
    """A command to the node that leads, every few milliseconds, and how it ended."""

    def __init__(self, protocol: str, seed: int = 1) -> None:
        self.scenario = Scenario(Recorder, 3, seed=seed, protocol=protocol)
        self.first = self.scenario.leader()
        self.sent: list[Submission] = []
        self.leaders: list[NodeId] = [self.first]
        self.run(0.2)

    def run(self, seconds: float) -> None:
        until = self.scenario.now_s + seconds
        while self.scenario.now_s < until:
            self.step()

    def step(self) -> None:
        leading = self.scenario.cluster.leaders()
        if leading:
            if leading[0] != self.leaders[-1]:
                self.leaders.append(leading[0])
            self.sent.append(self.scenario.record(leading[0], f"v{len(self.sent)}"))
        self.scenario.run(0.01)

    def until_served_by_another(self) -> float:
        """Return the seconds until a member other than the first has executed a command of this load."""
        began = self.scenario.now_s
        before = len(self.sent)
        while self.scenario.now_s < began + 10:
            self.step()
            for submission in self.sent[before:]:
                if submission.server != self.first and _succeeded(submission):
                    return self.scenario.now_s - began
        raise AssertionError(f"nobody else serves; leaders were {self.leaders}")

    def disk(self, node: NodeId, options: DiskOptions) -> None:
        self.scenario.cluster.processes[node].disk_options = options


def _succeeded(submission: Submission) -> bool:
    result = submission.result
    return result is not None and result[0] == RESULT


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_another_member_serves_within_2_s_when_the_leaders_disk_stalls_for_good(protocol: str) -> None:
    for seed in range(1, 6):
        load = Load(protocol, seed)
        load.disk(load.first, STALLED)
        assert load.until_served_by_another() <= BOUND_S
        load.run(3)
        assert load.leaders[-1] != load.first


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_another_member_leads_on_when_the_leaders_disk_stalled_for_one_second(protocol: str) -> None:
    for seed in range(1, 6):
        load = Load(protocol, seed)
        load.disk(load.first, ONE_SECOND)
        load.run(0.05)
        load.disk(load.first, DiskOptions())
        assert load.until_served_by_another() <= BOUND_S
        load.run(5)
        assert len(load.leaders) == 2, load.leaders


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_leadership_does_not_go_to_and_fro_when_a_disk_stalls_now_and_then(protocol: str) -> None:
    load = Load(protocol)
    load.disk(load.first, NOW_AND_THEN)
    load.run(30)
    assert load.leaders[-1] != load.first
    assert len(load.leaders) <= 3, load.leaders


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_service_goes_on_when_a_followers_disk_stalls_for_good(protocol: str) -> None:
    load = Load(protocol)
    slow = next(node for node in load.scenario.members if node != load.first)
    load.disk(slow, STALLED)
    load.run(BOUND_S)
    before = len(load.sent)
    load.run(0.5)
    assert any(map(_succeeded, load.sent[before:]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nobody_gives_way_when_all_disks_are_slow(protocol: str) -> None:
    load = Load(protocol)
    for node in load.scenario.members:
        load.disk(node, DiskOptions(sync_min_us=1_500_000))
    load.run(10)
    assert load.leaders == [load.first]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_session_ends_while_leaders_disks_stall_one_after_the_other(protocol: str) -> None:
    load = Load(protocol)
    clients = [load.scenario.client(exactly_once=True) for _ in range(3)]
    for client in clients:
        client.invoke(Plan("command", "record", "x", ()), 30_000_000)
    load.run(1)
    sessions = [client.core.session for client in clients]
    assert None not in sessions
    for _ in range(2):
        leader = load.scenario.leader()
        load.disk(leader, ONE_SECOND)
        load.run(3)
        load.disk(leader, DiskOptions())
        load.run(2)
    assert [client.core.session for client in clients] == sessions
