"""What protocols with a log say alike to operators and in transcripts. What a view is called is theirs."""

from collections.abc import Iterable

from viewstamp.protocols.replication.messages import (
    BaseAppendEntries,
    BaseAppendRejected,
    BaseAppendResponse,
    BaseIntroduce,
    BaseSnapshotAck,
    BaseSnapshotChunk,
    Member,
)


def name_members(members: Iterable[Member]) -> str:
    """Return the members with their incarnations."""
    return ", ".join(f"{node} (incarnation {incarnation})" for node, incarnation in members) or "no node"


def describe_introduction(message: BaseIntroduce) -> str:
    """Return the introduction in words."""
    kind = "with a log" if message.bootstrapped else "without a log"
    return f"I am incarnation {message.incarnation}, {kind}; I have heard of {name_members(message.known)}"


def describe_append(message: BaseAppendEntries) -> str:
    """Return what follows which entry, and up to where the log is committed."""
    previous = f"{message.previous_view}.{message.previous_seqno}"
    if not message.entries:
        return f"heartbeat after {previous}, committed {message.committed}"
    plural = "entry follows" if len(message.entries) == 1 else "entries follow"
    return f"{len(message.entries)} {plural} {previous}, committed {message.committed}"


def describe_response(message: BaseAppendResponse) -> str:
    """Return what a follower has."""
    return f"I have everything on disk up to {message.matched_view}.{message.matched_seqno}"


def describe_rejection(message: BaseAppendRejected) -> str:
    """Return what a follower lacks."""
    hint = f"{message.hint_view}.{message.hint_seqno}"
    return f"I do not have your entry {message.refused_seqno}: try after {hint}"


def describe_chunk(message: BaseSnapshotChunk) -> str:
    """Return which piece of which snapshot comes."""
    end = message.offset + len(message.data)
    return f"snapshot {message.meta.viewstamp}, bytes {message.offset} to {end} of {message.meta.size_bytes}"


def describe_ack(message: BaseSnapshotAck) -> str:
    """Return which piece of which snapshot is wanted."""
    reason = ", that was not the next piece" if message.gap else ""
    snapshot = f"{message.view}.{message.seqno}"
    return f"of snapshot {snapshot} I want what begins at byte {message.offset}{reason}"
