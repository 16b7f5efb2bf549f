"""6.5840 lab 3B: agreement (docs/labs/6.5840.md#raft-tests)."""

from tests.sim.suites.machines import Recorder
from tests.sim.suites.seeds import every_seed
from viewstamp.core.ids import NodeId
from viewstamp.sim.cluster.scenario import Scenario


def others(scenario: Scenario, *servers: NodeId) -> list[NodeId]:
    """Return all servers but these, the next one of the first first."""
    size = len(scenario.members)
    following = [scenario.members[(servers[0] + step) % size] for step in range(size)]
    return [server for server in following if server not in servers]


@every_seed
def test_basic_agree_3b(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed)
    for index in range(1, 4):
        value = str(index * 100)
        assert not scenario.recorded(value), "executed before it was submitted"
        scenario.one(value, 3, retry=False)
        assert all(scenario.values(node).index(value) == index - 1 for node in scenario.members)


@every_seed
def test_rpc_bytes_3b(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed)
    scenario.one("99", 3)
    before = scenario.sent_bytes
    commands = [f"{scenario.rng.getrandbits(20_000):05000x}"[:5000] for _ in range(10)]
    for value in commands:
        scenario.one(value, 3, retry=False)
    expected = 3 * sum(map(len, commands))
    assert scenario.sent_bytes - before <= expected + 50_000


@every_seed
def test_follower_failure_3b(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed)
    scenario.one("101", 3, retry=False)
    leader = scenario.leader()
    scenario.disconnect(others(scenario, leader)[0])
    scenario.one("102", 2, retry=False)
    scenario.run(1)
    scenario.one("103", 2, retry=False)
    leader = scenario.leader()
    scenario.disconnect(*others(scenario, leader))
    assert not scenario.record(leader, "104").refused
    scenario.run(2)
    assert not scenario.recorded("104"), "executed without a majority"


@every_seed
def test_leader_failure_3b(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed)
    scenario.one("101", 3, retry=False)
    scenario.disconnect(scenario.leader())
    scenario.one("102", 2, retry=False)
    scenario.run(1)
    scenario.one("103", 2, retry=False)
    scenario.disconnect(scenario.leader())
    for server in scenario.members:
        scenario.record(server, "104")
    scenario.run(2)
    assert not scenario.recorded("104"), "executed without a majority"


@every_seed
def test_fail_agree_3b(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed)
    scenario.one("101", 3, retry=False)
    follower = others(scenario, scenario.leader())[0]
    scenario.disconnect(follower)
    scenario.one("102", 2, retry=False)
    scenario.one("103", 2, retry=False)
    scenario.run(1)
    scenario.one("104", 2, retry=False)
    scenario.one("105", 2, retry=False)
    scenario.connect(follower)
    scenario.one("106", 3)
    scenario.run(1)
    scenario.one("107", 3)


@every_seed
def test_fail_no_agree_3b(seed: int) -> None:
    scenario = Scenario(Recorder, 5, seed=seed)
    scenario.one("10", 5, retry=False)
    leader = scenario.leader()
    followers = others(scenario, leader)[:3]
    scenario.disconnect(*followers)
    assert not scenario.record(leader, "20").refused
    scenario.run(2)
    assert not scenario.recorded("20"), "executed without a majority"
    scenario.connect(*followers)
    leader = scenario.leader()
    assert not scenario.record(leader, "30").refused
    scenario.one("1000", 5)


@every_seed
def test_concurrent_starts_3b(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed)
    leader = scenario.leader()
    view = scenario.same_view()
    values = [str(100 + number) for number in range(5)]
    assert not any(scenario.record(leader, value).refused for value in values)
    assert scenario.wait(lambda: all(len(scenario.recorded(value)) == 3 for value in values), 2)
    assert scenario.same_view() == view


@every_seed
def test_rejoin_3b(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed)
    scenario.one("101", 3)
    first = scenario.leader()
    scenario.disconnect(first)
    for value in ("102", "103", "104"):
        scenario.record(first, value)
    scenario.one("103b", 2)
    second = scenario.leader()
    scenario.disconnect(second)
    scenario.connect(first)
    scenario.one("104b", 2)
    scenario.connect(second)
    scenario.one("105", 3)


@every_seed
def test_backup_3b(seed: int) -> None:
    scenario = Scenario(Recorder, 5, seed=seed)
    scenario.one("first", 5)
    one = scenario.leader()
    companion, *rest = others(scenario, one)
    scenario.disconnect(*rest)
    fill(scenario, one, "a")
    scenario.run(0.5)
    scenario.disconnect(one, companion)
    scenario.connect(*rest)
    agree(scenario, 3, "b")
    two = scenario.leader()
    away = next(server for server in rest if server != two)
    scenario.disconnect(away)
    fill(scenario, two, "c")
    scenario.run(0.5)
    scenario.disconnect(*scenario.members)
    scenario.connect(one, companion, away)
    agree(scenario, 3, "d")
    scenario.connect(*scenario.members)
    scenario.one("last", 5)


def fill(scenario: Scenario, server: NodeId, name: str) -> None:
    """Submit 50 values that cannot commit."""
    for number in range(50):
        scenario.record(server, f"{name}{number}")


def agree(scenario: Scenario, servers: int, name: str) -> None:
    """Agree on 50 values, one by one."""
    for number in range(50):
        scenario.one(f"{name}{number}", servers)


@every_seed
def test_count_3b(seed: int) -> None:
    scenario = Scenario(Recorder, 3, seed=seed)
    leader = scenario.leader()
    assert 1 <= scenario.messages <= 2 * 30, f"{scenario.messages} messages to elect the first leader"
    before = scenario.messages
    values = [f"v{number}" for number in range(12)]
    assert not any(scenario.record(leader, value).refused for value in values)
    assert scenario.wait(lambda: len(scenario.recorded(values[-1])) == 3, 2)
    assert all(scenario.values(node) == values for node in scenario.members), "12 starts, in this order"
    used = scenario.messages - before
    assert used <= 2 * (10 + 1 + 3) * 3, f"{used} messages for 10 agreements"
    before = scenario.messages
    scenario.run(1)
    used = scenario.messages - before
    assert used <= 2 * 3 * 20, f"{used} messages in a second of idleness"
