"""A node's clock: drift, jumps, and never back."""

from random import Random

from viewstamp.core.ids import Instant
from viewstamp.sim.world.clock import NodeClock


def test_local_time_gains_when_the_clock_drifts() -> None:
    clock = NodeClock(start_us=500, drift_ppm=50_000)
    assert clock.local(0) == 500
    assert clock.local(1_000_000) == 500 + 1_050_000


def test_true_time_is_the_first_moment_when_a_deadline_is_converted() -> None:
    rng = Random(1)
    for _ in range(2_000):
        clock = NodeClock(start_us=rng.randrange(10**9), drift_ppm=rng.randint(-50_000, 50_000))
        clock.jump(rng.randrange(10**6), rng.randrange(10**6))
        deadline = Instant(clock.local(2 * 10**6) + rng.randrange(10**7))
        moment = clock.true(deadline)
        assert clock.local(moment) >= deadline
        assert clock.local(moment - 1) < deadline


def test_local_time_never_goes_back_when_it_jumps_and_steadies() -> None:
    clock = NodeClock(start_us=0, drift_ppm=-40_000)
    seen = [clock.local(1_000)]
    clock.jump(1_000, 3_600_000_000)
    seen += [clock.local(1_000), clock.local(2_000)]
    clock.steady(2_000)
    seen += [clock.local(2_000), clock.local(3_000)]
    assert seen == sorted(seen)
    assert seen[-1] - seen[-2] == 1_000
