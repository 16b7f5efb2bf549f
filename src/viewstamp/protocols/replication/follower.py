"""The follower's side of the log: what arrives, what of it is new, and what is to be acknowledged."""

from collections.abc import Callable, Sequence

from viewstamp.core.messages import UNREADABLE
from viewstamp.protocols.replication.log import (
    COMMAND,
    EntryRecord,
    Log,
    Truncation,
    decode_entry,
    encode_record,
)
from viewstamp.protocols.replication.messages import BaseAppendEntries
from viewstamp.protocols.replication.node_state import NodeState, in_range


def is_sound(message: BaseAppendEntries, view: int) -> bool:
    """Return whether a message's numbers could be those of a leader of this view."""
    previous_view, previous_seqno = message.previous_view, message.previous_seqno
    return (
        in_range(view, previous_view, previous_seqno, message.committed, message.round, message.attempt)
        and previous_view <= view
        and (previous_seqno == 0) == (previous_view == 0)
    )


def decode_entries(
    records: Sequence[bytes],
    previous_view: int,
    previous_seqno: int,
    *,
    view: int,
    is_readable: Callable[[EntryRecord], bool],
) -> list[EntryRecord] | None:
    """Return the entries of a leader of this view; None where they are malformed.

    They follow one another and `previous`, their views never go down, and those that are not commands are
    readable to the protocol.
    """
    try:
        entries = [decode_entry(record) for record in records]
    except UNREADABLE:
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


def store(
    state: NodeState,
    entries: Sequence[EntryRecord],
    records: Sequence[bytes],
    on_cut_off: Callable[[int], None],
) -> Sequence[EntryRecord] | None:
    """Append what is new, and return it. None: it contradicts what is committed, and nothing is changed.

    Only what conflicts is cut off, in one write with what replaces it; `on_cut_off` is told what stays.
    """
    log = state.log
    first = first_new(log, entries)
    if first == len(entries):
        return ()
    new, written = entries[first:], records[first:]
    before = new[0].seqno - 1
    if before < state.committed:
        return None  # a committed entry never goes; a leader that lacks it was not elected by our rules
    cut = before < log.last_seqno
    if cut:
        log.truncate(before)
        on_cut_off(before)
    write = state.outbox.persist(*([encode_record(Truncation(before)), *written] if cut else written))
    for entry, record in zip(new, written, strict=True):
        log.append(entry, record, write)
    return new


def match_on_disk(log: Log, reached: int) -> tuple[int, int]:
    """Return (view, seqno) of the last entry up to `reached` that is on disk here; (0, 0): none is.

    Not beyond `reached`, whatever else is in the log: only so far is it known to be the leader's.
    """
    matched = min(reached, log.durable_seqno)
    if matched == 0 or matched < log.base_seqno:
        return 0, 0  # nothing, or a snapshot took the place of what is not durable yet
    view = log.view_at(matched)
    assert view is not None, (matched, log.base_seqno)
    return view, matched


class PendingAck:
    """The acknowledgement that the leader waits for: one for all that becomes durable together."""

    __slots__ = ("_acknowledged", "_pending", "round")

    def __init__(self) -> None:
        self._pending = 0
        """The position to acknowledge once it is durable; 0: none."""
        self._acknowledged = 0
        """The position last acknowledged while more was pending."""
        self.round = 0
        """The latest round of confirmation that this leader sent: every answer repeats it."""

    def cancel(self) -> None:
        """Another leader, or another log: nothing is pending for the last."""
        self._pending = self._acknowledged = self.round = 0

    def cut_off(self, after: int) -> None:
        """Entries after this seqno are gone, and with them the acknowledgement for them."""
        self._pending = min(self._pending, after)
        self._acknowledged = min(self._acknowledged, after)

    def is_due(self, reached: int, durable: int) -> bool:
        """Return whether to acknowledge `reached` at once, all being durable; keep it pending otherwise."""
        if reached <= durable and reached >= self._pending:
            self._pending = 0
            return True
        self._pending = max(self._pending, reached)
        return False

    def due(self, durable: int) -> int:
        """Return the position to acknowledge, given what is durable; 0 where the leader knows all of it."""
        pending = self._pending
        if pending == 0 or durable <= self._acknowledged:
            return 0
        self._pending, self._acknowledged = (0, 0) if pending <= durable else (pending, durable)
        return pending
