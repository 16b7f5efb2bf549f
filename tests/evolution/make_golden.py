"""Golden files of a level: a log and a snapshot as they were written. They are made once, for a new level.

`python -m tests.evolution.make_golden` writes those of the present level; the files of earlier levels stay.
That of level 0 was written by the last program before levels could be raised.
"""

from pathlib import Path

import msgspec

from tests.evolution.group import Group
from tests.evolution.shops import first, second
from viewstamp.core.ids import LEVEL
from viewstamp.core.snapshots import BytesSnapshot, read_whole

FOLDER = Path(__file__).with_name("golden")


class Golden(msgspec.Struct):
    """What was written at one level."""

    level: int
    machine: int
    """The version in force at the last entry."""
    entries: list[bytes]
    snapshot: bytes
    snapshot_at: tuple[int, int]
    digest: int
    """Of the results, at the last entry."""


def written() -> Golden:
    """Return a log that begins with the first class and is raised to the second, and a snapshot of before."""
    group = Group(first(), first(), first())
    group.call("name", "ann", "Ann Lee")
    group.call("buy", "tea")
    snapshot: BytesSnapshot = group.save(2)
    for node in (1, 2, 3):
        group.restart(node, second())
    group.finalize()
    group.call("buy", "jam", 9)
    group.call("refund", 1)
    at = snapshot.meta.viewstamp
    entries = [applied.entry.data for applied in group.log]
    digest = group.benches[min(group.benches)].replica.digest
    return Golden(LEVEL, 2, entries, read_whole(snapshot), (at.view, at.seqno), digest)


if __name__ == "__main__":
    (FOLDER / f"level-{LEVEL}.msgpack").write_bytes(msgspec.msgpack.encode(written()))
