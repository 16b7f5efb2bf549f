"""TLS 1.3 on one connection, without the connection: bytes in, bytes out, over the standard library's `ssl`.

The asyncio driver, the blocking one and uvloop use this same object, so a connection is a stranger from its
first byte: the handshake counts against the same limits and the same deadline as a hello. No session is ever
resumed; each connection shows its certificate.
"""

import ssl
from typing import Any, Final

import msgspec

from viewstamp.core.errors import ProtocolViolation
from viewstamp.link.credentials import SCHEME, Certified, read_uris
from viewstamp.link.framing import REFUSAL, encode_frame
from viewstamp.link.handshake import encode_refusal

_READ_BYTES: Final = 1 << 14
"""The longest record of TLS."""
_PLAIN: Final = b"VS"
"""How a frame begins that is not encrypted."""
_ENCODING_DER: Final = 2
"""`_ssl.ENCODING_DER`."""
PLAIN_REFUSAL: Final = encode_frame(
    REFUSAL, encode_refusal("this node speaks TLS: name ca, cert and key under [tls] in the cluster file")
)


class PeerCertificate(msgspec.Struct, frozen=True):
    """What is known of the other end's certificate, which the CA has signed."""

    certified: Certified | str
    """Whom it names; text: why it names nobody."""
    not_after_s: float
    """When it expires, or one of those that lead to its CA, in seconds since 1970."""
    authority: bytes
    """The CA itself (DER): two may have one name."""


class TlsStream:
    """One connection's TLS. `receive` and `send` turn bytes of the network into bytes of frames and back."""

    __slots__ = ("_incoming", "_object", "_outgoing", "_refusal", "peer", "ready", "server_side")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self.server_side = server_side
        self._refusal = b""
        """What the other end is told that does not speak TLS."""
        self.ready = False
        """Whether the handshake is over."""
        self.peer: PeerCertificate | None = None
        """The other end's certificate, once the handshake is over."""

    def start(self) -> None:
        """Begin the handshake, from the end that opened the connection."""
        self._shake_hands()

    def receive(self, data: bytes) -> bytes:
        """Take in what came, and return what is readable of it; `output` may have an answer.

        Raises:
            ProtocolViolation: it is not TLS, or the other end is not trusted, or does not trust this one.
        """
        if not self.ready and self.server_side and data.startswith(_PLAIN) and self.peer is None:
            self._refusal = PLAIN_REFUSAL
            raise ProtocolViolation("this port speaks TLS, and the other end does not")
        self._incoming.write(data)
        if not self.ready and not self._shake_hands():
            return b""
        parts = []
        try:
            while self._incoming.pending or self._object.pending():
                part = self._object.read(_READ_BYTES)
                if not part:
                    break
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise ProtocolViolation(explain_tls(error)) from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def send(self, data: bytes) -> bytes:
        """Return frames as the network carries them. Nothing can be sent before the handshake is over."""
        assert self.ready, "frames wait for the handshake"
        view = memoryview(data)
        while view:
            view = view[self._object.write(view) :]
        return self._outgoing.read()

    def output(self) -> bytes:
        """Return what TLS itself wants to be sent: a part of the handshake, or why it failed."""
        refusal, self._refusal = self._refusal, b""
        return refusal or self._outgoing.read()

    def _shake_hands(self) -> bool:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise ProtocolViolation(explain_tls(error)) from None
        self.ready = True
        self.peer = peer_certificate(self._object)
        return True


def peer_certificate(end: ssl.SSLObject | ssl.SSLSocket) -> PeerCertificate | None:
    """Return what the other end's certificate says; None: it showed none, or it was not checked."""
    if not end.getpeercert():
        return None
    # The standard library has a public name for the chain since 3.13, and only there.
    chain = end._sslobj.get_verified_chain()  # type: ignore[union-attr]  # noqa: SLF001
    read: list[dict[str, Any]] = [each.get_info() for each in chain]
    ends = min(ssl.cert_time_to_seconds(str(each["notAfter"])) for each in read)
    certified = read_uris(_uris(read[0]))
    if any(uri.lower().startswith(SCHEME) for each in read[1:] for uri in _uris(each)):
        certified = "the certificate was signed by that of a node, a client or an operator"
    return PeerCertificate(certified, ends, chain[-1].public_bytes(_ENCODING_DER))


def _uris(read: dict[str, Any]) -> list[str]:
    return [str(value) for kind, value in read.get("subjectAltName", ()) if kind == "URI"]


def explain_tls(error: ssl.SSLError) -> str:
    """Return why a handshake failed, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate there is not trusted: {error.verify_message}"
    reason = str(error.reason or "ended").replace("_", " ").lower()
    if "alert" in reason:
        return f"the other end does not trust our certificate, or has no use for it: {reason}"
    if reason in {"wrong version number", "record layer failure", "packet length too long", "http request"}:
        return f"the other end does not speak TLS: {reason}"
    return f"TLS failed: {reason}"
