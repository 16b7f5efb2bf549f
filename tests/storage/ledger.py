"""What a scenario was promised, and whether what came back after a crash honours it (I29)."""

from collections.abc import Callable
from random import Random

import msgspec

from tests.storage.beds import open_on
from viewstamp.core.events import SnapshotToken
from viewstamp.core.ids import Incarnation, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.snapshots import BytesSnapshot, read_whole
from viewstamp.sim.world.content import DiskFaults
from viewstamp.sim.world.disk import PowerFailure, SimFileSystem
from viewstamp.storage.directory import DataDirectory


def records_of(seq: int) -> tuple[bytes, ...]:
    """Small, larger than a sector, and full of zeros, in turn."""
    match seq % 4:
        case 0:
            return (b"%d:" % seq + bytes(700),)
        case 1:
            return (b"%d" % seq,)
        case 2:
            return (b"%d" % seq, b"", b"two")
        case _:
            return (b"%d:" % seq + b"v" * 900,)


def body_of(seqno: int) -> bytes:
    return b"state %d " % seqno * 150


class Ledger:
    """Runs a scenario on a disk and keeps account of what it was promised."""

    def __init__(self, files: SimFileSystem) -> None:
        self.files = files
        self.incarnation: Incarnation | None = None
        self.durable = 0
        self.written = 0
        self.released = 1
        self.saved = 0
        self.attempted = 0
        self.directory: DataDirectory | None = None

    # Steps of scenarios

    def open(self) -> DataDirectory:
        self.directory = directory = open_on(self.files, incarnation=11)
        self.check(directory)
        return directory

    def append(self, count: int = 1) -> None:
        assert self.directory is not None
        for _ in range(count):
            self.written += 1
            self.directory.journal.append(PersistSeq(self.written), records_of(self.written))

    def sync(self, count: int = 0) -> None:
        assert self.directory is not None
        self.append(count)
        self.durable = self.directory.journal.sync()

    def release(self, before: int) -> None:
        assert self.directory is not None
        self.directory.journal.release(PersistSeq(before))
        self.released = before

    def upkeep(self) -> None:
        assert self.directory is not None
        work = self.directory.journal.begin_upkeep()
        if work is not None:
            work()

    def save(self, seqno: int) -> None:
        assert self.directory is not None
        self.attempted = seqno
        body = body_of(seqno)
        self.directory.snapshots.save(Viewstamp(View(1), Seqno(seqno)), b"h", [body[:100], body[100:]])
        self.saved = seqno

    def stage(self, seqno: int) -> None:
        assert self.directory is not None
        self.attempted = seqno
        whole = BytesSnapshot(Viewstamp(View(1), Seqno(seqno)), b"h", body_of(seqno))
        staged = None
        for offset in range(0, len(whole.body), 400):
            staged = self.directory.snapshots.stage(
                SnapshotToken(seqno), whole.meta, offset, whole.read(offset, 400)
            )
        assert staged is not None
        assert staged.snapshot is not None
        self.saved = seqno

    def close(self) -> None:
        assert self.directory is not None
        self.directory.close()

    # What must hold

    def check(self, directory: DataDirectory) -> None:
        """Compare what was recovered with what was promised, and take it as the promise from now on."""
        recovered = directory.recovered
        assert self.incarnation in (None, directory.identity.incarnation)
        assert self.durable <= recovered.written <= self.written, (
            self.durable,
            recovered.written,
            self.written,
        )
        writes = list(recovered.writes)
        first = writes[0][0] if writes else recovered.written + 1
        assert first <= max(self.released, 1) or recovered.written < self.released
        assert [seq for seq, _ in writes] == list(range(first, recovered.written + 1))
        assert all(records == records_of(seq) for seq, records in writes)
        self._check_snapshot(directory)
        self.incarnation = directory.identity.incarnation
        self.durable = self.written = recovered.written
        self.released = first

    def _check_snapshot(self, directory: DataDirectory) -> None:
        snapshot = directory.recovered.snapshot
        found = 0 if snapshot is None else snapshot.meta.viewstamp.seqno
        assert found in (self.saved, self.attempted), (found, self.saved, self.attempted)
        if snapshot is not None:
            assert read_whole(snapshot) == body_of(found)
        self.saved = self.attempted = found


Scenario = Callable[[Ledger], None]


def set_up(ledger: Ledger) -> None:
    ledger.open()
    ledger.close()
    ledger.open()


def append_and_rotate(ledger: Ledger) -> None:
    ledger.open()
    for count in (1, 2, 1, 3, 4, 1, 1, 2):
        ledger.sync(count)
    ledger.append(2)
    ledger.close()
    ledger.open()
    ledger.sync(1)


def release_and_delete(ledger: Ledger) -> None:
    ledger.open()
    for _ in range(4):
        ledger.sync(4)
        ledger.upkeep()
    ledger.append(1)
    ledger.release(16)
    ledger.upkeep()
    ledger.sync(1)
    ledger.upkeep()
    ledger.sync(3)
    ledger.upkeep()


def save_and_compact(ledger: Ledger) -> None:
    ledger.open()
    for seqno in (3, 6, 9):
        ledger.sync(3)
        ledger.save(seqno)
        ledger.release(seqno)
        ledger.sync(1)
        ledger.upkeep()


def stage_twice(ledger: Ledger) -> None:
    ledger.open()
    ledger.sync(1)
    ledger.stage(5)
    ledger.sync(2)
    ledger.stage(8)
    ledger.close()
    ledger.open()


def large_groups(ledger: Ledger) -> None:
    ledger.open()
    assert ledger.directory is not None
    ledger.sync(12)
    ledger.append(2)
    ledger.release(9)
    ledger.sync(9)
    ledger.sync(1)


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        set_up,
        append_and_rotate,
        release_and_delete,
        save_and_compact,
        stage_twice,
        large_groups,
    )
}
ENDINGS = {
    "kept": DiskFaults(torn=0.0, kept=1.0),
    "lost": DiskFaults(torn=0.0, kept=0.0),
    "mixed": DiskFaults(torn=0.0, kept=0.5),
    "torn": DiskFaults(torn=1.0),
}


def run_until(ledger: Ledger, scenario: Scenario, operation: int) -> bool:
    """Run the scenario up to this operation of the disk; False: it ended before."""
    ledger.files.fail_at = operation
    try:
        scenario(ledger)
    except PowerFailure:
        return True
    ledger.files.fail_at = None
    return False


def crash_at(scenario: Scenario, ending: str, operation: int) -> Ledger | None:
    """Return the ledger of a scenario that stopped before this operation; None: it has fewer.

    The disk has drawn nothing yet: the same operation always ends in the same volatile state.
    """
    rng = Random(f"{ending}/{operation}")
    ledger = Ledger(SimFileSystem(rng, faults=msgspec.structs.replace(ENDINGS[ending])))
    return ledger if run_until(ledger, scenario, operation) else None
