"""Messages as prose, for traces and golden transcripts."""

from typing import Any

from viewstamp.protocols.raft.configuration import Configuration, Member
from viewstamp.protocols.raft.messages import (
    Appended,
    AppendEntries,
    Conflict,
    Introduce,
    ReadIndex,
    ReadIndexAnswer,
    Recognize,
    RequestVote,
    SnapshotChunk,
    SnapshotWanted,
    TimeoutNow,
    Vote,
)


def describe(message: Any) -> str:
    """Return the message as a short line of prose, without who sends it to whom."""
    match message:
        case RequestVote() | Vote():
            return _describe_election(message)
        case AppendEntries() | Appended() | Conflict():
            return _describe_replication(message)
        case SnapshotChunk() | SnapshotWanted():
            return _describe_snapshot(message)
        case ReadIndex():
            return f"read request {message.request}: up to where must I have applied? (term {message.term})"
        case ReadIndexAnswer():
            answer = "ask somebody else" if message.seqno is None else f"up to {message.seqno}"
            return f"read request {message.request}: {answer} (term {message.term})"
        case TimeoutNow():
            return f"campaign now: you are to lead (term {message.term})"
        case Introduce():
            kind = "with a log" if message.founded else "without a log"
            return (
                f"I am incarnation {message.incarnation}, {kind}; I have heard of {_members(message.known)}"
            )
        case Recognize():
            return f"the cluster is {describe_configuration(message.configuration)} (term {message.term})"
        case _:
            return f"something that is no raft message: {type(message).__name__}"


def describe_configuration(configuration: Configuration) -> str:
    """Return who votes and who learns."""
    text = f"voters {_members(configuration.voters)}"
    return f"{text}, learners {_members(configuration.learners)}" if configuration.learners else text


def _members(members: tuple[Member, ...]) -> str:
    return ", ".join(f"{node} (life {incarnation})" for node, incarnation in members) or "nobody"


def _describe_election(message: RequestVote | Vote) -> str:
    kind = "pre-vote" if message.pre else "vote"
    if isinstance(message, RequestVote):
        order = ", the leader asked me to" if message.transfer else ""
        return (
            f"{kind} for me in term {message.term}: my log ends with {message.last_view}.{message.last_seqno}"
            f"{order}"
        )
    answer = "granted" if message.granted else "refused"
    return f"{kind} for node {message.candidate} in term {message.election} {answer} (term {message.term})"


def _describe_replication(message: AppendEntries | Appended | Conflict) -> str:
    tail = f" (term {message.term}, round {message.round})"
    if isinstance(message, Appended):
        return f"I have everything on disk up to {message.matched_view}.{message.matched_seqno}{tail}"
    if isinstance(message, Conflict):
        if message.refused_seqno == 0:
            return f"your term is over (term {message.term})"
        return (
            f"I do not have your entry {message.refused_seqno}: try after "
            f"{message.hint_view}.{message.hint_seqno}{tail}"
        )
    previous = f"{message.previous_view}.{message.previous_seqno}"
    if not message.entries:
        return f"heartbeat after {previous}, committed {message.committed}{tail}"
    plural = "entry follows" if len(message.entries) == 1 else "entries follow"
    return f"{len(message.entries)} {plural} {previous}, committed {message.committed}{tail}"


def _describe_snapshot(message: SnapshotChunk | SnapshotWanted) -> str:
    if isinstance(message, SnapshotWanted):
        reason = ", that was not the next piece" if message.gap else ""
        return (
            f"of snapshot {message.view}.{message.seqno} I want what begins at byte {message.offset}{reason} "
            f"(term {message.term})"
        )
    end = message.offset + len(message.data)
    return (
        f"snapshot {message.meta.viewstamp}, bytes {message.offset} to {end} of {message.meta.size_bytes} "
        f"(term {message.term})"
    )
