"""What the data directories that are left say after a majority was lost for good.

Nothing here decides that a majority is lost: an operator does, who has looked for the others. The statement
is made of positions in the log, so that it is true whatever the clocks say:

- up to `certain` everything is kept: some survivor knew it to be committed, and the one that is taken has it;
- from there to the end of the log that is taken, entries are kept that perhaps were never acknowledged;
- what comes after may be lost: entries that the dead alone had.

A member of the newest view of viewstamped replication, or of the recorded set of primary-backup, had all that
was acknowledged in it; then nothing is lost, unless the dead formed a later view.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Incarnation, NodeId, Viewstamp
from viewstamp.protocols.replication.log import EMPTY, EntryRecord, Log, encode_record


class Survivor(msgspec.Struct, frozen=True):
    """What one data directory holds."""

    node: NodeId
    incarnation: Incarnation
    last: Viewstamp
    """The end of its log."""
    committed: Viewstamp
    """The highest entry that it holds and knows to be committed."""
    view: tuple[int, int]
    """The newest view that it knows; with primary-backup, the age of the recorded set."""
    has_everything: bool
    """Whether it had all that was acknowledged in that view, by what the protocol records."""
    members: tuple[NodeId, ...]
    """The members by its newest configuration; empty: it does not say."""
    holds: Callable[[Viewstamp], bool]
    """Whether this entry is in its log, or covered by its snapshot."""


class Finding(msgspec.Struct, frozen=True):
    """What is kept and what may be lost when one survivor is taken."""

    taken: NodeId
    certain: int
    """Seqno up to where everything is kept for certain."""
    last: Viewstamp
    """The end of the log that is taken: what is after `certain` is kept, perhaps never acknowledged."""
    complete: bool
    """Whether nothing that was acknowledged is lost, unless the dead formed a later view."""


def find(survivors: Sequence[Survivor]) -> Finding:
    """Choose the survivor that loses least, and say what that is.

    Of those that hold what any of them knows to be committed: first one that had everything in the newest
    view, then the one whose log ends last, by view and then seqno; the lowest node where they are equal.

    Raises:
        ConfigurationError: there are none, or they contradict each other.
    """
    if not survivors:
        raise ConfigurationError("name the data directory of each member that is left")
    newest_view = max(survivor.view for survivor in survivors)
    certain = max(survivor.committed for survivor in survivors)
    fit = [survivor for survivor in survivors if survivor.holds(certain)]
    if not fit:
        raise ConfigurationError("the directories contradict each other: none holds what another committed")

    def merit(survivor: Survivor) -> tuple[bool, Viewstamp, int]:
        everything = survivor.has_everything and survivor.view == newest_view
        return everything, survivor.last, -survivor.node

    taken = max(fit, key=merit)
    complete = merit(taken)[0]
    return Finding(taken.node, certain.seqno, taken.last, complete)


ENTRIES_PER_WRITE: Final = 1_024


def carried_over(log: Log, view: int, advance: int) -> Iterator[tuple[bytes, ...]]:
    """Yield the writes that hold this log, and then `advance` empty entries of a new view."""
    for seqno in range(log.base_seqno + 1, log.last_seqno + 1):
        yield (encode_record(log.entry(seqno)),)
    first = log.last_seqno + 1
    for begin in range(first, first + advance, ENTRIES_PER_WRITE):
        places = range(begin, min(begin + ENTRIES_PER_WRITE, first + advance))
        yield tuple(encode_record(EntryRecord(view, place, EMPTY, b"")) for place in places)
