"""The protocol's messages as the assignment's, and back: one to one, nothing is decided here."""

from typing import Final, TypeAlias, assert_never

from viewstamp.protocols.primary_backup.course.messages import (
    Fetch,
    Fetched,
    Greet,
    Greeted,
    Replicate,
    Replicated,
)
from viewstamp.services.records import MapOp
from viewstamp_labs.cs6650.messages import (
    ENTRY,
    GREETING,
    HAND_OVER,
    POSITION,
    WRITTEN,
    ReplicationRequest,
    ReplicationResponse,
    pack_operation,
    unpack_operation,
)

Question: TypeAlias = Greet | Replicate | Fetch
Reply: TypeAlias = Greeted | Replicated | Fetched

_NO_OPERATION: Final = MapOp(GREETING, 0, 0)
_HAND_OVER: Final = MapOp(HAND_OVER, 0, 0)


def request_of(message: Question) -> ReplicationRequest:
    """Return what the PFA sends for a message of its core."""
    match message:
        case Greet(view, factory_id, committed, last, last_view):
            return ReplicationRequest(factory_id, committed, last, _NO_OPERATION, view, last_view, 0)
        case Replicate(view, factory_id, committed, last, entry_view, previous_view, entry):
            operation = unpack_operation(entry)
            return ReplicationRequest(factory_id, committed, last, operation, view, entry_view, previous_view)
        case Fetch(view, factory_id, first):
            return ReplicationRequest(factory_id, 0, first, _HAND_OVER, view, 0, 0)
        case _:
            assert_never(message)


def message_of(request: ReplicationRequest) -> Question:
    """Return what the IFA feeds its core for a request."""
    takeover, factory_id, operation = request.takeover, request.factory_id, request.operation
    committed, last = request.committed_index, request.last_index
    if operation.opcode == GREETING:
        return Greet(takeover, factory_id, committed, last, request.entry_takeover)
    if operation.opcode == HAND_OVER:
        return Fetch(takeover, factory_id, last)
    entry_view, previous_view = request.entry_takeover, request.previous_takeover
    entry = pack_operation(operation)
    return Replicate(takeover, factory_id, committed, last, entry_view, previous_view, entry)


def response_of(reply: Reply) -> ReplicationResponse:
    """Return what the IFA answers for a message of its core."""
    match reply:
        case Replicated(view, last):
            return ReplicationResponse(WRITTEN, view, last, 0, 0, _NO_OPERATION)
        case Greeted(view, committed, last, last_view):
            return ReplicationResponse(POSITION, view, last, committed, last_view, _NO_OPERATION)
        case Fetched(view, index, entry_view, entry):
            return ReplicationResponse(ENTRY, view, index, 0, entry_view, unpack_operation(entry))
        case _:
            assert_never(reply)


def reply_of(response: ReplicationResponse) -> Reply:
    """Return what the PFA feeds its core for an answer."""
    view, last = response.takeover, response.last_index
    if response.kind == WRITTEN:
        return Replicated(view, last)
    if response.kind == POSITION:
        return Greeted(view, response.committed_index, last, response.last_takeover)
    return Fetched(view, last, response.last_takeover, pack_operation(response.operation))
