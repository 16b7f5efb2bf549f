from random import Random

from viewstamp.runtime.backoff import Backoff


def test_waits_double_up_to_the_limit_when_nothing_helps() -> None:
    backoff = Backoff(20, 1000, Random(1))
    limits = [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0]
    for limit in limits:
        assert limit / 2 <= backoff.draw_s() <= limit


def test_waits_differ_when_the_generators_do() -> None:
    assert len({Backoff(20, 1000, Random(seed)).draw_s() for seed in range(20)}) > 15


def test_waits_are_short_again_when_reset() -> None:
    backoff = Backoff(20, 1000, Random(1))
    backoff.exhaust()
    assert backoff.draw_s() >= 0.5
    backoff.reset()
    assert backoff.draw_s() <= 0.02


def test_dials_of_a_minute_are_few_when_a_server_is_down() -> None:
    backoff = Backoff(20, 1000, Random(7))
    dials, elapsed_s = 0, 0.0
    while elapsed_s < 60:
        elapsed_s += backoff.draw_s()
        dials += 1
    assert dials <= 130
