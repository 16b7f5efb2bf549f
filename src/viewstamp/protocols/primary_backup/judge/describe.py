"""Messages as prose, for traces and golden transcripts."""

from typing import Any

from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.messages import (
    AppendEntries,
    AppendRejected,
    AppendResponse,
    Dismissed,
    Fence,
    FenceResponse,
    Introduce,
    Promote,
    PromoteResponse,
    Recognize,
    SnapshotAck,
    SnapshotChunk,
    StaleEpoch,
)
from viewstamp.protocols.replication.judge import describe as wording


def describe(message: Any) -> str:
    """Return the message as a short line of prose, without its sender and receiver."""
    match message:
        case Introduce() | Recognize() | Promote() | PromoteResponse():
            return _describe_membership(message)
        case Fence() | FenceResponse():
            return _describe_fence(message)
        case AppendEntries() | AppendResponse() | AppendRejected():
            return _describe_replication(message)
        case StaleEpoch():
            return f"your epoch is over (epoch {message.epoch})"
        case Dismissed():
            return f"your incarnation was removed at {message.at} (epoch {message.epoch})"
        case SnapshotChunk() | SnapshotAck():
            return _describe_snapshot(message)
        case _:
            return f"not a primary_backup message: {type(message).__name__}"


def describe_record(record: SyncRecord) -> str:
    """Return the primary and the synchronous members of a record."""
    members = ", ".join(map(str, record.members))
    text = f"record {record.epoch}/{record.version}: primary {record.primary}, synchronous {members}"
    if record.changed is None:
        return text
    configuration = record.configuration
    parts = [("voters", configuration.voters), ("learners", configuration.learners)]
    parts.append(("leaving", configuration.outgoing))
    named = [f"{what} {', '.join(str(node) for node, _ in nodes)}" for what, nodes in parts if nodes]
    return f"{text}; since {record.changed_at} {', '.join(named)}"


def _describe_membership(message: Introduce | Recognize | Promote | PromoteResponse) -> str:
    match message:
        case Introduce():
            return wording.describe_introduction(message)
        case Recognize():
            return f"the cluster is in epoch {message.epoch}, {describe_record(message.record)}"
        case Promote():
            return f"the operator requests that you lead (request {message.request})"
        case PromoteResponse():
            end = "I lead" if message.refusal is None else message.refusal
            return f"request {message.request}: {end}"


def _describe_fence(message: Fence | FenceResponse) -> str:
    if isinstance(message, Fence):
        order = ", at the operator's request" if message.by_operator else ""
        if message.trial:
            return f"would you refuse every epoch below {message.epoch}? I am to lead it{order}"
        return f"refuse every epoch below {message.epoch}: I am to lead it{order}"
    verb = "granted" if message.granted else "refused"
    kind = "trial of epoch" if message.trial else "epoch"
    return f"{kind} {message.asked} {verb} (epoch {message.epoch}; {describe_record(message.record)})"


def _describe_replication(message: AppendEntries | AppendResponse | AppendRejected) -> str:
    tail = f" (epoch {message.epoch}, round {message.round})"
    if isinstance(message, AppendResponse):
        version = f", record version {message.version}" if message.version else ""
        return wording.describe_response(message) + version + tail
    if isinstance(message, AppendRejected):
        return wording.describe_rejection(message) + tail
    record = f", {describe_record(message.record)}" if message.record is not None else ""
    return wording.describe_append(message) + record + tail


def _describe_snapshot(message: SnapshotChunk | SnapshotAck) -> str:
    tail = f" (epoch {message.epoch})"
    if isinstance(message, SnapshotAck):
        return wording.describe_ack(message) + tail
    return wording.describe_chunk(message) + tail
