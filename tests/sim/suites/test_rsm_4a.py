"""6.5840 lab 4A: a replicated counter (docs/labs/6.5840.md#rsm-tests)."""

from functools import partial

import msgspec

from tests.sim.suites.machines import Counter, Recorder
from tests.sim.suites.seeds import every_seed
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import RESULT
from viewstamp.replica.events import Failed, Outcome, Returned
from viewstamp.sim.cluster.scenario import Scenario, Submission
from viewstamp.sim.workloads.clients import Plan


def counters(scenario: Scenario, value: int) -> int:
    """Return at how many servers the counter shows this value."""
    machines = (scenario.machine(node) for node in scenario.cluster.running)
    return sum(isinstance(machine, Counter) and machine.count == value for machine in machines)


def check_counter(scenario: Scenario, value: int, servers: int) -> None:
    """Assert that the counter reaches this value at this many servers."""
    assert scenario.wait(lambda: counters(scenario, value) >= servers, 30), (
        f"not {value} at {servers} servers"
    )


def inc(scenario: Scenario, servers: list[NodeId] | None = None) -> int:
    """Submit an Inc until a server executes it, as `onePartition`."""
    limit = scenario.now_s + 10
    while scenario.now_s < limit:
        for server in servers or sorted(scenario.connected):
            if server not in scenario.cluster.running:
                continue
            submission = scenario.submit(server, "inc")
            if not submission.refused and scenario.wait(lambda: submission.returned, 10):  # noqa: B023
                value = result(submission)
                if value is not None:
                    return value
        scenario.run(0.05)
    raise AssertionError("no Inc was executed within 10 s")


def result(submission: Submission) -> int | None:
    """Return the counter that the command returned; None: it was not executed as far as is known."""
    if submission.result is None:
        return None
    kind, payload = submission.result
    assert kind == RESULT
    value: int = msgspec.msgpack.decode(payload, type=int)
    return value


@every_seed
def test_basic_4a(seed: int) -> None:
    scenario = Scenario(Counter, 3, seed=seed)
    scenario.leader()
    for number in range(10):
        assert inc(scenario) == number + 1
        check_counter(scenario, number + 1, 3)


@every_seed
def test_concurrent_4a(seed: int) -> None:
    scenario = Scenario(Counter, 3, seed=seed)
    leader = scenario.leader()
    submissions = [scenario.submit(leader, "inc") for _ in range(50)]
    assert scenario.wait(lambda: all(submission.returned for submission in submissions), 5)
    assert sorted(result(submission) or 0 for submission in submissions) == list(range(1, 51))
    check_counter(scenario, 50, 3)


@every_seed
def test_leader_failure_4a(seed: int) -> None:
    scenario = Scenario(Counter, 3, seed=seed)
    value = inc(scenario)
    check_counter(scenario, value, 3)
    leader = scenario.leader()
    scenario.disconnect(leader)
    scenario.leader()
    value = inc(scenario)
    check_counter(scenario, value, 2)
    scenario.connect(leader)
    check_counter(scenario, value, 3)


@every_seed
def test_leader_partition_4a(seed: int) -> None:
    scenario = Scenario(Counter, 3, seed=seed)
    inc(scenario)
    leader = scenario.leader()
    majority = [node for node in scenario.members if node != leader]
    scenario.partition([leader], majority)
    waiting = [scenario.submit(leader, "dec") for _ in range(100)]
    scenario.run(0.01)
    value = inc(scenario, majority)
    scenario.run(1)
    assert all(result(submission) is None for submission in waiting), "a Dec was acknowledged by a minority"
    assert not all(submission.returned for submission in waiting), "gave up before the partition healed"
    scenario.heal()
    assert scenario.wait(lambda: all(submission.returned for submission in waiting), 1)
    assert all(result(submission) is None for submission in waiting)
    check_counter(scenario, value, 3)
    for node in scenario.members:
        machine = scenario.machine(node)
        assert isinstance(machine, Counter)
        assert machine.decs == 0


@every_seed
def test_restart_replay_4a(seed: int) -> None:
    scenario = Scenario(Counter, 3, seed=seed)
    for number in range(100):
        assert inc(scenario) == number + 1
        check_counter(scenario, number + 1, 3)
    scenario.crash(*scenario.members)
    scenario.run(1)
    scenario.restart(*scenario.members)
    scenario.leader()
    assert inc(scenario) == 101
    scenario.run(1)
    check_counter(scenario, 101, 3)


@every_seed
def test_shutdown_4a(seed: int) -> None:
    """All calls end in their time when all servers are shut down, and each of them truthfully."""
    scenario = Scenario(Recorder, 3, seed=seed)
    client = scenario.client()
    scenario.leader()
    outcomes: dict[str, Outcome] = {}

    def call(value: str) -> None:
        client.invoke(Plan("command", "record", value, ()), 10_000_000, partial(outcomes.__setitem__, value))

    for number in range(100):
        scenario.world.after(number * 400, call, str(number))
    scenario.run(0.02)
    scenario.crash(*scenario.members)
    scenario.run(10.2)
    assert len(outcomes) == 100, "a call hangs"
    assert {type(outcome) for outcome in outcomes.values()} == {Returned, Failed}, "the crash came too late"
    scenario.restart(*scenario.members)
    leader = scenario.leader()
    scenario.one("after", 3)
    executed = scenario.values(leader)
    assert len(executed) == len(set(executed)), "a command was executed twice"
    for value, outcome in outcomes.items():
        assert isinstance(outcome, Returned | Failed)
        if isinstance(outcome, Returned):
            assert value in executed, "an acknowledged command is lost"
        elif outcome.outcome == "not_executed":
            assert value not in executed, "a command was said not to be executed, and was"


@every_seed
def test_restart_submit_4a(seed: int) -> None:
    scenario = Scenario(Counter, 3, seed=seed)
    for _ in range(100):
        inc(scenario)
    scenario.crash(*scenario.members)
    scenario.run(1)
    scenario.restart(*scenario.members)
    leader = scenario.leader()
    assert inc(scenario) == 101
    scenario.run(1)
    client = scenario.client()
    scenario.run(0.1)
    outcomes: dict[int, Outcome] = {}
    for number in range(100):
        null = Plan("command", "null", None, ())
        client.invoke(null, 10_000_000, partial(outcomes.__setitem__, number))
    submissions = [scenario.submit(leader, "null") for _ in range(100)]
    scenario.run(0.0003)
    scenario.crash(*scenario.members)
    answered = [submission.returned for submission in submissions]
    assert not all(answered), "the crash came too late"
    assert scenario.wait(lambda: len(outcomes) == 100, 11), "a call hangs"
    scenario.run(1)
    assert [submission.returned for submission in submissions] == answered, "a dead server answered"
    scenario.restart(*scenario.members)
    scenario.leader()
    assert inc(scenario) == 102
    assert [submission.returned for submission in submissions] == answered, "answered by another life"
    check_counter(scenario, 102, 3)


@every_seed
def test_snapshot_4c(seed: int) -> None:
    scenario = Scenario(Counter, 3, seed=seed, log_bytes_max=1_000)
    for number in range(100):
        assert inc(scenario) == number + 1
    scenario.run(0.5)
    for node in scenario.members:
        assert scenario.log_bytes(node) <= 2 * 1_000
    check_counter(scenario, 100, 3)
    scenario.crash(*scenario.members)
    scenario.restart(*scenario.members)
    scenario.leader()
    assert inc(scenario) == 101
    check_counter(scenario, 101, 3)
