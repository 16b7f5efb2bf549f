"""Streams of random numbers."""

from random import Random

from viewstamp.sim.world.randomness import RandomTree, log_uniform


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
