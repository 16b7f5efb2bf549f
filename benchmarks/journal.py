"""Durable records a second of the journal, by records in a write; and how long a recovery takes.

Run: python -m benchmarks.journal [directory]   (a real disk, not tmpfs; about ten seconds)
"""

import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from viewstamp.core.ids import Incarnation, NodeId, PersistSeq
from viewstamp.storage.directory import DataDirectory, open_data_directory
from viewstamp.storage.files import OsFileSystem

SECONDS = 1.0
BATCHES = (1, 16, 256)
RECORD_BYTES = (64, 1024, 4096)
RECOVERED_ENTRIES = 1_000_000


def open_directory(path: Path) -> DataDirectory:
    return open_data_directory(
        OsFileSystem(), str(path), cluster_id="bench", node=NodeId(1), incarnation=Incarnation(1)
    )


def measure_commits(path: Path, *, batch: int, record_bytes: int) -> tuple[float, float, float]:
    """Return records a second, and the median and 99th percentile of a commit in microseconds."""
    directory = open_directory(path)
    journal = directory.journal
    records = (b"r" * record_bytes,) * batch
    times = []
    started = perf_counter()
    while perf_counter() - started < SECONDS:
        before = perf_counter()
        seq = PersistSeq(journal.written + 1)
        journal.append(seq, records)
        journal.sync()
        times.append(perf_counter() - before)
        journal.release(seq)
        upkeep = journal.begin_upkeep()
        if upkeep is not None:
            upkeep()
    elapsed = perf_counter() - started
    directory.close()
    cuts = statistics.quantiles(times, n=100)
    return len(times) * batch / elapsed, cuts[49] * 1e6, cuts[98] * 1e6


def measure_recovery(path: Path, *, writes_in_frame: int) -> tuple[float, float]:
    """Return the seconds to open a journal of a million small entries, and those to read them."""
    directory = open_directory(path)
    for seq in range(1, RECOVERED_ENTRIES + 1):
        directory.journal.append(PersistSeq(seq), (b"entry of some 40 bytes, as small as it gets",))
        if seq % writes_in_frame == 0:
            directory.journal.sync()
    directory.journal.sync()
    directory.close()
    started = perf_counter()
    directory = open_directory(path)
    opened = perf_counter()
    assert sum(1 for _ in directory.recovered.writes) == RECOVERED_ENTRIES
    done = perf_counter()
    directory.close()
    return opened - started, done - opened


def main() -> None:
    parent = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.gettempdir())
    work = Path(tempfile.mkdtemp(dir=parent, prefix="viewstamp-journal-"))
    try:
        print(f"{'bytes':>6} {'batch':>6} {'records/s':>12} {'p50 us':>8} {'p99 us':>8}")
        for record_bytes in RECORD_BYTES:
            for batch in BATCHES:
                path = work / f"{record_bytes}-{batch}"
                rate, p50, p99 = measure_commits(path, batch=batch, record_bytes=record_bytes)
                print(f"{record_bytes:>6} {batch:>6} {rate:>12,.0f} {p50:>8.0f} {p99:>8.0f}")
                shutil.rmtree(path)
        for writes_in_frame in (100, 1000):
            opening, reading = measure_recovery(work / f"r{writes_in_frame}", writes_in_frame=writes_in_frame)
            print(
                f"recovery of {RECOVERED_ENTRIES:,} writes, {writes_in_frame} in a sync: "
                f"opened in {opening:.2f} s, read in {reading:.2f} s"
            )
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
