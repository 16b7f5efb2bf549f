"""Digests of states at a bounded cost: small ones at once, large ones in a forked copy, none too often."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from viewstamp.core.ids import Instant
from viewstamp.machine.state_digest import digest_of_pieces
from viewstamp.replica.events import StateHashed
from viewstamp.runtime.config import SnapshotPlacement
from viewstamp.runtime.state_hashing import SHARE, RuntimeHasher

PIECES = [b"one", b"two" * 1_000]


class Bench:
    """A hasher under a clock of the test's, and what it fed."""

    def __init__(self, placement: SnapshotPlacement = "auto", inline_bytes_max: int = 1 << 20) -> None:
        self.now = 0
        self.fed: list[StateHashed] = []
        self.came = asyncio.Event()
        self.hasher = RuntimeHasher(
            10, placement=placement, inline_bytes_max=inline_bytes_max, clock=lambda: Instant(self.now)
        )
        self.executor = ThreadPoolExecutor(1)
        self.hasher.start(self.executor, self.feed)

    def feed(self, event: StateHashed) -> None:
        self.fed.append(event)
        self.came.set()

    def taking(self, length_us: int) -> Iterator[bytes]:
        """Yield a piece that takes this long."""
        self.now += length_us
        yield b"piece"


async def test_a_state_is_hashed_in_a_forked_copy_until_it_is_known_to_be_small() -> None:
    bench = Bench()
    assert bench.hasher.begin(10, iter(PIECES)) is None
    assert not bench.hasher.due(20), "one at a time"
    await asyncio.wait_for(bench.came.wait(), 20)
    assert bench.fed == [StateHashed(10, digest_of_pieces(PIECES))]
    assert bench.hasher.due(20)
    assert bench.hasher.begin(20, iter(PIECES)) == digest_of_pieces(PIECES)


async def test_a_large_state_is_always_hashed_in_a_forked_copy() -> None:
    bench = Bench(inline_bytes_max=10)
    for seqno in (10, 20):
        bench.came.clear()
        assert bench.hasher.begin(seqno, iter(PIECES)) is None
        await asyncio.wait_for(bench.came.wait(), 20)
    assert [event.digest for event in bench.fed] == [digest_of_pieces(PIECES)] * 2


async def test_digests_are_made_at_every_second_fourth_entry_when_they_take_too_long() -> None:
    bench = Bench("inline")
    for seqno in (10, 20):
        assert bench.hasher.begin(seqno, bench.taking(1_000)) is not None
        bench.now += 1_000 * (SHARE - 20)
    assert [seqno for seqno in range(10, 90, 10) if bench.hasher.due(seqno)] == [20, 40, 60, 80]
    bench.hasher.begin(40, bench.taking(1_000))
    assert [seqno for seqno in range(10, 90, 10) if bench.hasher.due(seqno)] == [40, 80]
    for _ in range(2):
        bench.now += 1_000 * SHARE * 10
        bench.hasher.begin(80, bench.taking(1_000))
    assert all(bench.hasher.due(seqno) for seqno in range(10, 90, 10))


def failing() -> Iterator[bytes]:
    yield b"x"
    raise TypeError("no such type")


@pytest.mark.parametrize("placement", ["inline", "fork"])
async def test_a_state_that_cannot_be_encoded_is_not_compared(
    placement: SnapshotPlacement, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(placement)
    assert bench.hasher.begin(10, failing()) is None
    while not caplog.messages:  # the executor's answer comes over the loop
        await asyncio.to_thread(bench.executor.submit(lambda: None).result)
    assert bench.fed == []
    assert "the state at entry 10 cannot be compared" in caplog.messages[0]
    assert bench.hasher.due(20)
