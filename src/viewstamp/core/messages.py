"""What clients and servers say to each other. One registry of tags: they are the wire's ABI.

Every message is a tagged, array-like struct: fields may be appended with a default, never moved or removed.
A client ignores fields that it does not know. A server refuses them: what it does not know it cannot bound,
and the hello says which versions both sides speak.

A client is known by its *number*, which everybody may see. It was made from a *secret* that the client drew,
and only a connection over which that secret came may speak for the number (`Identify`). A session is the
promise of exactly-once that the cluster gave to a client, named by the position of the entry that opened it.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.events import OperatorRequest
from viewstamp.core.ids import NodeId, Viewstamp
from viewstamp.core.protocol import Status
from viewstamp.core.snapshots import SnapshotMeta

SECRET_BYTES: Final = 16
"""Of a client's secret."""
_PERSON: Final = b"viewstamp client"
"""So that no hash made for another purpose fits."""


def client_number(secret: bytes) -> int:
    """Return the number of the client that drew this secret: the first 63 bits of its BLAKE2b hash.

    The number stands in the log, in queries and in status; it is all that the cluster stores of the secret.
    """
    assert len(secret) == SECRET_BYTES, len(secret)
    return int.from_bytes(blake2b(secret, digest_size=8, person=_PERSON).digest(), "big") >> 1


NO_SESSION: Final = 0
"""In `Submit.session`: execute without remembering, once for each time it is committed."""


MESSAGE_CALLS_MAX: Final = 16_384
"""Calls in one message. The decoder refuses more before it reads the first of them."""
Calls: TypeAlias = Annotated[list[tuple[int, msgspec.Raw]], msgspec.Meta(max_length=MESSAGE_CALLS_MAX)]


TimeToLive: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]


