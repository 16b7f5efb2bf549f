"""Messages as prose, for traces and golden transcripts."""

from typing import Any

from viewstamp.protocols.raft.messages import (
    AppendEntries,
    AppendRejected,
    AppendResponse,
    Dismissed,
    Introduce,
    ReadIndex,
    ReadIndexAnswer,
    Recognize,
    RequestVote,
    SnapshotAck,
    SnapshotChunk,
    StaleTerm,
    TimeoutNow,
    VoteResponse,
)
from viewstamp.protocols.replication.configuration import Configuration
from viewstamp.protocols.replication.judge import describe as wording
from viewstamp.protocols.replication.judge.describe import name_members


def describe(message: Any) -> str:
    """Return the message as a short line of prose, without sender and receiver."""
    match message:
        case RequestVote() | VoteResponse():
            return _describe_election(message)
        case AppendEntries() | AppendResponse() | AppendRejected():
            return _describe_replication(message)
        case StaleTerm():
            return f"your term is over (term {message.term})"
        case SnapshotChunk() | SnapshotAck():
            return _describe_snapshot(message)
        case ReadIndex():
            return f"read request {message.request}: up to where must I have applied? (term {message.term})"
        case ReadIndexAnswer():
            answer = "ask another node" if message.index is None else f"up to {message.index}"
            return f"read request {message.request}: {answer} (term {message.term})"
        case TimeoutNow():
            return f"campaign now: you are to lead (term {message.term})"
        case Introduce():
            return wording.describe_introduction(message)
        case Recognize():
            return f"the cluster is {describe_configuration(message.configuration)} (term {message.term})"
        case _:
            return _describe_rare(message)


def _describe_rare(message: Any) -> str:
    if isinstance(message, Dismissed):
        return f"you were removed at {message.view}.{message.seqno} (term {message.term})"
    return f"something that is not a raft message: {type(message).__name__}"


def describe_configuration(configuration: Configuration) -> str:
    """Return the voters and the learners."""
    text = f"voters {name_members(configuration.voters)}"
    if configuration.is_joint:
        text += f" and still {name_members(configuration.outgoing)}"
    return f"{text}, learners {name_members(configuration.learners)}" if configuration.learners else text


def _describe_election(message: RequestVote | VoteResponse) -> str:
    kind = "pre-vote" if message.pre else "vote"
    if isinstance(message, RequestVote):
        order = ", the leader asked me to" if message.transfer else ""
        return (
            f"{kind} for me in term {message.term}: "
            f"my log ends with {message.last_log_term}.{message.last_log_index}{order}"
        )
    answer = "granted" if message.granted else "refused"
    return f"{kind} for node {message.candidate} in term {message.election} {answer} (term {message.term})"


def _describe_replication(message: AppendEntries | AppendResponse | AppendRejected) -> str:
    tail = f" (term {message.term}, round {message.round})"
    if isinstance(message, AppendResponse):
        return wording.describe_response(message) + tail
    if isinstance(message, AppendRejected):
        return wording.describe_rejection(message) + tail
    return wording.describe_append(message) + tail


def _describe_snapshot(message: SnapshotChunk | SnapshotAck) -> str:
    tail = f" (term {message.term})"
    if isinstance(message, SnapshotAck):
        return wording.describe_ack(message) + tail
    return wording.describe_chunk(message) + tail
