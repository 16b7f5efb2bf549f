"""Virtual time, clocks and random streams."""

from random import Random

from viewstamp.core.ids import Instant
from viewstamp.sim.world.world import NodeClock, RandomTree, World, log_uniform


def test_things_happen_in_order_of_time_then_of_scheduling() -> None:
    world, seen = World(), list[str]()
    world.at(20, seen.append, "b")
    world.at(10, seen.append, "a")
    world.after(20, seen.append, "c")
    world.run_until(20)
    assert seen == ["a", "b", "c"]
    assert (world.now_us, world.events, world.waiting) == (20, 3, 0)


def test_time_does_not_go_back_when_the_past_is_asked_for() -> None:
    world, seen = World(), list[int]()
    world.run_until(100)
    world.at(5, lambda: seen.append(world.now_us))
    world.run_until(100)
    assert seen == [100]


def test_run_until_stops_when_the_next_thing_is_later() -> None:
    world, seen = World(), list[str]()
    world.at(101, seen.append, "later")
    world.run_until(100)
    assert not seen
    assert world.next_at_us == 101


def test_run_while_returns_whether_the_condition_ended() -> None:
    world, seen = World(), list[str]()
    world.at(5, seen.append, "a")
    world.at(50, seen.append, "b")
    assert world.run_while(lambda: not seen, 10)
    assert world.now_us == 5
    assert not world.run_while(lambda: len(seen) < 2, 10)
    assert world.now_us == 10


def test_step_returns_false_when_nothing_is_scheduled() -> None:
    world = World()
    assert not world.step()
    assert world.next_at_us is None


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


def test_streams_do_not_shift_when_another_draws_more() -> None:
    first, second = RandomTree(7), RandomTree(7)
    for _ in range(100):
        first.stream("network").random()
    assert first.stream("disk", 3).random() == second.stream("disk", 3).random()


def test_streams_differ_when_name_or_seed_differ() -> None:
    drawn = {
        RandomTree(seed).stream(*name).random()
        for seed in (1, 2)
        for name in (("a",), ("b",), ("a", 1), ("a", 2))
    }
    assert len(drawn) == 8


def test_stream_is_the_same_on_every_machine() -> None:
    assert RandomTree(0).stream("swarm").getrandbits(32) == 931_939_619


def test_log_uniform_gives_each_magnitude_its_share() -> None:
    rng = Random(1)
    drawn = [log_uniform(rng, 1, 10_000) for _ in range(4_000)]
    assert all(1 <= value <= 10_000 for value in drawn)
    assert 800 < sum(value < 10 for value in drawn) < 1_200
