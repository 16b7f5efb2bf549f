"""The body of a replica's snapshot: a preface, the sessions in chunks, then the machine's own pieces.

Each chunk stands behind its length in 8 bytes, big-endian; an empty one ends the sessions; what follows
belongs to the machine. The body is made piece by piece, so that a large machine is never in memory twice.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from viewstamp.core.effects import Capture
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.events import Captured, PeerDown, PeerUp, SnapshotToken, Staged
from viewstamp.core.ids import LogTime, Viewstamp
from viewstamp.core.messages import UNREADABLE
from viewstamp.core.snapshots import (
    FORMAT,
    NOTHING,
    Snapshot,
    SnapshotMeta,
    Versions,
    read_whole,
    version_refusal,
)
from viewstamp.machine.in_force import VersionInForce
from viewstamp.replica.digest_chain import DigestChain
from viewstamp.replica.events import Save
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.replica.sessions import SessionImage, Sessions
from viewstamp.replica.versions import NewerCodeNeeded

SESSIONS_PER_CHUNK: Final = 256
BYTES_PER_CHUNK: Final = 1 << 20
_LENGTH_BYTES: Final = 8


class Preface(msgspec.Struct, frozen=True, array_like=True):
    """What stands first in a body."""

    format: int
    level: int
    machine_version: int
    machine: str
    """The class's name: a snapshot of another machine is refused by name."""
    log_time: int
    digest: int
    interface: dict[str, str] | None = None
    """What the version in force defines of the class; None: the log has not said it."""
    limits: dict[str, int] = {}
    """Limits of sessions that the log has changed."""


class SnapshotUnreadable(Exception):
    """A snapshot cannot be read as one of this machine: nothing was changed."""


_ENCODER: Final = msgspec.msgpack.Encoder()
_PREFACE: Final[msgspec.msgpack.Decoder[Preface]] = msgspec.msgpack.Decoder(Preface)
_CHUNK: Final[msgspec.msgpack.Decoder[list[SessionImage]]] = msgspec.msgpack.Decoder(list[SessionImage])


class Parts(Iterator[bytes]):
    """The pieces of a body, made while they are consumed, as long as the state is the same."""

    __slots__ = ("_pieces", "_unchanged")

    def __init__(self, pieces: Iterator[bytes], unchanged: Callable[[], bool]) -> None:
        self._pieces = pieces
        self._unchanged = unchanged

    def __next__(self) -> bytes:
        """Return the next piece; an AssertionError where the driver fed another event before it was done."""
        piece = next(self._pieces)
        assert self._unchanged(), "drain Save.parts before the next event"
        return piece

    def freeze(self) -> None:
        """Make all pieces now, because the state is about to change within the same step.

        What the machine raises meanwhile is raised to the driver, where it would have been: the snapshot is
        not made, and the step goes on.
        """
        self._pieces = _made(self._pieces)
        self._unchanged = _always


def _made(pieces: Iterator[bytes]) -> Iterator[bytes]:
    made: list[bytes] = []
    try:
        made.extend(pieces)
    except Exception as error:  # noqa: BLE001  the machine's code may raise anything
        return _raising(error)
    return iter(made)


def _raising(error: Exception) -> Iterator[bytes]:
    yield from ()
    raise error


def _always() -> bool:
    return True


def capture(state: ReplicatedState) -> Parts:
    """Return the body of a snapshot of this state as it is now."""
    applied = state.applied
    return Parts(_pieces(state), lambda: state.applied == applied)


def _pieces(state: ReplicatedState) -> Iterator[bytes]:
    name = state.definition.cls.__name__
    versions = state.versions or NOTHING
    preface = Preface(
        FORMAT,
        versions.level,
        versions.machine,
        name,
        state.log_time,
        state.chain.digest,
        state.runner.in_force.declared,
        state.sessions.overrides,
    )
    yield _framed(_ENCODER.encode(preface))
    chunks = state.sessions.images(sessions_max=SESSIONS_PER_CHUNK, bytes_max=BYTES_PER_CHUNK)
    for chunk in chunks:
        yield _framed(_ENCODER.encode(chunk))
    yield _framed(b"")
    if state.versions is not None:  # else no command was executed, and classes may differ in their defaults
        yield from state.runner.pieces()


def _framed(piece: bytes) -> bytes:
    return len(piece).to_bytes(_LENGTH_BYTES, "big") + piece


def read_preface(snapshot: Snapshot) -> Preface:
    """Return what stands first in a body.

    Raises:
        SnapshotUnreadable: it is not one.
    """
    return preface_of(read_whole(snapshot))


def preface_of(begin: bytes) -> Preface:
    """Return the preface of the body that begins with these bytes.

    Raises:
        SnapshotUnreadable: it is not the body of a snapshot.
    """
    try:
        return _PREFACE.decode(_Reader(memoryview(begin)).chunk())
    except UNREADABLE as error:
        raise SnapshotUnreadable(f"a snapshot cannot be read: {error}") from None


