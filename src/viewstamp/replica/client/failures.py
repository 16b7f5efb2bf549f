"""How a call ends without a result, in one line that says whether it happened and who did not answer."""

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from viewstamp.core.ids import NodeId
from viewstamp.core.messages import DENIED, FAILED, FULL, INVALID, SKIPPED, UNREADABLE
from viewstamp.machine.access import Denial
from viewstamp.replica.client.calls import Call
from viewstamp.replica.events import Failed, Outcome, Raised

CLOSED: Final = "the client was closed"

_FAILURE: Final = msgspec.msgpack.Decoder(tuple[str, str])
_DENIAL: Final = msgspec.msgpack.Decoder(Denial)
_TEXT: Final = msgspec.msgpack.Decoder(str)
_NUMBER: Final = msgspec.msgpack.Decoder(int)


def failed(call: Call, why: str, servers: Iterable[NodeId], up: Collection[NodeId]) -> Failed:
    """Return the outcome of a call that gets no result: perhaps executed, or certainly not."""
    waiting = () if call.flight is None else (call.flight.server,)
    silent = tuple(sorted({node for node in (*call.silent, *waiting) if node in up}))
    unreachable = tuple(sorted(node for node in servers if node not in up))
    absent = _absent(silent, unreachable)
    reason = "; ".join(part for part in (why, absent, call.refusal) if part)
    if call.kind == "command" and call.possible_executions:
        text = f"outcome unknown, read before you repeat it: {reason}"
        return Failed("unknown", text, unreachable, silent)
    return Failed("not_executed", f"not executed: {reason}", unreachable, silent)


def expired(call: Call, explanation: str) -> Failed:
    """Return the outcome of a call whose session the servers have forgotten."""
    if call.possible_executions > 0:
        return Failed("unknown", f"outcome unknown, its session expired after it was sent: {explanation}")
    return Failed("session_expired", explanation)


def names(nodes: Iterable[NodeId]) -> str:
    """Return nodes as words: "node 2", "nodes 1, 3"; empty for none."""
    ordered = sorted(nodes)
    if not ordered:
        return ""
    return ("node " if len(ordered) == 1 else "nodes ") + ", ".join(map(str, ordered))


def _absent(silent: Collection[NodeId], unreachable: Collection[NodeId]) -> str:
    parts = [
        f"{names(nodes)} {what}"
        for nodes, what in ((silent, "did not answer"), (unreachable, "cannot be reached"))
        if nodes
    ]
    return ", ".join(parts)


def _denied(call: Call, payload: msgspec.Raw) -> Failed:
    """Return the outcome of a call of which a server says that its caller may not make it.

    An attempt before this one may have been taken in by another server, whose grants were others.
    """
    try:
        denial = _DENIAL.decode(payload)
    except UNREADABLE:
        denial = Denial("this client", "", "unreadable")
    if call.kind == "command" and call.possible_executions:
        return Failed("unknown", f"outcome unknown, read before you repeat it: an attempt was {denial.text}")
    return Failed("denied", denial.text, denial=denial)


def _full(call: Call, payload: msgspec.Raw) -> Failed:
    """Return the outcome of a call for which a server has no room."""
    try:
        text, what = _FAILURE.decode(payload)
    except UNREADABLE:
        text, what = "not executed: the server has no room for it", ""
    if call.possible_executions and call.kind == "command":
        return Failed("unknown", f"outcome unknown, read before you repeat it: an attempt was {text}")
    return Failed("not_executed", text, overloaded=what or "server")


def without_result(call: Call, kind: int, payload: msgspec.Raw) -> Outcome:
    """Return the outcome that a server's line says, for one that is final and not a `RESULT`."""
    if kind == FAILED:
        try:
            return Raised(*_FAILURE.decode(payload))
        except UNREADABLE:
            return Raised("unreadable", "the server's account of the exception cannot be read")
    if kind == INVALID:
        return Failed("invalid", text_of(payload))
    if kind == FULL:
        return _full(call, payload)
    if kind == DENIED:
        return _denied(call, payload)
    if kind == SKIPPED:
        return Failed("not_executed", text_of(payload))
    return Failed(
        "unknown", f"outcome unknown: the server answered in a way this version does not know ({kind})"
    )


def text_of(payload: msgspec.Raw) -> str:
    """Return a server's explanation."""
    try:
        return _TEXT.decode(payload)
    except UNREADABLE:
        return "the server's explanation cannot be read"


def number_of(payload: msgspec.Raw) -> int:
    """Return the session that a line about a session names; 0, which is none, where it cannot be read."""
    try:
        return _NUMBER.decode(payload)
    except UNREADABLE:
        return 0
