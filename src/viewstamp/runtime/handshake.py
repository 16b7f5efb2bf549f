"""Who is there: the hello that opens a connection, and the rules by which it is accepted.

The one that opened the connection says hello; the other answers with a welcome or with a refusal of one line.
Nothing else may come first. A member names whom it means to talk to, so that a wrong address in a
configuration is found before a message goes astray.
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.framing import WIRE_VERSION

ANY_NODE: Final = -1
REASON_LENGTH_MAX: Final = 300


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The first frame of a connection."""

    version: int
    role: Literal["peer", "client"]
    cluster_id: str
    """A client that knows only an address leaves it empty."""
    digest: int
    """`ClusterConfig.digest`; 0 for clients."""
    node: int
    """Who speaks; `ANY_NODE` for clients."""
    to: int
    """Who is meant; `ANY_NODE` for clients that do not care."""
    incarnation: int
    """Of the speaker's data directory; 0 for clients."""


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """The hello is accepted, and this is whom it reached."""

    version: int
    cluster_id: str
    node: int
    protocol: str
    write_routing: str
    members: list[tuple[int, str, int]]
    """(id, host, port) of every member: a client needs one address to find them all."""


_HELLO: Final = msgspec.msgpack.Decoder(Hello)
_WELCOME: Final = msgspec.msgpack.Decoder(Welcome)
_ENCODER: Final = msgspec.msgpack.Encoder()
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def encode_hello(message: Hello | Welcome) -> bytes:
    """Return the payload of a HELLO or WELCOME frame."""
    return _ENCODER.encode(message)


def decode_hello(payload: bytes) -> Hello:
    """Raise `ProtocolViolation` for anything that is no hello."""
    try:
        return _HELLO.decode(payload)
    except _UNREADABLE as error:
        raise ProtocolViolation("the hello cannot be read") from error


def decode_welcome(payload: bytes) -> Welcome:
    """Raise `ProtocolViolation` for anything that is no welcome."""
    try:
        return _WELCOME.decode(payload)
    except _UNREADABLE as error:
        raise ProtocolViolation("the welcome cannot be read") from error


def encode_refusal(reason: str) -> bytes:
    """Return the payload of a REFUSAL frame."""
    return reason[:REASON_LENGTH_MAX].encode("utf-8", "backslashreplace")


def decode_refusal(payload: bytes) -> str:
    """Return the reason as one printable line, whatever the other side sent."""
    text = payload[: 4 * REASON_LENGTH_MAX].decode("utf-8", "replace")[:REASON_LENGTH_MAX]
    return "".join(letter if letter.isprintable() else "?" for letter in text)


class Doorkeeper:
    """Decides whether a hello may come in. One doorkeeper belongs to one node."""

    __slots__ = ("_cluster", "_current", "_node", "_retired", "_routing", "_welcome")

    def __init__(self, cluster: ClusterConfig, node: NodeId, write_routing: str) -> None:
        self._cluster = cluster
        self._node = node
        self._current: dict[NodeId, int] = {}
        """The incarnation in which each member was last seen."""
        self._retired: dict[NodeId, int] = {}
        """The one before that: who comes back as it is a ghost, such as a process that was thought dead."""
        self._routing = write_routing
        self._welcome = self.welcome_with(())

    @property
    def welcome(self) -> bytes:
        """The payload of this node's WELCOME frame."""
        return self._welcome

    def welcome_with(self, guests: Iterable[NodeId]) -> bytes:
        """Return the payload of a WELCOME frame that names the listed members and these nodes."""
        cluster = self._cluster
        members = [(member.id, member.host, member.port) for member in cluster.members]
        for node in guests:
            address = cluster.address_of(node)
            if address is not None and node not in cluster.addresses:
                members.append((node, *address))
        protocol, routing = cluster.protocol, self._routing
        return encode_hello(Welcome(WIRE_VERSION, cluster.cluster_id, self._node, protocol, routing, members))

    def hello_to(self, peer: NodeId, incarnation: Incarnation) -> bytes:
        """Return the payload of the HELLO frame with which this node calls on another member."""
        cluster = self._cluster
        hello = Hello(WIRE_VERSION, "peer", cluster.cluster_id, cluster.digest, self._node, peer, incarnation)
        return encode_hello(hello)

    def refuse(self, hello: Hello) -> str | None:
        """Return why this hello is not accepted, in one line; None: it is."""
        mine = self._cluster.cluster_id
        if hello.version != WIRE_VERSION:
            return f"wire version {hello.version} is not spoken here, only {WIRE_VERSION}"
        if hello.cluster_id != mine and (hello.role == "peer" or hello.cluster_id):
            return f"this is cluster {mine!r}, not {hello.cluster_id!r}"
        if hello.to not in {self._node, ANY_NODE}:
            return f"this is node {self._node}, not {hello.to}: check the addresses in the cluster file"
        return self._refuse_peer(hello) if hello.role == "peer" else None

    def _refuse_peer(self, hello: Hello) -> str | None:
        peer = NodeId(hello.node)
        if peer == self._node:
            return f"node {peer} is this node itself: each server needs its own id"
        if self._cluster.address_of(peer) is None:
            return f"node {peer} is not a member of cluster {self._cluster.cluster_id!r}"
        if hello.digest != self._cluster.digest:
            return f"node {peer} and node {self._node} have different cluster files: make them equal"
        return self._refuse_incarnation(peer, hello.incarnation)

    def _refuse_incarnation(self, peer: NodeId, incarnation: int) -> str | None:
        current = self._current.get(peer)
        if current is not None and incarnation != current:
            if incarnation == self._retired.get(peer):
                return f"node {peer} has been replaced by another data directory: stop this one"
            self._retired[peer] = current
        self._current[peer] = incarnation
        return None
