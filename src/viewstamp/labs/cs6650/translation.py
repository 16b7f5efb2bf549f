"""The protocol's messages as the assignment's, and back: one to one, nothing is decided here."""

from typing import TypeAlias

from viewstamp.core.ids import NodeId, Seqno, View
from viewstamp.labs.cs6650.messages import (
    GREETING,
    POSITION,
    WRITTEN,
    ReplicationRequest,
    ReplicationResponse,
    pack_operation,
    unpack_operation,
)
from viewstamp.protocols.primary_backup.messages import Greet, Greeted, Replicate, Replicated
from viewstamp.services.records import MapOp

Question: TypeAlias = Greet | Replicate
Reply: TypeAlias = Greeted | Replicated

_NO_OPERATION = MapOp(GREETING, 0, 0)


def request_of(message: Question) -> ReplicationRequest:
    """Return what the PFA sends for a message of its core."""
    if isinstance(message, Greet):
        operation, entry, previous = _NO_OPERATION, message.last_view, 0
    else:
        operation = unpack_operation(message.entry)
        entry, previous = message.entry_view, message.previous_view
    return ReplicationRequest(
        message.factory_id,
        message.committed_index,
        message.last_index,
        operation,
        message.view,
        entry,
        previous,
    )


def message_of(request: ReplicationRequest) -> Question:
    """Return what the IFA feeds its core for a request."""
    if request.operation.opcode == GREETING:
        return Greet(
            view=View(request.takeover),
            factory_id=NodeId(request.factory_id),
            committed_index=Seqno(request.committed_index),
            last_index=Seqno(request.last_index),
            last_view=View(request.entry_takeover),
        )
    return Replicate(
        view=View(request.takeover),
        factory_id=NodeId(request.factory_id),
        committed_index=Seqno(request.committed_index),
        last_index=Seqno(request.last_index),
        entry_view=View(request.entry_takeover),
        previous_view=View(request.previous_takeover),
        entry=pack_operation(request.operation),
    )


def response_of(reply: Reply) -> ReplicationResponse:
    """Return what the IFA answers for a message of its core."""
    if isinstance(reply, Replicated):
        return ReplicationResponse(WRITTEN, reply.view, reply.last_index, 0, 0)
    return ReplicationResponse(POSITION, reply.view, reply.last_index, reply.committed_index, reply.last_view)


def reply_of(response: ReplicationResponse) -> Reply:
    """Return what the PFA feeds its core for an answer."""
    view, last_index = View(response.takeover), Seqno(response.last_index)
    if response.kind == WRITTEN:
        return Replicated(view=view, last_index=last_index)
    return Greeted(
        view=view,
        committed_index=Seqno(response.committed_index),
        last_index=last_index,
        last_view=View(response.last_takeover),
    )
