"""6.5840 lab 4C: the key/value service with snapshots (docs/labs/6.5840.md#kv-tests)."""

from tests.sim.suites.kv import LAN, UNRELIABLE, KvTest, RecordedClerk
from tests.sim.suites.seeds import every_seed, few_seeds, with_seeds
from tests.sim.suites.test_kv_4b import run_speed
from viewstamp.sim.cluster.scenario import Task

LOG_BYTES_MAX = 1_000

GENERIC = {
    "snapshot_recover": (1, 5, LAN, True, False, False),
    "snapshot_recover_many_clients": (20, 5, LAN, True, False, False),
    "snapshot_unreliable": (5, 5, UNRELIABLE, False, False, False),
    "snapshot_unreliable_recover": (5, 5, UNRELIABLE, True, False, False),
    "snapshot_unreliable_recover_concurrent_partition": (5, 5, UNRELIABLE, True, True, False),
    "snapshot_unreliable_recover_concurrent_partition_linearizable": (15, 7, UNRELIABLE, True, True, True),
}
"""Name: clerks, servers, network, crash, partitions, random keys."""


@with_seeds(GENERIC)
def test_generic_4c(name: str, seed: int) -> None:
    clerks, servers, network, crash, partitions, random_keys = GENERIC[name]
    test = KvTest(servers, seed=seed, network=network, log_bytes_max=LOG_BYTES_MAX)
    test.generic(clerks, crash=crash, partitions=partitions, random_keys=random_keys)
    test.check_losses()


@few_seeds
def test_speed_4c(seed: int) -> None:
    run_speed(KvTest(3, seed=seed, log_bytes_max=LOG_BYTES_MAX))


@few_seeds
def test_snapshot_size_4c(seed: int) -> None:
    test = KvTest(3, seed=seed, log_bytes_max=LOG_BYTES_MAX)
    task = Task(_rewrite(test.clerk(0)))
    assert test.scenario.wait(lambda: task.done, 60)
    test.check_sizes()
    for node in test.scenario.members:
        assert 0 < test.scenario.snapshot_bytes(node) <= 500


async def _rewrite(clerk: RecordedClerk) -> None:
    version = 0
    for _ in range(200):
        for value in (b"0", b"1"):
            assert await clerk.put("x", value, version) == "ok"
            version += 1
            assert await clerk.get("x") == (value, version)


@every_seed
def test_snapshot_rpc_4c(seed: int) -> None:
    test = KvTest(3, seed=seed, log_bytes_max=LOG_BYTES_MAX)
    scenario = test.scenario
    zero, one, two = scenario.members
    run(test, _put(test.clerk(0), "a", b"A"))
    scenario.partition([zero, one], [two])
    run(test, _put_fifty(test.clerk(1, [zero, one])))
    scenario.run(1)
    run(test, _put(test.clerk(2, [zero, one]), "b", b"B"))
    test.check_sizes()
    scenario.partition([zero, two], [one])
    run(test, _after_swap(test.clerk(3, [zero, two])))
    scenario.heal()
    run(test, _after_heal(test.clerk(4)))
    test.check_history()
    test.check_sizes()


def run(test: KvTest, coroutine: object) -> None:
    """Run a story to its end."""
    task = Task(coroutine)  # type: ignore[arg-type, var-annotated]
    assert test.scenario.wait(lambda: task.done, 30), "the story does not end"


async def _put(clerk: RecordedClerk, key: str, value: bytes) -> None:
    assert await clerk.put(key, value, 0) in {"ok", "maybe"}
    assert await clerk.get(key) == (value, 1)


async def _put_fifty(clerk: RecordedClerk) -> None:
    for number in range(50):
        await _put(clerk, str(number), str(number).encode())


async def _after_swap(clerk: RecordedClerk) -> None:
    await _put(clerk, "c", b"C")
    await _put(clerk, "d", b"D")
    for key, value in (("a", b"A"), ("b", b"B"), ("1", b"1"), ("49", b"49")):
        assert await clerk.get(key) == (value, 1)


async def _after_heal(clerk: RecordedClerk) -> None:
    await _put(clerk, "e", b"E")
    for key, value in (("c", b"C"), ("e", b"E"), ("1", b"1")):
        assert await clerk.get(key) == (value, 1)
