"""What others may read of the committed log: positions, the newest snapshot, the last entries.

Readers pull: each request is answered by one bounded message, so a reader sets its own pace and this node
keeps nothing for it but a hold on the snapshot that it reads. The answers hold records of a stream
(`viewstamp.stream`) as they stand in a file.

The last entries that were applied are kept up to a number of bytes, beside the log of the core, which forgets
by rules of its own. A reader that asks for older ones is told so, and takes a snapshot.
"""

from collections.abc import Iterator
from typing import Final, TypeAlias, assert_never

import msgspec

from viewstamp.core.effects import Answer, Entry, Refuse
from viewstamp.core.events import ReadToken
from viewstamp.core.ids import ORIGIN, ClientAddress, Viewstamp
from viewstamp.core.messages import (
    REFUSED,
    Logged,
    LogPart,
    PositionReply,
    QueryRequest,
    ReadLog,
    ReadPosition,
    ReadSnapshot,
    ServerMessage,
    SnapshotPart,
    Waited,
    WaitFor,
)
from viewstamp.core.snapshots import Snapshot
from viewstamp.machine.interface import code_of
from viewstamp.replica.divergence import sent_away
from viewstamp.replica.refusals import encoded_text
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.replica.responses import Responses
from viewstamp.stream.records import CHUNK_BYTES, Chunk, LogEntry, encode_record

PART_BYTES_MAX: Final = 1 << 20
"""Of the entries in one answer, unless a single one is longer."""
ENTRY_BYTES: Final = 200
"""What an entry takes here beside its data, about."""
READERS_MAX: Final = 16
"""Connections that read a snapshot at a time, and positions that are being confirmed."""

Reading: TypeAlias = ReadPosition | ReadSnapshot | ReadLog
"""What a reader of the log may ask for."""

_BUSY: Final = "too many read from this node: try again later, or ask another node"
_NO_LEADER: Final = "this node cannot confirm a position now: ask the leader"
_NO_SNAPSHOT: Final = "this node has no snapshot that is new enough: let it take one"
_BEGIN_AGAIN: Final = "this connection reads no snapshot: begin again at offset 0"


