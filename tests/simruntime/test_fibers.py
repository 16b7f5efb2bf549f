"""Threads of the simulated world (`simruntime.fibers`, `host`, `executors`)."""

from random import Random

import pytest

from viewstamp.sim.world.world import World
from viewstamp.simruntime.executors import SimExecutor, SimGuard
from viewstamp.simruntime.fibers import Ended, Fiber
from viewstamp.simruntime.host import Host


@pytest.fixture
def host() -> Host:
    made = Host("127.0.0.1", World(), Random(1))
    made.begin()
    return made


def settle(host: Host) -> None:
    host.world.run_until(host.world.now_us + 1_000_000)


def test_others_go_on_while_a_thread_waits(host: Host) -> None:
    said: list[str] = []

    def wait(name: str, delay_us: int) -> None:
        said.append(f"{name} begins")
        host.wait(delay_us)
        said.append(f"{name} ends at {host.world.now_us}")

    host.spawn(lambda: wait("slow", 500), 10)
    host.spawn(lambda: wait("quick", 100), 20)
    settle(host)
    assert said == ["slow begins", "quick begins", "quick ends at 120", "slow ends at 510"]


def test_the_loops_thread_adds_up_what_it_waits_for(host: Host) -> None:
    host.wait(300)
    host.wait(200)
    assert (host.spent_us, host.now_us()) == (500, 500)


def test_a_thread_unwinds_without_an_effect_when_its_process_has_ended(host: Host) -> None:
    said: list[str] = []

    def work() -> None:
        try:
            host.wait(500)
            said.append("went on")
        except Ended:
            said.append("ended")
            raise

    host.spawn(work, 1)
    host.world.run_until(10)
    host.end()
    settle(host)
    assert said == ["ended"]
    with pytest.raises(Ended):
        host.check(1)


def test_what_a_thread_raises_is_raised_in_the_world(host: Host) -> None:
    def fail() -> None:
        raise ValueError("broken")

    host.spawn(fail, 1)
    with pytest.raises(ValueError, match="broken"):
        settle(host)
    assert Fiber.current is None


def test_an_executor_of_one_thread_keeps_the_order_and_shuts_down_when_all_is_done(host: Host) -> None:
    executor, said = SimExecutor(host, 1), list[str]()

    def work(name: str, delay_us: int) -> str:
        host.wait(delay_us)
        said.append(name)
        return name

    futures = [executor.submit(work, name, delay) for name, delay in (("first", 900), ("second", 1))]
    failed = executor.submit(lambda: 1 // 0)

    def stop() -> None:
        executor.shutdown()
        said.append("over")

    host.spawn(stop, 5)
    settle(host)
    assert said == ["first", "second", "over"]
    assert [future.result() for future in futures] == ["first", "second"]
    assert isinstance(failed.exception(), ZeroDivisionError)


def test_a_guard_lets_one_thread_in_at_a_time(host: Host) -> None:
    guard, said = SimGuard(host), list[str]()

    def work(name: str) -> None:
        with guard:
            said.append(f"{name} in")
            host.wait(100)
            said.append(f"{name} out")

    host.spawn(lambda: work("first"), 1)
    host.spawn(lambda: work("second"), 2)
    settle(host)
    assert said == ["first in", "first out", "second in", "second out"]


def test_the_loops_thread_waits_for_a_guard_until_its_holder_lets_go(host: Host) -> None:
    guard, said = SimGuard(host), list[str]()

    def work() -> None:
        with guard:
            host.wait(100)
            host.wait(100)
            said.append("holder lets go")

    host.spawn(work, 1)
    host.world.run_until(5)
    with guard:
        said.append("loop is in")
    settle(host)
    assert said == ["holder lets go", "loop is in"]
