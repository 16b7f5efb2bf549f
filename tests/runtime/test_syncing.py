import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest

from tests.runtime.fakes import until
from viewstamp.core.errors import StorageError
from viewstamp.core.ids import Instant, PersistSeq
from viewstamp.runtime.metrics import Metrics
from viewstamp.runtime.syncing import Syncer
from viewstamp.storage.memory import MemoryJob, MemoryJournal, MemoryMedium


class TimedJob(MemoryJob):
    def __init__(self, journal: "TimedJournal", seq: PersistSeq) -> None:
        super().__init__(seq)
        self._journal = journal

    def run(self) -> None:
        self._journal.now_us += self._journal.sync_takes_us
        super().run()


class TimedJournal(MemoryJournal):
    """Its syncs take as long as a test says, on a clock of their own."""

    def __init__(self) -> None:
        super().__init__(MemoryMedium())
        self.now_us = 0
        self.sync_takes_us = 100
        self.upkeeps = 0
        self.upkeep_error: StorageError | None = None

    def begin_sync(self) -> MemoryJob | None:
        job = super().begin_sync()
        if job is not None:
            self._job = job = TimedJob(self, job.seq)
        return job

    def begin_upkeep(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        return self._upkeep

    def _upkeep(self) -> None:
        self.upkeeps += 1
        if self.upkeep_error is not None:
            raise self.upkeep_error

    def write(self) -> None:
        self.append(PersistSeq(self.written + 1), (b"x",))


class Bench:
    def __init__(self, placement: Literal["auto", "inline", "executor"] = "auto") -> None:
        self.journal = TimedJournal()
        self.finished: list[PersistSeq] = []
        self.failures: list[BaseException] = []
        self.executor = ThreadPoolExecutor(1)
        self.syncer = Syncer(
            self.journal,
            placement=placement,
            inline_us_max=500,
            executor=self.executor,
            clock=lambda: Instant(self.journal.now_us),
            metrics=Metrics(),
            finished=self.finished.append,
            failed=self.failures.append,
        )

    async def sync(self, times: int = 1) -> None:
        """Write and sync, wherever that happens."""
        for _ in range(times):
            self.journal.write()
            wanted = self.journal.written
            durable = self.syncer.sync()
            if durable is None:
                await until(lambda wanted=wanted: wanted in self.finished)  # type: ignore[misc]
            assert self.journal.durable == wanted


async def test_first_sync_runs_off_the_loop_when_the_disk_is_not_known() -> None:
    bench = Bench()
    assert bench.syncer.off_loop
    await bench.sync()
    assert bench.finished == [1]


async def test_syncs_come_to_the_loop_when_the_disk_is_fast() -> None:
    bench = Bench()
    await bench.sync(10)
    assert not bench.syncer.off_loop
    finished = len(bench.finished)
    await bench.sync(50)
    assert len(bench.finished) == finished


async def test_syncs_leave_the_loop_at_once_when_one_blocks_it_and_return_after() -> None:
    bench = Bench()
    await bench.sync(10)
    bench.journal.sync_takes_us = 20_000
    await bench.sync()
    assert bench.syncer.off_loop
    bench.journal.sync_takes_us = 100
    await bench.sync(3)
    assert not bench.syncer.off_loop


async def test_nothing_is_tried_on_the_loop_when_the_disk_blocks() -> None:
    bench = Bench()
    bench.journal.sync_takes_us = 500_000
    await bench.sync(100)
    assert len(bench.finished) == 100


async def test_syncs_stay_on_the_loop_when_only_some_are_slow() -> None:
    bench = Bench()
    await bench.sync(10)
    for takes_us in (5_000, 100, 100, 5_000, 100, 100, 100) * 5:
        bench.journal.sync_takes_us = takes_us
        await bench.sync()
        assert not bench.syncer.off_loop


async def test_syncs_stay_on_the_loop_when_most_wait_for_a_busy_processor() -> None:
    bench = Bench()
    await bench.sync(10)
    for takes_us in (2_000, 100, 3_000) * 15:
        bench.journal.sync_takes_us = takes_us
        await bench.sync()
        assert not bench.syncer.off_loop


async def test_choice_does_not_flutter_when_the_disk_is_near_the_limit() -> None:
    bench = Bench()
    await bench.sync(10)
    bench.journal.sync_takes_us = 600
    await bench.sync(10)
    finished = len(bench.finished)
    bench.journal.sync_takes_us = 400
    await bench.sync(320)
    assert len(bench.finished) - finished >= 299
    bench.journal.sync_takes_us = 200
    await bench.sync(160)
    assert not bench.syncer.off_loop


@pytest.mark.parametrize(("placement", "off_loop"), [("inline", False), ("executor", True)])
async def test_placement_stays_when_it_was_chosen(
    placement: Literal["inline", "executor"], off_loop: bool
) -> None:
    bench = Bench(placement)
    for takes_us in (100, 20_000):
        bench.journal.sync_takes_us = takes_us
        await bench.sync(20)
        assert bench.syncer.off_loop is off_loop


async def test_nothing_is_done_when_all_is_durable() -> None:
    bench = Bench("inline")
    assert bench.syncer.sync() is None
    await bench.sync()
    assert bench.syncer.sync() is None


async def test_upkeep_runs_beside_the_loop_one_at_a_time() -> None:
    bench = Bench("inline")
    await bench.sync(3)
    await until(lambda: bench.journal.upkeeps == 1)


async def test_failure_is_told_when_upkeep_fails() -> None:
    bench = Bench("inline")
    bench.journal.upkeep_error = StorageError("full")
    await bench.sync()
    await until(lambda: bench.failures)
    await asyncio.sleep(0)
    assert [str(failure) for failure in bench.failures] == ["full"]
