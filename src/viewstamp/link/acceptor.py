"""The end of a connection that accepts it: a hello is awaited, then messages of one kind.

Rules of this file:

1. Until a hello has come there is a deadline, and frames are short.
2. After the hello the owner answers with `accept`, `refuse` or `challenge`; nothing else may arrive before.
   A challenge is answered by a proof, within the time of the hello; then it is `accept` or `refuse`.
3. Afterwards only the kind of frame that belongs to the accepted role may arrive.
"""

from collections.abc import Iterable, Iterator

import msgspec

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Instant
from viewstamp.link.framing import (
    CHALLENGE,
    CLIENT,
    HELLO,
    NOTHING,
    PEER,
    PROOF,
    REFUSAL,
    SERVER,
    WELCOME,
    FrameQueue,
    Splitter,
    UnfinishedBytes,
)
from viewstamp.link.handshake import Hello, decode_hello, encode_refusal


class Greeted(msgspec.Struct, frozen=True):
    """The other end said hello: answer with `Acceptor.accept` or `Acceptor.refuse`."""

    hello: Hello
    encoded: bytes
    """The hello as it came."""


class Proved(msgspec.Struct, frozen=True):
    """The other end answered a challenge: look at it, then `Acceptor.accept` or `Acceptor.refuse`."""

    proof: bytes


class Acceptor:
    """One accepted connection."""

    __slots__ = ("_expected", "_hello_until", "deadline", "message_kind", "out", "splitter")

    def __init__(self, hello_bytes_max: int, hello_until: Instant) -> None:
        self.out = FrameQueue(SERVER)
        """What is to be sent."""
        self.deadline: Instant | None = hello_until
        """When to give up on the hello, and on the proof of it; None: it has come."""
        self._hello_until = hello_until
        self.splitter = Splitter(hello_bytes_max)
        self._expected = HELLO
        """The one kind of frame that may arrive now."""
        self.message_kind = NOTHING
        """The kind of the frames whose payloads are messages, once the hello is accepted."""

    @property
    def unfinished(self) -> int:
        """The number of the frame that has begun and not ended; 0: none. Each has another number."""
        return self.splitter.frames_cut if self.splitter.in_frame else 0

    def closed(self) -> None:
        """Keep nothing: the connection has ended."""
        self.splitter.give_back()

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self.splitter.in_frame

    def receive(self, data: bytes) -> Iterable[Greeted | Proved | bytes]:
        """Take in bytes and return what they mean: a hello, or the payloads of messages.

        The result is consumed to its end, or the connection is given up: the answer to a hello decides how
        the bytes after it are read.

        Raises:
            ProtocolViolation: at once or while the result is consumed. Events before the fault count.
        """
        frame = self.splitter.single(data)
        if frame is None:
            return self._receive_many(data)
        kind, payload = frame
        if kind == self.message_kind:  # nearly always, and on the way of every message
            return (payload,)
        return (self._event(kind, payload),)

    def accept(
        self, welcome: bytes, *, is_peer: bool, frame_bytes_max: int, budget: UnfinishedBytes | None = None
    ) -> None:
        """Answer the hello with this welcome; from now on messages may arrive.

        What is kept of an unfinished message comes out of the budget.
        """
        assert self._expected == NOTHING, "a welcome answers a hello"
        self._expected = self.message_kind = PEER if is_peer else CLIENT
        self.splitter.payload_bytes_max = frame_bytes_max
        self.splitter.budget = budget
        self.out.add(WELCOME, welcome)

    def challenge(self, frame: bytes) -> None:
        """Answer the hello with this challenge; a proof may arrive until the hello's deadline."""
        assert self._expected == NOTHING, "a challenge answers a hello"
        self._expected = PROOF
        self.deadline = self._hello_until
        self.out.add(CHALLENGE, frame)

    def refuse(self, reason: str) -> None:
        """Answer with a refusal, after which the connection is to be closed."""
        self.deadline = None
        self._expected = self.message_kind = NOTHING
        self.out.add(REFUSAL, encode_refusal(reason))

    def _receive_many(self, data: bytes) -> Iterator[Greeted | Proved | bytes]:
        for kind, payload in self.splitter.split(data):
            yield self._event(kind, payload)

    def _event(self, kind: int, payload: bytes) -> Greeted | Proved | bytes:
        if kind != self._expected:
            raise ProtocolViolation(self._explain(kind))
        if kind == self.message_kind:
            return payload
        self.deadline = None
        self._expected = NOTHING
        return Proved(payload) if kind == PROOF else Greeted(decode_hello(payload), payload)

    def _explain(self, kind: int) -> str:
        if self._expected == HELLO:
            return "the first frame is not a hello"
        if self._expected == PROOF:
            return "the answer to the challenge is not a proof"
        sender = {PEER: "a member", CLIENT: "a client"}.get(self._expected, "a connection without a welcome")
        return f"a frame of kind {kind} may not come from {sender}"
