"""The follower's side of the log: what arrives, what of it is new, and what is owed for it."""

from collections.abc import Callable, Sequence

import msgspec

from viewstamp.protocols.shipping.entries import COMMAND, EntryRecord, decode_entry
from viewstamp.protocols.shipping.log import Log


def decode_entries(
    records: Sequence[bytes],
    previous_view: int,
    previous_seqno: int,
    *,
    view: int,
    is_readable: Callable[[EntryRecord], bool],
) -> list[EntryRecord] | None:
    """Return the entries of a leader of this view; None where they cannot be.

    They follow one another and `previous`, their views never go down, and those that are no commands are
    readable to the protocol.
    """
    try:
        entries = [decode_entry(record) for record in records]
    except msgspec.MsgspecError:
        return None
    seqno, lowest = previous_seqno, previous_view
    for entry in entries:
        seqno += 1
        if entry.seqno != seqno or not lowest <= entry.view <= view or entry.view == 0:
            return None
        if entry.kind != COMMAND and not is_readable(entry):
            return None
        lowest = entry.view
    return entries


def first_new(log: Log, entries: Sequence[EntryRecord]) -> int:
    """Return the index of the first entry that the log does not hold, their number if it holds all."""
    if entries[0].seqno > log.last_seqno:
        return 0
    for index, entry in enumerate(entries):
        if entry.seqno >= log.base_seqno and log.view_at(entry.seqno) != entry.view:
            return index
    return len(entries)


class Debt:
    """Which acknowledgement is owed to the leader: one for all that becomes durable together."""

    __slots__ = ("_owed", "_told")

    def __init__(self) -> None:
        self._owed = 0
        """The position to acknowledge once it is durable; 0: nothing is owed."""
        self._told = 0
        """The position last acknowledged while more was owed."""

    def cancel(self) -> None:
        """Another leader, or another log: nothing is owed of the last."""
        self._owed = self._told = 0

    def cut_off(self, after: int) -> None:
        """Entries after this seqno are gone, and with them what is owed for them."""
        self._owed = min(self._owed, after)
        self._told = min(self._told, after)

    def is_due(self, reached: int, durable: int) -> bool:
        """Tell whether to acknowledge `reached` at once, all being durable; owe it otherwise."""
        if reached <= durable and reached >= self._owed:
            self._owed = 0
            return True
        self._owed = max(self._owed, reached)
        return False

    def due(self, durable: int) -> int:
        """Return the position to acknowledge now that so much is durable, 0 where there is no news in it."""
        owed = self._owed
        if owed == 0 or durable <= self._told:
            return 0
        self._owed, self._told = (0, 0) if owed <= durable else (owed, durable)
        return owed