class LogTail:
    """The last entries that were applied here, contiguous, within a number of bytes."""

    __slots__ = ("_entries", "_first", "_size", "base", "base_digest", "bytes_max")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._entries: list[LogEntry] = []
        self._first = 0
        """Where the entries begin in the list: what is before is forgotten, and dropped now and then."""
        self._size = 0
        self.base: Viewstamp = ORIGIN
        """The entry before the first one here."""
        self.base_digest = 0
        """The digest chain up to `base`."""

    @property
    def last(self) -> Viewstamp:
        """The last entry here, or `base`."""
        return self._entries[-1].viewstamp if len(self._entries) > self._first else self.base

    @property
    def size_bytes(self) -> int:
        """Bytes that the entries here take, about."""
        return self._size

    def reset(self, base: Viewstamp, digest: int) -> None:
        """Forget everything, and go on after this entry."""
        self._entries, self._first, self._size = [], 0, 0
        self.base, self.base_digest = base, digest

    def add(self, entry: Entry, digest: int) -> None:
        """Keep an entry that was applied, with the digest chain after it."""
        viewstamp, entries = entry.viewstamp, self._entries
        entries.append(LogEntry(viewstamp.view, viewstamp.seqno, digest, entry.data))
        self._size += len(entry.data) + ENTRY_BYTES
        while self._size > self.bytes_max:
            oldest = entries[self._first]
            self._size -= len(oldest.data) + ENTRY_BYTES
            self.base, self.base_digest = oldest.viewstamp, oldest.digest
            self._first += 1
        if self._first > len(entries) // 2:
            del entries[: self._first]
            self._first = 0

    def after(self, viewstamp: Viewstamp, bytes_max: int) -> list[LogEntry] | None:
        """Return the entries after this one, within `bytes_max` but at least one, if there are any.

        None: the entry is not known here; it is too old, or not one of this log.
        """
        place = self._first + viewstamp.seqno - self.base.seqno
        if self.digest_at(viewstamp) is None:
            return None
        found: list[LogEntry] = []
        for entry in self._entries[place : place + bytes_max // ENTRY_BYTES + 1]:
            bytes_max -= len(entry.data) + ENTRY_BYTES
            if bytes_max < 0 and found:
                break
            found.append(entry)
        return found

    def digest_at(self, viewstamp: Viewstamp) -> int | None:
        """Return the digest chain up to this entry; None where it is not known here."""
        if viewstamp == self.base:
            return self.base_digest
        place = self._first + viewstamp.seqno - self.base.seqno - 1
        if not self._first <= place < len(self._entries):
            return None
        entry = self._entries[place]
        return entry.digest if entry.view == viewstamp.view else None


class Exports:
    """Answers those who read the log of one replica."""

    __slots__ = ("_confirming", "_held", "_last", "_responses", "tail")

    def __init__(self, responses: Responses, tail_bytes_max: int) -> None:
        self._responses = responses
        self.tail = LogTail(tail_bytes_max)
        self._held: dict[ClientAddress, Snapshot] = {}
        """The snapshot that each connection reads: it stays readable when a newer one takes its place."""
        self._confirming: dict[ReadToken, tuple[ClientAddress, int]] = {}
        """Whom to tell, and under which request number, when the core has confirmed a position."""
        self._last = 0

    def usage(self) -> Iterator[tuple[str, int, int]]:
        """Yield what is kept for readers: (what, how much, how much at most)."""
        yield "snapshots being read", len(self._held), READERS_MAX
        yield "positions being confirmed", len(self._confirming), READERS_MAX
        yield "bytes of the log kept for readers", self.tail.size_bytes, self.tail.bytes_max

    def begin(self, state: ReplicatedState) -> None:
        """Go on after the state of a snapshot. Without effect where it is the one that the tail ends with."""
        if self.tail.last != state.applied:
            self.tail.reset(state.applied, state.chain.digest)

    def gone(self, source: ClientAddress) -> None:
        """Forget a connection that was closed."""
        self._held.pop(source, None)

    def on_request(
        self, source: ClientAddress, message: Reading, state: ReplicatedState, newest: Snapshot | None
    ) -> ReadToken | None:
        """Answer, or return the token of the read round that must come first."""
        match message:
            case ReadPosition():
                return self._confirm(source, message)
            case ReadSnapshot():
                part = self._read_snapshot(source, message, newest)
                if message.offset == 0 and part.refusal is None:
                    part = msgspec.structs.replace(part, code=code_of(state.definition.cls))
                self._responses.say(source, part)
            case ReadLog():
                self._responses.say(source, self._read_log(message, state))
            case _:
                assert_never(message)
        return None

    def _confirm(self, source: ClientAddress, message: ReadPosition) -> ReadToken | None:
        if len(self._confirming) >= READERS_MAX:
            self._responses.say(source, PositionReply(message.request, ORIGIN, 0, _BUSY))
            return None
        self._last -= 1
        token = ReadToken(self._last)  # queries count upwards
        self._confirming[token] = source, message.request
        return token

    def on_round(self, effect: Answer | Refuse, state: ReplicatedState) -> None:
        """Answer a request whose round came to its end, or was refused."""
        source, request = self._confirming.pop(effect.token)
        if isinstance(effect, Refuse):
            self._responses.say(source, PositionReply(request, ORIGIN, 0, _NO_LEADER))
        else:
            self._responses.say(source, PositionReply(request, state.applied, state.chain.digest))

    def _read_snapshot(
        self, source: ClientAddress, message: ReadSnapshot, newest: Snapshot | None
    ) -> SnapshotPart:
        """Return a piece of the snapshot that this connection reads; with offset 0 it begins to read one."""
        if message.offset == 0:
            if newest is None or newest.meta.viewstamp.seqno < message.seqno_min:
                return SnapshotPart(message.request, None, b"", _NO_SNAPSHOT)
            if source not in self._held and len(self._held) >= READERS_MAX:
                return SnapshotPart(message.request, None, b"", _BUSY)
            self._held[source] = newest
        held = self._held.get(source)
        if held is None:
            return SnapshotPart(message.request, None, b"", _BEGIN_AGAIN)
        data = held.read(message.offset, CHUNK_BYTES) if 0 <= message.offset < held.meta.size_bytes else b""
        if message.offset + len(data) >= held.meta.size_bytes:
            self._held.pop(source)
        records = encode_record(Chunk(message.offset, data)) if data else b""
        return SnapshotPart(message.request, held.meta, records)

    def _read_log(self, message: ReadLog, state: ReplicatedState) -> LogPart:
        """Return entries after a position, as many as fit into one answer; none where nothing is new."""
        after = message.after
        found = self.tail.after(after, min(PART_BYTES_MAX, max(0, message.bytes_max)))
        if found is None:
            return LogPart(message.request, state.applied, 0, b"", self._unknown(after, state))
        digest = self.tail.digest_at(after)
        assert digest is not None
        return LogPart(message.request, state.applied, digest, b"".join(map(encode_record, found)))

    def _unknown(self, after: Viewstamp, state: ReplicatedState) -> str:
        if after.seqno < self.tail.base.seqno:
            return (
                f"compacted: the entries after {after} are gone here, the oldest kept is the one after "
                f"{self.tail.base}: take a snapshot, or ask another node"
            )
        if after.seqno > state.applied.seqno:
            return f"this node has applied up to {state.applied} only: ask again later, or ask another node"
        return f"no entry {after} is in this log: it is another history"


def turned_away(message: Reading | Logged | QueryRequest | WaitFor, reason: str) -> ServerMessage:
    """Return the answer of a replica that does not serve."""
    match message:
        case ReadPosition():
            return PositionReply(message.request, ORIGIN, 0, reason)
        case ReadSnapshot():
            return SnapshotPart(message.request, None, b"", reason)
        case ReadLog():
            return LogPart(message.request, ORIGIN, 0, b"", reason)
        case WaitFor():
            return Waited(message.request, REFUSED, encoded_text(f"not executed: {reason}"))
        case _:
            return sent_away(message, reason)
