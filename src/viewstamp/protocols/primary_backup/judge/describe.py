"""Messages as prose, for traces and golden transcripts."""

from typing import Any

from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.messages import (
    Append,
    AppendRejected,
    AppendResponse,
    CourseMessage,
    Fence,
    Fenced,
    Fetch,
    Fetched,
    Greet,
    Greeted,
    Introduce,
    Promote,
    PromotionEnded,
    Recognize,
    Replicate,
    Replicated,
    SnapshotAck,
    SnapshotChunk,
    StaleEpoch,
)
from viewstamp.protocols.replication.judge import describe as wording


def describe(message: Any) -> str:
    """Return the message as a short line of prose, without who sends it to whom."""
    match message:
        case Greet() | Greeted() | Replicate() | Replicated() | Fetch() | Fetched():
            return _describe_course(message)
        case Introduce() | Recognize() | Promote() | PromotionEnded():
            return _describe_membership(message)
        case Fence() | Fenced():
            return _describe_fence(message)
        case Append() | AppendResponse() | AppendRejected():
            return _describe_replication(message)
        case StaleEpoch():
            return f"your epoch is over (epoch {message.epoch})"
        case SnapshotChunk() | SnapshotAck():
            return _describe_snapshot(message)
        case _:
            return f"something that is no primary_backup message: {type(message).__name__}"


def _describe_course(message: CourseMessage) -> str:
    match message:
        case Greet():
            return (
                f"factory {message.factory_id} is primary (takeover {message.view}), its log ends at "
                f"{message.last_index}, committed {message.committed_index}: where does yours stand?"
            )
        case Greeted():
            return f"my log ends at {message.last_index}, committed {message.committed_index}"
        case Replicate():
            return (
                f"write entry {message.last_index}, committed {message.committed_index} "
                f"(factory {message.factory_id})"
            )
        case Replicated():
            end = f"written up to {message.last_index}" if message.last_index else "you are primary no more"
            return f"{end} (takeover {message.view})"
        case Fetch():
            return (
                f"your log is newer than mine: send entry {message.first_index} on (takeover {message.view})"
            )
        case Fetched():
            return f"entry {message.last_index} of my log (takeover {message.view})"


def describe_record(record: SyncRecord) -> str:
    """Return who has everything, as of which record."""
    members = ", ".join(map(str, record.members))
    return f"record {record.epoch}/{record.version}: primary {record.primary}, synchronous {members}"


def _describe_membership(message: Introduce | Recognize | Promote | PromotionEnded) -> str:
    match message:
        case Introduce():
            return wording.describe_introduction(message)
        case Recognize():
            return f"the cluster is in epoch {message.epoch}, {describe_record(message.record)}"
        case Promote():
            return f"the operator wants you to lead (request {message.request})"
        case PromotionEnded():
            end = "I lead" if message.refusal is None else message.refusal
            return f"request {message.request}: {end}"


def _describe_fence(message: Fence | Fenced) -> str:
    if isinstance(message, Fence):
        order = ", the operator wants it" if message.by_operator else ""
        verb = "would you refuse" if message.trial else "refuse"
        return f"{verb} every epoch below {message.epoch}? I am to lead it{order}"
    verb = "granted" if message.granted else "refused"
    kind = "trial of epoch" if message.trial else "epoch"
    return f"{kind} {message.asked} {verb} (epoch {message.epoch}; {describe_record(message.record)})"


def _describe_replication(message: Append | AppendResponse | AppendRejected) -> str:
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
