"""The storm of hostile frames: what it sends on one connection, and what it concludes."""

from itertools import islice

import msgspec
import pytest
from benchmarks.storm import Honest, Pool, Storm, _batches, _is_accepted

CALM = Storm(
    protocol="raft",
    frames=10,
    connections=1,
    seconds=1.0,
    dead={},
    states=1,
    calm_p50_ms=1.0,
    calm_p99_ms=2.0,
    storm_p50_ms=1.5,
    storm_p99_ms=6.0,
    honest_calls=100,
    honest_failures=0,
    resident_before_mib=[40.0],
    resident_after_mib=[41.0],
)


def test_only_the_last_frame_of_a_connection_may_end_it() -> None:
    pool = Pool(1)
    ends = 0
    for _ in range(20):
        frames = pool.stream(50)
        assert len(frames) == 50
        assert all(_is_accepted(frame) for frame in frames[:-1])
        ends += not _is_accepted(frames[-1])
    assert 10 < ends < 20
    assert list(_batches(10, 4)) == [4, 4, 2]


def test_equal_seeds_storm_alike() -> None:
    first, second = (list(islice((pool.stream(5) for _ in range(9)), 9)) for pool in (Pool(3), Pool(3)))
    assert first == second


@pytest.mark.parametrize(
    "change", [{"dead": {1: "it ended"}}, {"states": 2}, {"states": 0}, {"storm_p99_ms": 6.1}]
)
def test_a_node_that_ends_a_state_that_differs_and_a_long_wait_are_failures(
    change: dict[str, object],
) -> None:
    assert CALM.holds()
    assert not msgspec.structs.replace(CALM, **change).holds()


def test_quantiles_are_in_milliseconds() -> None:
    honest = Honest()
    assert honest.quantile(0.99, []) == 0
    assert honest.quantile(0.5, [0.001, 0.002, 0.003]) == 2
    assert honest.quantile(0.99, [0.001] * 99 + [1.0]) == 1
