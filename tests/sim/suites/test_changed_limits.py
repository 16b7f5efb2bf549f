"""A limit that an operator changes while leaders crash, and members come back from snapshots."""

import pytest

from tests.sim.suites.machines import Recorder
from viewstamp.core.events import SetLimit, TakeSnapshot
from viewstamp.core.ids import ClientAddress, NodeId
from viewstamp.core.messages import AdminRequest, encode_message
from viewstamp.core.principals import LOCAL_OPERATOR
from viewstamp.replica.events import Requested
from viewstamp.sim.cluster.scenario import Scenario

PROTOCOLS = ("raft", "viewstamped", "primary_backup")
WANTED = 7_000


def _ask(scenario: Scenario, node: NodeId, directive: SetLimit | TakeSnapshot) -> None:
    message = AdminRequest(1, directive)
    address = ClientAddress(next(scenario.cluster.host.addresses))
    asked = Requested(address, message, encode_message(message), LOCAL_OPERATOR)
    scenario.cluster.processes[node].feed(asked)


def _limits(scenario: Scenario, node: NodeId) -> int:
    replica = scenario.cluster.processes[node].replica
    assert replica is not None
    return replica.state.sessions.limits.time_to_live_ms


def _places(scenario: Scenario) -> set[tuple[int, int]]:
    """Return, for the members that are up, up to where each has executed the log, and its limit there."""
    found: set[tuple[int, int]] = set()
    for node in scenario.cluster.running:
        replica = scenario.cluster.processes[node].replica
        assert replica is not None
        found.add((replica.applied.seqno, _limits(scenario, node)))
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_all_members_change_at_one_place_whenever_the_leader_crashes(protocol: str) -> None:
    outcomes = set[int]()
    for seed in range(1, 9):
        scenario = Scenario(Recorder, 3, seed=seed, protocol=protocol)
        leader = scenario.leader()
        scenario.record(leader, "before")
        scenario.run(0.3)
        _ask(scenario, leader, SetLimit("time_to_live_ms", WANTED))
        scenario.run(0.0002 * seed)  # at each step of the change: proposed, written, sent, executed
        scenario.crash(leader)
        scenario.run(1)
        scenario.restart(leader)
        scenario.one("after", 3)
        scenario.run(1)
        places = _places(scenario)
        assert len({limit for _, limit in places}) == 1, (seed, places)
        outcomes.add(places.pop()[1])
    assert WANTED in outcomes


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_member_that_was_away_learns_the_limit_by_log_or_snapshot(protocol: str) -> None:
    scenario = Scenario(Recorder, 3, protocol=protocol)
    leader = scenario.leader()
    scenario.record(leader, "before")
    scenario.run(0.3)
    late = next(node for node in scenario.members if node != leader)
    scenario.crash(late)
    scenario.run(1)
    leader = scenario.leader()
    _ask(scenario, leader, SetLimit("time_to_live_ms", WANTED))
    scenario.run(0.5)
    _ask(scenario, leader, TakeSnapshot())
    scenario.run(0.5)
    scenario.restart(late)
    scenario.one("after", 3)
    assert {_limits(scenario, node) for node in scenario.members} == {WANTED}
    scenario.crash(*scenario.members)
    scenario.restart(*scenario.members)
    scenario.run(1)
    assert {_limits(scenario, node) for node in scenario.members} == {WANTED}