def restore(snapshot: Snapshot, state: ReplicatedState) -> ReplicatedState:
    """Return a new replicated state made of the snapshot; the old one stays as it is, whatever is wrong.

    Raises:
        SnapshotUnreadable: the body is not a snapshot of this machine.
        NewerCodeNeeded: it is one, of a version that this code cannot do.
    """
    reader = _Reader(memoryview(read_whole(snapshot)))
    try:
        preface = _PREFACE.decode(reader.chunk())
        _require_same(preface, state)
        fresh = ReplicatedState(state.definition, state.sessions.limits)
        fresh.sessions = Sessions(state.sessions.limits, reader.sessions())
        fresh.sessions.change(preface.limits)
        versions = Versions(preface.level, preface.machine_version)
        if versions == NOTHING:
            fresh.runner = state.runner.fresh()
        else:
            fresh.versions = Versions(preface.level, preface.machine_version or 1)
            in_force = VersionInForce(state.definition, fresh.versions.machine, preface.interface)
            if reason := in_force.needs():
                raise NewerCodeNeeded(reason)
            fresh.runner = state.runner.restored(reader.rest(), in_force)
    except (*UNREADABLE, ConfigurationError) as error:
        raise SnapshotUnreadable(f"a snapshot cannot be restored: {error}") from None
    if any(session.last_used > preface.log_time for session in fresh.sessions):
        raise SnapshotUnreadable("a snapshot cannot be restored: a session was used after its log time")
    fresh.log_time = LogTime(preface.log_time)
    fresh.move_to(snapshot.meta.viewstamp)
    fresh.chain = DigestChain(fresh.applied.seqno, preface.digest)
    return fresh


def recover(snapshot: Snapshot, state: ReplicatedState) -> ReplicatedState:
    """As `restore`, for the snapshot that a node finds on its disk when it starts.

    Raises:
        ConfigurationError: the body is not a snapshot of this machine.
    """
    try:
        return restore(snapshot, state)
    except SnapshotUnreadable as error:
        raise ConfigurationError(f"{error}: start this node with the class that wrote it") from None


def _require_same(preface: Preface, state: ReplicatedState) -> None:
    name = state.definition.cls.__name__
    refusal = version_refusal(preface.format, preface.level)
    if refusal:
        raise SnapshotUnreadable(f"a snapshot cannot be restored: {refusal}")
    if preface.machine != name:
        raise SnapshotUnreadable(f"a snapshot of {preface.machine!r}, not of {name}")


class Snapshots:
    """The snapshot that is made of the state in the current step, and the one that the state came from."""

    __slots__ = ("_parts", "_restored", "is_open", "newest", "refused", "too_new")

    def __init__(self) -> None:
        self._parts: Parts | None = None
        """Of the `Save` of the current step."""
        self.is_open = False
        """Whether this step has to be ended: something is saved or refused in it. Read-only for callers."""
        self._restored: SnapshotMeta | None = None
        """The snapshot whose state the machine has exactly, if nothing was applied since."""
        self.newest: Snapshot | None = None
        """The newest one that is durable here. Read-only for callers."""
        self.refused: list[SnapshotToken] = []
        """Those that the core asked for and this replica cannot make: the core is told after the step."""
        self.too_new: tuple[Viewstamp, str] | None = None
        """Where the snapshot stands that was found on the disk, and why this code cannot restore it."""

    def capture(self, effect: Capture, state: ReplicatedState) -> Save:
        """Return what the driver is to save."""
        self._parts, self.is_open = capture(state), True
        return Save(effect.token, effect.viewstamp, effect.header, self._parts, state.versions or NOTHING)

    def refuse(self, token: SnapshotToken) -> None:
        """Make no snapshot although the core asks for it: it is told after the step."""
        self.refused.append(token)
        self.is_open = True

    def on_event(self, event: Captured | Staged | PeerUp | PeerDown) -> None:
        """Keep a snapshot that became durable here, made or received."""
        if isinstance(event, Captured | Staged) and (snapshot := event.snapshot) is not None:
            newest = self.newest
            if newest is None or newest.meta.viewstamp < snapshot.meta.viewstamp:
                self.newest = snapshot

    def state_changes(self) -> None:
        """Freeze what is being saved: the core asked for it earlier in this step, before this change."""
        if self._parts is not None:
            self._freeze()
        self._restored = None

    def end_step(self) -> None:
        """The driver drains what is saved before it feeds another event."""
        self._parts, self.is_open = None, False

    def recover(self, snapshot: Snapshot | None, state: ReplicatedState) -> ReplicatedState:
        """As `recover`; the state as it is where there is no snapshot, or where it is for newer code."""
        if snapshot is None:
            return state
        self.newest = snapshot
        try:
            state = recover(snapshot, state)
        except NewerCodeNeeded as error:
            self.too_new = snapshot.meta.viewstamp, str(error)
        else:
            self._restored = snapshot.meta
        return state

    def install(self, snapshot: Snapshot, state: ReplicatedState) -> ReplicatedState:
        """As `restore`. A core that starts from a snapshot asks for what was recovered already."""
        if self._restored == snapshot.meta:
            return state
        self._freeze()
        fresh = restore(snapshot, state)
        self._restored = snapshot.meta
        return fresh

    def _freeze(self) -> None:
        if self._parts is not None:
            self._parts.freeze()
            self._parts = None


class _Reader:
    """Reads a body from its start."""

    __slots__ = ("_body", "_offset")

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self._offset = 0

    def chunk(self) -> memoryview:
        """Return the next chunk.

        Raises:
            SnapshotUnreadable: the body ends before it.
        """
        start = self._offset + _LENGTH_BYTES
        end = start + int.from_bytes(self._body[self._offset : start], "big")
        if end > len(self._body):
            raise SnapshotUnreadable("a snapshot is cut short")
        self._offset = end
        return self._body[start:end]

    def sessions(self) -> Iterator[SessionImage]:
        """Yield the sessions up to the empty chunk."""
        while chunk := self.chunk():
            yield from _CHUNK.decode(chunk)

    def rest(self) -> bytes:
        """Return what has not been read: the machine's own part."""
        return bytes(self._body[self._offset :])
