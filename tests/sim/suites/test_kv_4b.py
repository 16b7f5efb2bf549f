"""6.5840 lab 4B: the key/value service without snapshots (docs/labs/6.5840.md#kv-tests)."""

from typing import Any

import pytest

from tests.sim.suites.kv import LAN, UNRELIABLE, KvTest, RecordedClerk
from tests.sim.suites.seeds import every_seed, few_seeds, with_seeds
from viewstamp.sim.cluster.scenario import Task
from viewstamp.sim.world.options import NetworkOptions

GENERIC = {
    "basic": (1, 5, LAN, False, False, False),
    "concurrent": (5, 5, LAN, False, False, False),
    "unreliable": (5, 5, UNRELIABLE, False, False, False),
    "many_partitions_one_client": (1, 5, LAN, False, True, False),
    "many_partitions_many_clients": (5, 5, LAN, False, True, False),
    "persist_one_client": (1, 5, LAN, True, False, False),
    "persist_concurrent": (5, 5, LAN, True, False, False),
    "persist_concurrent_unreliable": (5, 5, UNRELIABLE, True, False, False),
    "persist_partition": (5, 5, LAN, True, True, False),
    "persist_partition_unreliable": (5, 5, UNRELIABLE, True, True, False),
    "persist_partition_unreliable_linearizable": (15, 7, UNRELIABLE, True, True, True),
}
"""Name: clerks, servers, network, crash, partitions, random keys."""


@with_seeds(GENERIC)
def test_generic_4b(name: str, seed: int) -> None:
    clerks, servers, network, crash, partitions, random_keys = GENERIC[name]
    test = KvTest(servers, seed=seed, network=network)
    test.generic(clerks, crash=crash, partitions=partitions, random_keys=random_keys)
    test.check_losses()


def run_speed(test: KvTest) -> None:
    """1000 puts one after the other, at least 30 a second, none of them in doubt."""
    clerk = test.clerk(0)
    task = Task(_speed(clerk))
    began_s = test.scenario.now_s
    assert test.scenario.wait(lambda: task.done, 34)
    assert test.scenario.now_s - began_s <= 1000 / 30
    assert task.result == 1000
    test.check_sizes()


async def _speed(clerk: RecordedClerk) -> int:
    await clerk.get("x")
    for version in range(1000):
        assert await clerk.put("x", b"v", version) == "ok"
    found = await clerk.get("x")
    assert found is not None
    return found[1]


@few_seeds
def test_speed_4b(seed: int) -> None:
    run_speed(KvTest(3, seed=seed))


@every_seed
@pytest.mark.parametrize("network", [LAN, UNRELIABLE], ids=["reliable", "unreliable"])
def test_one_partition_4b(seed: int, network: NetworkOptions) -> None:
    test = KvTest(5, seed=seed, network=network)
    scenario = test.scenario
    first = Task(test.clerk(0).put("1", b"13", 0))
    assert scenario.wait(lambda: first.done, 10)
    assert first.result in {"ok", "maybe"}
    leader = scenario.leader()
    minority = [leader, next(node for node in scenario.members if node != leader)]
    majority = [node for node in scenario.members if node not in minority]
    scenario.partition(minority, majority)
    away = test.clerk(1, majority)
    story = Task(_majority_story(away, b"13", 1, b"14"))
    assert scenario.wait(lambda: story.done, 20), "the majority does not serve"
    limited = [test.clerk(2, minority), test.clerk(3, minority)]
    stuck: list[Task[Any]] = [Task(_put_at_least_once(limited[0], b"15", 2)), Task(limited[1].get("1"))]
    scenario.run(1)
    assert not any(task.done for task in stuck), "a minority answered"
    story = Task(_majority_story(away, b"14", 2, b"16"))
    assert scenario.wait(lambda: story.done, 20)
    scenario.heal()
    for clerk in limited:
        clerk.reach_all()
    assert scenario.wait(lambda: all(task.done for task in stuck), 3)
    last = Task(test.clerk(4).get("1"))
    assert scenario.wait(lambda: last.done, 10)
    assert last.result == (b"15", stuck[0].result)
    test.check_history()


async def _put_at_least_once(clerk: RecordedClerk, value: bytes, version: int) -> int:
    """Put until it is certainly there, and return its version, as the kit's PutAtLeastOnce."""
    while await clerk.put("1", value, version) != "ok":
        found = await clerk.get("1")
        assert found is not None
        if found[0] == value:
            return found[1]
        version = found[1]
    return version + 1


async def _majority_story(clerk: RecordedClerk, before: bytes, version: int, value: bytes) -> None:
    assert await clerk.get("1") == (before, version)
    assert await clerk.put("1", value, version) in {"ok", "maybe"}
    assert await clerk.get("1") == (value, version + 1)
