"""Two ends that share a secret show each other that they have it, and never send it.

The end that opens the connection says hello with a number drawn for this connection. The other answers with
a challenge: a number of its own, and the code of both under the secret. Only an end that has the secret can
make that code, so the first end knows with whom it speaks before it tells anything; it answers with a code of
its own, and with the incarnation of its data directory. What is repeated from another connection meets other
numbers, and a conversation that is passed on meets another name: the hello says for which node it is.

The codes are HMAC-SHA-256 (RFC 2104); challenge and answer in both directions are ISO/IEC 9798-4's three
passes.
"""

import hmac
from collections.abc import Callable
from typing import Final

import msgspec

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Incarnation
from viewstamp.link.handshake import Hello, encode_hello

NONCE_BYTES: Final = 16
CODE_BYTES: Final = 32
KEY_BYTES: Final = 32
_ACCEPTOR: Final = b"viewstamp acceptor"
_DIALER: Final = b"viewstamp dialer"
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

DrawNonce = Callable[[], bytes]
"""Returns NONCE_BYTES that nobody can foresee."""


class Unproved(ProtocolViolation):
    """The end that was dialled has not shown that it has this end's secret. Nothing was told to it."""

    def __init__(self) -> None:
        super().__init__(
            "the server there has not shown that it has the same secret, and was told nothing: start this "
            "with --cluster FILE, a cluster file whose `secret` is that of the other nodes"
        )


class ChallengeFrame(msgspec.Struct, frozen=True, array_like=True):
    """From the end that accepted the connection: it has the secret, and asks whether the other one has it."""

    nonce: bytes
    code: bytes


class ProofFrame(msgspec.Struct, frozen=True, array_like=True):
    """From the end that opened it: it has the secret, too."""

    incarnation: Incarnation
    """Of its data directory; 0: it has none."""
    code: bytes


_CHALLENGE: Final = msgspec.msgpack.Decoder(ChallengeFrame)
_PROOF: Final = msgspec.msgpack.Decoder(ProofFrame)
_ENCODER: Final = msgspec.msgpack.Encoder()


class Secret:
    """The key that the members and operators of a cluster share. It prints as nothing."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        assert len(key) >= KEY_BYTES, "a secret is too short"
        self._key = key

    def code(self, name: bytes, hello: bytes, nonce: bytes, said: bytes = b"") -> bytes:
        """Return the code of what was said on one connection, by the end with this name."""
        parts = (name, hello, nonce, said)
        text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, text, "sha256")


class Challenge:
    """What the end that accepted a connection asks, for one connection."""

    __slots__ = ("_hello", "_nonce", "_secret", "frame")

    def __init__(self, secret: Secret, hello: bytes, nonce: bytes) -> None:
        """`hello` is the payload as it came, which the codes cover."""
        self._secret = secret
        self._hello = hello
        self._nonce = nonce
        self.frame = _ENCODER.encode(ChallengeFrame(nonce, secret.code(_ACCEPTOR, hello, nonce)))
        """The payload of the CHALLENGE frame."""

    def incarnation_in(self, proof: bytes) -> Incarnation | None:
        """Return what the other end says of its directory; None: it has not shown that it has the secret.

        Raises:
            ProtocolViolation: this is not a proof at all.
        """
        try:
            read = _PROOF.decode(proof)
        except _UNREADABLE as error:
            raise ProtocolViolation("the proof cannot be read") from error
        if not 0 <= read.incarnation < 1 << 63:
            raise ProtocolViolation("the proof names an incarnation that cannot be one")
        wanted = self._secret.code(_DIALER, self._hello, self._nonce, _said(read.incarnation))
        return read.incarnation if hmac.compare_digest(wanted, read.code) else None


class Prover:
    """What the end that opens connections shows; one for each server, for all connections to it."""

    __slots__ = ("_draw", "_hello", "_incarnation", "_secret", "_sent", "insists")

    def __init__(
        self, secret: Secret, hello: Hello, draw: DrawNonce, incarnation: Incarnation, *, insists: bool
    ) -> None:
        """Prepare the hello of each connection; its incarnation is told in the proof alone."""
        self._secret = secret
        self._hello = hello
        self._draw = draw
        self._incarnation = incarnation
        self.insists = insists
        """Whether a server that welcomes without a challenge is left again."""
        self._sent = b""
        """The hello of the present connection."""

    def begin(self) -> bytes:
        """Return the payload of the HELLO frame of a new connection."""
        self._sent = encode_hello(msgspec.structs.replace(self._hello, nonce=self._draw(), incarnation=0))
        return self._sent

    def answer(self, challenge: bytes) -> bytes:
        """Return the payload of the PROOF frame.

        Raises:
            Unproved: the other end has not shown that it has the secret.
            ProtocolViolation: this is not a challenge at all.
        """
        try:
            read = _CHALLENGE.decode(challenge)
        except _UNREADABLE as error:
            raise ProtocolViolation("the challenge cannot be read") from error
        if len(read.nonce) != NONCE_BYTES:
            raise ProtocolViolation("the challenge is of another length")
        wanted = self._secret.code(_ACCEPTOR, self._sent, read.nonce)
        if not hmac.compare_digest(wanted, read.code):
            raise Unproved
        code = self._secret.code(_DIALER, self._sent, read.nonce, _said(self._incarnation))
        return _ENCODER.encode(ProofFrame(self._incarnation, code))


def _said(incarnation: int) -> bytes:
    return incarnation.to_bytes(8, "big")
