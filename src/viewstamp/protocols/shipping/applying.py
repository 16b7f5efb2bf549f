"""Handing out what is committed, a bounded piece at a time."""

from viewstamp.core.effects import Apply, Entry
from viewstamp.core.ids import Viewstamp
from viewstamp.protocols.shipping.entries import COMMAND
from viewstamp.protocols.shipping.node import NodeState


def apply_committed(state: NodeState) -> None:
    """Hand out committed entries in order, at least one and a bounded number and size in one step."""
    last = min(state.committed, state.applied + state.options.applies_per_step_max)
    room_bytes = state.options.apply_bytes_per_step_max
    emit, entry_at = state.outbox.emit, state.log.entry
    for seqno in range(state.applied + 1, last + 1):
        entry = entry_at(seqno)
        data = entry.data if entry.kind == COMMAND else b""
        # Seqno(seqno) would be a call: a restart applies a million entries.
        emit(Apply(Entry(Viewstamp(entry.view, seqno), data)))  # type: ignore[arg-type]
        state.applied = seqno
        if (room_bytes := room_bytes - len(data)) <= 0:
            break
