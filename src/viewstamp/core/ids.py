"""Names for the positions, nodes and moments that every layer speaks of.

A *view* is what Raft calls a term, the 6.824 design a vid and a primary-backup log an epoch. A *seqno* is the
place in the log (Raft: index). Together they are a `Viewstamp`, the one position type of the whole library.
"""

from typing import Final, NewType

import msgspec

NodeId = NewType("NodeId", int)
"""A member of the cluster, 0 or more; equal everywhere, written in the cluster's configuration."""
NODE_ID_MAX: Final = (1 << 31) - 1

ClientAddress = NewType("ClientAddress", int)
"""A client's connection at one replica. The driver makes it up; it means nothing at another replica."""

Incarnation = NewType("Incarnation", int)
"""Drawn at random when a data directory is made. A node whose disk was wiped comes back with another one."""

Instant = NewType("Instant", int)
"""A moment of a monotonic clock, in microseconds. Never a wall clock; comparable at one node only."""

LogTime = NewType("LogTime", int)
"""Microseconds of cluster time: stamped by the leader, replicated in the log, never goes back."""

View = NewType("View", int)
Seqno = NewType("Seqno", int)
PersistSeq = NewType("PersistSeq", int)
"""Number of an atomic write to the journal: 1, 2, 3, ... over the whole life of a data directory."""

MICROSECONDS_PER_MS: Final = 1_000
MICROSECONDS_PER_SECOND: Final = 1_000_000

_OFFSET_BITS: Final = 20
COMMANDS_PER_ENTRY_MAX: Final = 1 << _OFFSET_BITS
SEQNO_MAX: Final = 1 << 43
"""Fencing tokens of entries below fit into 63 bits."""

LEVEL_MIN: Final = 0
LEVEL: Final = 1
"""The levels of features that this version can read and write: the lowest and the highest.

A level says what may stand in entries and snapshots. Which one is in force is said by the log; an entry
raises it when every member can (docs/design/decisions.md#versions).

- 0: before levels could be raised.
- 1: entries may raise the level and the version of the user's class; the log holds the class's interface.
"""


class Viewstamp(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """Where an entry stands: ordered by view, then seqno; the seqno is contiguous over the whole log."""

    view: View
    seqno: Seqno

    def __str__(self) -> str:
        return f"{self.view}.{self.seqno}"


ORIGIN: Final = Viewstamp(View(0), Seqno(0))
"""Before the first entry."""


def fencing_token(seqno: Seqno, offset: int) -> int:
    """Return the token of the command at `offset` (from 0) of the entry at `seqno`.

    Tokens grow strictly along the log, whatever the views: a resource that remembers the highest token it
    has seen can refuse every older holder.
    """
    assert 0 <= offset < COMMANDS_PER_ENTRY_MAX, offset
    return (seqno << _OFFSET_BITS) | offset
