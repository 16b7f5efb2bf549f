"""What happened in a run: a rolling hash of everything always, JSON lines of it where they are asked for.

Rules of this file: what goes into a line is a function of the seed, so two runs of one seed give the same
bytes; the hash covers every event whether or not lines are written, so a campaign can compare runs cheaply.
"""

from collections import deque
from typing import Any, Final, TextIO

import msgspec
import xxhash

from viewstamp.core.events import PeerDown, PeerUp, Persisted, Received
from viewstamp.core.ids import NodeId
from viewstamp.core.judge import Oracle
from viewstamp.replica.events import DiskReported, ReplicaEvent, Requested, Voted

LAST_LINES_MAX: Final = 200
"""How many lines a trace without a file remembers for the report of a failure."""

_ENCODER: Final = msgspec.json.Encoder()
_ENCODE_MESSAGE: Final = msgspec.msgpack.Encoder().encode


def describe_client_message(message: Any, encoded: bytes) -> str:
    """Return a message between client and server as text: its name, its fields as they were encoded."""
    return f"{type(message).__name__} {msgspec.msgpack.decode(encoded)[1:]!r}"


class Trace:
    """Records what happens in one run."""

    __slots__ = ("_hash", "_sink", "last", "verbose")

    def __init__(self, sink: TextIO | None = None, *, verbose: bool = False) -> None:
        """Write JSON lines to `sink` if given; `verbose` keeps the last lines in memory even without one."""
        self._hash = xxhash.xxh3_64()
        self._sink = sink
        self.verbose = verbose or sink is not None
        """Whether lines are made at all. Ask this before a costly description."""
        self.last: deque[str] = deque(maxlen=LAST_LINES_MAX)

    @property
    def digest(self) -> str:
        """The hash of everything so far, as 16 hexadecimal digits."""
        return self._hash.hexdigest()

    def feed(self, at_us: int, kind: bytes, node: int, content: bytes) -> None:
        """Add an event to the hash."""
        self._hash.update(b"%d %b %d %d " % (at_us, kind, node, len(content)))
        self._hash.update(content)

    def line(self, at_us: int, kind: str, node: int, **fields: Any) -> None:
        """Write a line for a reader. Only called where `verbose`."""
        text = _ENCODER.encode({"at_us": at_us, "kind": kind, "node": node, **fields}).decode()
        self.last.append(text)
        if self._sink is not None:
            self._sink.write(text + "\n")

    def note(self, at_us: int, kind: str, node: int, **fields: Any) -> None:
        """Add something rare to the hash, and write its line if lines are made."""
        self.feed(at_us, kind.encode(), node, _ENCODER.encode(fields))
        if self.verbose:
            self.line(at_us, kind, node, **fields)


def trace_event(trace: Trace, oracle: Oracle, at_us: int, node: NodeId, event: ReplicaEvent) -> None:
    """Record an event of a server."""
    if type(event) is Received:
        trace.feed(at_us, b"receive", event.source, _ENCODE_MESSAGE(event.message))
    elif type(event) is Requested:
        trace.feed(at_us, b"request", node, event.encoded)
    elif type(event) is DiskReported:
        trace.feed(at_us, b"receive", event.source, _ENCODE_MESSAGE(event.report))
    else:
        trace.feed(at_us, b"event", node, type(event).__name__.encode())
    if trace.verbose:
        _describe(trace, oracle, at_us, node, event)


def _describe(trace: Trace, oracle: Oracle, at_us: int, node: NodeId, event: ReplicaEvent) -> None:
    match event:
        case Received():
            trace.line(at_us, "receive", node, source=event.source, message=oracle.describe(event.message))
        case Requested():
            prose = describe_client_message(event.message, event.encoded)
            trace.line(at_us, "request", node, client=event.source, message=prose)
        case Voted():
            trace.line(at_us, "vote", node, source=event.source, message=repr(event.vote))
        case DiskReported():
            trace.line(at_us, "disk", node, source=event.source, message=repr(event.report))
        case Persisted():
            trace.line(at_us, "persisted", node, seq=event.seq)
        case PeerUp() | PeerDown():
            trace.line(at_us, type(event).__name__, node, peer=event.peer)
        case _:
            trace.line(at_us, type(event).__name__, node)