class Submit(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """Execute these commands. The encoded message goes into the log as it came."""

    client: int
    session: int
    acknowledged: int
    """The client has the results of all sequence numbers up to this one; they may be forgotten."""
    calls: Calls
    """(sequence number, command), the sequence numbers ascending. A command is [method, argument, ...]."""


class OpenSession(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """Open a session: the promise of exactly-once."""

    client: int
    question: int = 0
    """Comes back in the answer; a client gives each question another number."""
    time_to_live_ms: TimeToLive = 0
    """How long the session is to live without a message; 0: as it is, and the cluster's own for a new one."""


class KeepAlive(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """The client is alive: do not let its session expire."""

    client: int
    session: int
    question: int = 0
    """As in `OpenSession`."""
    acknowledged: int = 0
    """As in `Submit`: a client that makes no more calls keeps no results either."""
    time_to_live_ms: TimeToLive = 0
    """As in `OpenSession`."""


class CloseSession(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """End this session now."""

    client: int
    session: int


class QueryRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """Evaluate these queries. Any member may be asked, whichever `reads` are requested."""

    client: int
    reads: Literal["linearizable", "stale"]
    calls: Calls
    """(request number, query). Request numbers share the client's space of sequence numbers."""


class AskStatus(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """Report this node's status."""

    request: int


class AdminRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=7):
    """An admin request."""

    request: int
    directive: OperatorRequest


class ReadPosition(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=9):
    """Say up to where this node has executed, after a round that confirms it: as a linearizable query."""

    request: int


class ReadSnapshot(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=10):
    """Send a piece of this node's newest snapshot. With offset 0 the connection begins to read one."""

    request: int
    offset: int
    seqno_min: int = 0
    """With offset 0: refuse where the newest one covers less."""


class ReadLog(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=11):
    """Send the committed entries after this one, as many as fit into an answer."""

    request: int
    after: Viewstamp
    bytes_max: int


class Identify(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=8):
    """From now on this connection speaks for a client, and no other does. Unanswered unless it is refused.

    Sent before everything else that names the client. It never enters the log.
    """

    client: int
    secret: bytes

    def __repr__(self) -> str:
        """Keep the secret out of logs and traces."""
        return f"Identify(client={self.client})"

    @property
    def fits(self) -> bool:
        """Whether the number was made from the secret."""
        return len(self.secret) == SECRET_BYTES and client_number(self.secret) == self.client


class WaitFor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=12):
    """Evaluate a query on what this node has applied; if it has nothing to tell, wait until it has."""

    request: int
    hold_ms: TimeToLive
    """Answer after this time at the latest; the node may do so earlier."""
    call: msgspec.Raw
    """The query: [method, argument, ...]."""


Logged: TypeAlias = Submit | OpenSession | KeepAlive | CloseSession
"""Messages that are ordered by the log."""

OperatorMessage: TypeAlias = AskStatus | AdminRequest | ReadPosition | ReadSnapshot | ReadLog
"""What operators ask of one certain node: nothing of it enters the log."""
NodeMessage: TypeAlias = OperatorMessage | WaitFor
"""All that is asked of one certain node, and answered by an `OperatorReply`."""
ClientMessage: TypeAlias = Logged | QueryRequest | NodeMessage | Identify

RESULT: Final = 0
"""The payload is the encoded return value."""
FAILED: Final = 1
"""The machine raised: the payload is [kind, explanation]."""
INVALID: Final = 2
"""Not executed: the method or its arguments are wrong; the payload is the explanation."""
EXPIRED: Final = 3
"""Not executed: unknown or expired session; the payload is the explanation."""
REFUSED: Final = 4
"""Not executed, and this attempt never will be: a limit was reached; the payload is the explanation."""
SKIPPED: Final = 5
"""Not executed, and no copy of it ever will be: an operator skipped its entry; the payload says so."""
FULL: Final = 7
"""Not executed: what the call needs is nearly used up; the payload is [explanation, what: "disk"]."""
DENIED: Final = 6
"""Not executed: the caller's principal may not make this call; the payload is `machine.access.Denial`."""


class Results(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """How calls ended, of commands or queries."""

    client: int
    position: int
    """Fencing token (`core.ids.fencing_token`) of the log at which these results hold."""
    results: list[tuple[int, int, msgspec.Raw]]
    """(sequence or request number, one of RESULT .. FULL, payload)."""


class SessionOpened(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The session lives; without a message within the time to live (of log time) it expires."""

    client: int
    session: int
    time_to_live_ms: int
    question: int = 0
    """Which question this answers: late or duplicated, it says nothing of what was asked since."""


class Redirect(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """This node does not serve the request: try the leader, or any member where it is None."""

    client: int
    leader: NodeId | None
    entered: bool
    """False: what was sent has not entered the log. True: it may have, and may still be executed."""
    sequences: list[int]
    """The calls this is about; empty: all that this client has in flight here."""
    reason: str


class Notified(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A one-way message of the machine to a session. May be lost or duplicated."""

    client: int
    session: int
    payload: msgspec.Raw


class OperatorReply(msgspec.Struct, frozen=True, array_like=True):
    """An answer to a `NodeMessage`."""

    request: int
    """That of the question."""


class StatusReply(OperatorReply, frozen=True, array_like=True, tag=5):
    """Answer to `AskStatus`."""

    status: Status


class AdminReply(OperatorReply, frozen=True, array_like=True, tag=6):
    """Answer to `AdminRequest`; None: done."""

    refusal: str | None


MEMBERS_TOLD_MAX: Final = 256


class MembersChanged(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """These are the members from now on, and where they are found. Sent unasked."""

    members: Annotated[list[tuple[int, str, int]], msgspec.Meta(max_length=MEMBERS_TOLD_MAX, min_length=1)]
    """(id, host, port)."""
    at: Viewstamp | None = None
    """Of the entry that says so, by the log of the server: a word about an older entry is not news.

    None: the server cannot say.
    """


class PositionReply(OperatorReply, frozen=True, array_like=True, tag=7):
    """Answer to `ReadPosition`: what was acknowledged before the question is in the state at `viewstamp`."""

    viewstamp: Viewstamp
    digest: int
    """The digest chain of results up to `viewstamp`."""
    refusal: str | None = None
    """Why there is no answer, in one line."""


class SnapshotPart(OperatorReply, frozen=True, array_like=True, tag=8):
    """Answer to `ReadSnapshot`."""

    meta: SnapshotMeta | None
    """Of the whole; None where it is refused."""
    records: bytes
    """A `Chunk` as in a stream; empty behind the end."""
    refusal: str | None = None
    code: dict[str, str] = {}
    """With the first piece: of the class that this node runs (`machine.interface.code_of`)."""


class LogPart(OperatorReply, frozen=True, array_like=True, tag=9):
    """Answer to `ReadLog`."""

    applied: Viewstamp
    """Up to where this node has executed the log."""
    digest: int
    """The digest chain of results up to the entry that was named."""
    records: bytes
    """`LogEntry`s as in a stream; empty where nothing is new."""
    refusal: str | None = None


class Waited(OperatorReply, frozen=True, array_like=True, tag=11):
    """Answer to `WaitFor`: how the query ended."""

    kind: int
    """One of RESULT .. FULL."""
    payload: msgspec.Raw
    others: list[int] = []
    """Other requests of this connection with the same answer."""


ServerMessage: TypeAlias = (
    Results
    | SessionOpened
    | Redirect
    | Notified
    | StatusReply
    | AdminReply
    | PositionReply
    | SnapshotPart
    | LogPart
    | Waited
    | MembersChanged
)


_CLIENT_DECODER: Final[msgspec.msgpack.Decoder[ClientMessage]] = msgspec.msgpack.Decoder(ClientMessage)
_SERVER_DECODER: Final[msgspec.msgpack.Decoder[ServerMessage]] = msgspec.msgpack.Decoder(ServerMessage)
_ENCODER: Final = msgspec.msgpack.Encoder()
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises for input that does not fit a decoder's type (RecursionError: nested too deep)."""


def decode_client_message(data: bytes | memoryview) -> ClientMessage:
    """Return the message that a client sent.

    Raises:
        ProtocolViolation: it is not one; close the connection.
    """
    try:
        return _CLIENT_DECODER.decode(data)
    except UNREADABLE as error:
        raise ProtocolViolation(f"not a client's message: {error}") from None


def decode_server_message(data: bytes | memoryview) -> ServerMessage:
    """Return the message that a server sent to a client.

    Raises:
        ProtocolViolation: it is not one; close the connection.
    """
    try:
        return _SERVER_DECODER.decode(data)
    except UNREADABLE as error:
        raise ProtocolViolation(f"not a server's message: {error}") from None


encode_message: Final[Callable[[ClientMessage | ServerMessage], bytes]] = _ENCODER.encode
"""Return the message as bytes. Not a function around the encoder: it is called twice for each write."""
