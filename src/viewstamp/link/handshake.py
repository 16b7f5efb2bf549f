"""The hello that opens a connection, the welcome or refusal that answers it, and the rules for which.

The end that opened the connection says hello; the other answers with a welcome or with a refusal of one line.
Nothing else may come first. Three versions are given as ranges, so that members of two releases can meet
while a cluster is upgraded one node at a time; where two ranges do not overlap, the refusal says which node
must be upgraded.

What two members must agree on, and what happens otherwise:

- the cluster's id and protocol (the digest), the ids of the members, `must_agree`: refused;
- addresses: nothing; they are hints, and a member may advertise another than the one in the files;
- other options: accepted, and said in the log, so that options can be changed one node at a time;
- the class's fingerprint: accepted, and said in the log, so that a class can be changed;
- grants: accepted, and said in the log, so that they can be changed one node at a time.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

import msgspec
import xxhash

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import LEVEL as ENTRY_LEVEL
from viewstamp.core.ids import LEVEL_MIN, Incarnation, NodeId
from viewstamp.core.snapshots import UNVERSIONED

ANY_NODE: Final = -1
REASON_LENGTH_MAX: Final = 300
QUOTED_LENGTH_MAX: Final = 100
"""Of what a reason quotes of the other side's words."""
_IDS_NAMED_MAX: Final = 8


class Range(msgspec.Struct, frozen=True, array_like=True):
    """The versions of one thing that a node can deal with, both ends included."""

    low: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low} to {self.high}"


WIRE: Final = Range(1, 1)
"""Versions of the messages on the wire: hello, welcome, and everything after them."""
LEVEL: Final = Range(LEVEL_MIN, ENTRY_LEVEL)
"""Feature levels: what may be written to the log and to snapshots."""
MACHINE: Final = Range(UNVERSIONED, 1)
"""Versions of the user's class that a node can run, where the class says none."""


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The first frame of a connection."""

    wire: Range
    role: Literal["peer", "client", "operator"]
    cluster_id: str
    """A client that knows only an address leaves it empty."""
    digest: int
    """`cluster_digest`; 0 for clients."""
    node: int
    """The node that speaks; `ANY_NODE` for clients."""
    to: int
    """The node that is meant; `ANY_NODE` for clients that do not care."""
    incarnation: int
    """Of the speaker's data directory; 0 for clients, and before both ends have proved themselves."""
    level: Range = LEVEL
    machine: Range = MACHINE
    members: list[int] = []
    """Ids of the members in the speaker's cluster file; empty: clients, and clusters that are open."""
    must_agree: dict[str, int] = {}
    """Options that decide what every replica does, by name. Empty for clients."""
    options: int = 0
    """Digest of all options together; 0 for clients."""
    advertise: tuple[str, int] | None = None
    """Host and port at which others reach the speaker; None: as in the cluster file."""
    fingerprint: int = 0
    """Of the speaker's class; 0: not known."""
    grants: int = 0
    """Digest of the speaker's grants (`replica.authorization.policy_digest`); 0: it has none."""
    nonce: bytes = b""
    """Drawn for this connection, where the speaker can prove what it says by a secret."""
    token: str = ""
    """Of a client that proves its name by one (docs/how-to/grant-access.md)."""
    interface: int = 0
    """Digest of what the speaker's class defines (`machine.interface`); 0: not known."""

    def __repr__(self) -> str:
        """Keep the token out of logs and traces."""
        return f"Hello({self.role} {self.node} of {self.cluster_id!r})"


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """The hello is accepted, by this node."""

    wire: Range
    cluster_id: str
    node: int
    protocol: str
    write_routing: str
    members: list[tuple[int, str, int]]
    """(id, host, port) of every member: a client needs one address to find them all."""
    level: Range = LEVEL
    machine: Range = MACHINE
    settings: dict[str, dict[str, Any]] = {}
    """`options` and `replica` of the cluster that are not at their defaults."""


class ServedClass(msgspec.Struct, frozen=True):
    """What a node says of the user's class that it serves."""

    name: str = ""
    version: int = 1
    fingerprint: int = 0
    """Of its source; 0: not known."""
    interface: int = 0
    """Digest of what it defines; 0: not known."""


NO_CLASS: Final = ServedClass()
"""Of a node of which nobody asks."""


class Identity(msgspec.Struct, frozen=True):
    """What a node says of itself in a hello or welcome, and compares with what others say."""

    cluster_id: str
    protocol: str
    node: NodeId
    write_routing: str
    addresses: dict[NodeId, tuple[str, int]]
    """Of the members that the cluster file lists."""
    address_of: Callable[[NodeId], tuple[str, int] | None]
    """Where a node listens that may take part, listed or not; None: it may not take part."""
    is_open: bool = False
    """Whether nodes may take part that are not listed; the lists are not compared then."""
    must_agree: dict[str, int] = {}
    options: int = 0
    advertise: tuple[str, int] | None = None
    fingerprint: int = 0
    grants: int = 0
    interface: int = 0
    wire: Range = WIRE
    level: Range = LEVEL
    machine: Range = MACHINE
    admits: bool = False
    """Whether a node may introduce itself that is not a member yet: it says in its hello where it is."""
    established: Callable[[], bool] = lambda: False
    """Whether the log says who the members are: then the lists in cluster files are not compared."""
    settings: dict[str, dict[str, Any]] = {}
    """Options of the cluster that are not at their defaults, for nodes that join without its file."""

    @property
    def member_ids(self) -> list[int]:
        """The ids to compare, in ascending order."""
        return [] if self.is_open else sorted(self.addresses)


_HELLO: Final = msgspec.msgpack.Decoder(Hello)
_WELCOME: Final = msgspec.msgpack.Decoder(Welcome)
_ENCODER: Final = msgspec.msgpack.Encoder()
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def cluster_digest(cluster_id: str, protocol: str) -> int:
    """Return 63 bits that are equal where two nodes belong to one cluster and speak one protocol."""
    return xxhash.xxh3_64_intdigest(_ENCODER.encode((cluster_id, protocol))) >> 1


def encode_hello(message: Hello | Welcome) -> bytes:
    """Return the payload of a HELLO or WELCOME frame."""
    return _ENCODER.encode(message)


def client_hello(cluster_id: str, to: NodeId | None) -> bytes:
    """Return the payload of a client's HELLO frame; an empty cluster id and None accept any server."""
    return encode_hello(hello_of(cluster_id, to))


def hello_of(cluster_id: str, to: NodeId | None, *, operator: bool = False, token: str = "") -> Hello:
    """Return the hello of a client or an operator."""
    target = ANY_NODE if to is None else to
    role: Literal["client", "operator"] = "operator" if operator else "client"
    return Hello(WIRE, role, cluster_id, 0, ANY_NODE, target, 0, token=token)


def decode_hello(payload: bytes) -> Hello:
    """Raise `ProtocolViolation` for anything that is not a hello."""
    try:
        return _HELLO.decode(payload)
    except _UNREADABLE as error:
        raise ProtocolViolation("the hello cannot be read") from error


def decode_welcome(payload: bytes) -> Welcome:
    """Raise `ProtocolViolation` for anything that is not a welcome."""
    try:
        return _WELCOME.decode(payload)
    except _UNREADABLE as error:
        raise ProtocolViolation("the welcome cannot be read") from error


def check_welcome(welcome: Welcome) -> None:
    """Raise `ProtocolViolation` where this side cannot speak with the server."""
    reason = _refuse_range("wire version", WIRE, "this side", welcome.wire, f"node {welcome.node}")
    if reason is not None:
        raise ProtocolViolation(reason)


def encode_refusal(reason: str) -> bytes:
    """Return the payload of a REFUSAL frame."""
    return reason[:REASON_LENGTH_MAX].encode("utf-8", "backslashreplace")


def decode_refusal(payload: bytes) -> str:
    """Return the reason as one printable line, whatever the other side sent."""
    text = payload[: 4 * REASON_LENGTH_MAX].decode("utf-8", "replace")[:REASON_LENGTH_MAX]
    return printable(text, REASON_LENGTH_MAX)


def printable(text: str, length_max: int) -> str:
    """Return what a stranger wrote as it may stand in a line: cut, and without control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:length_max])


class Doorkeeper:
    """Decides whether a hello is accepted. One doorkeeper belongs to one node.

    Nothing that a hello says outlives its connection: it has not been agreed on by anybody. Which incarnation
    of a member counts is decided by the replicated configuration alone.
    """

    __slots__ = ("_addresses", "_me", "_welcome", "differing", "other_class", "other_grants")

    def __init__(self, me: Identity) -> None:
        self._me = me
        self.differing: set[NodeId] = set()
        """Members whose options differed from this node's when they last said hello."""
        self.other_class: set[NodeId] = set()
        """Members that ran another version of the class when they last said hello."""
        self.other_grants: set[NodeId] = set()
        """Members that permitted other calls than this node when they last said hello."""
        self._addresses = dict(me.addresses)
        """Where clients find the listed members: as in the cluster file, or as they advertise."""
        if me.advertise is not None:
            self._addresses[me.node] = me.advertise
        self._welcome = self.welcome_with(())

    def permits(self, grants: int) -> None:
        """Say in each hello from now on that this node has the grants of this digest."""
        self._me = msgspec.structs.replace(self._me, grants=grants)

    @property
    def welcome(self) -> bytes:
        """The payload of this node's WELCOME frame."""
        return self._welcome

    def members_with(self, guests: Iterable[NodeId]) -> list[tuple[int, str, int]]:
        """Return the listed members and these nodes, with their addresses.

        Where the log says who the members are, the guests are all of them, and others are not named.
        """
        me = self._me
        known = dict(self._addresses)
        nodes = list(guests)
        for node in nodes:
            address = me.address_of(node)
            if address is not None:
                known.setdefault(node, address)
        chosen = set(nodes) if me.admits and nodes else set(known)
        return [(node, *address) for node, address in known.items() if node in chosen]

    def welcome_with(self, guests: Iterable[NodeId]) -> bytes:
        """Return the payload of a WELCOME frame that names the listed members and these nodes."""
        me = self._me
        members = self.members_with(guests)
        welcome = Welcome(
            wire=me.wire,
            cluster_id=me.cluster_id,
            node=me.node,
            protocol=me.protocol,
            write_routing=me.write_routing,
            members=members,
            level=me.level,
            machine=me.machine,
            settings=me.settings,
        )
        return encode_hello(welcome)

    def move(self, node: NodeId, address: tuple[str, int] | None) -> None:
        """From now on tell clients this address of a member; None: the one in the cluster file again."""
        if address is None:
            address = self._me.addresses.get(node)
        if address is None:
            self._addresses.pop(node, None)
        else:
            self._addresses[node] = address
        self._welcome = self.welcome_with(())

    def hello_to(self, peer: NodeId, incarnation: Incarnation) -> bytes:
        """Return the payload of the HELLO frame that this node sends to another member."""
        return encode_hello(self.greeting(peer, incarnation))

    def greeting(self, peer: NodeId, incarnation: Incarnation) -> Hello:
        """Return the hello that this node says to another member."""
        me = self._me
        return Hello(
            wire=me.wire,
            role="peer",
            cluster_id=me.cluster_id,
            digest=cluster_digest(me.cluster_id, me.protocol),
            node=me.node,
            to=peer,
            incarnation=incarnation,
            level=me.level,
            machine=me.machine,
            members=me.member_ids,
            must_agree=me.must_agree,
            options=me.options,
            advertise=me.advertise,
            fingerprint=me.fingerprint,
            grants=me.grants,
            interface=me.interface,
        )

    def refuse(self, hello: Hello) -> str | None:
        """Return why this hello is not accepted, in one line; None: it is accepted."""
        me = self._me
        is_peer = hello.role == "peer"
        they = f"node {hello.node}" if is_peer else f"the {hello.role}"
        if reason := _refuse_range("wire version", hello.wire, they, me.wire, f"node {me.node}"):
            return reason
        if hello.cluster_id != me.cluster_id and (is_peer or hello.cluster_id):
            return (
                f"this is cluster {me.cluster_id!r}, not {printable(hello.cluster_id, QUOTED_LENGTH_MAX)!r}"
            )
        if hello.to not in {me.node, ANY_NODE}:
            return f"this is node {me.node}, not {hello.to}: check the addresses in the cluster file"
        return self._refuse_peer(hello) if is_peer else None

    def compare(self, hello: Hello) -> None:
        """A member was admitted: record in what it differs from this node, which may be."""
        me = self._me
        (self.differing.discard if hello.options == me.options else self.differing.add)(NodeId(hello.node))
        # Two versions of a class meet while it is deployed: what counts then is the one in force.
        same = hello.machine.high != me.machine.high or hello.fingerprint in {0, me.fingerprint}
        same = same or not me.fingerprint
        (self.other_class.discard if same else self.other_class.add)(NodeId(hello.node))
        permits_alike = hello.grants == me.grants
        (self.other_grants.discard if permits_alike else self.other_grants.add)(NodeId(hello.node))

    def _refuse_peer(self, hello: Hello) -> str | None:
        me, peer = self._me, NodeId(hello.node)
        if peer == me.node:
            return f"node {peer} is this node itself: each server needs its own id"
        if me.address_of(peer) is None and not (me.admits and hello.advertise is not None):
            return f"node {peer} is not a member of cluster {me.cluster_id!r}"
        if hello.digest != cluster_digest(me.cluster_id, me.protocol):
            return f"node {peer} runs another protocol than node {me.node}: make their cluster files equal"
        return (
            _refuse_range("feature level", hello.level, f"node {peer}", me.level, f"node {me.node}")
            or _refuse_range("machine version", hello.machine, f"node {peer}", me.machine, f"node {me.node}")
            or self._refuse_members(hello)
            or self._refuse_options(hello)
        )

    def _refuse_members(self, hello: Hello) -> str | None:
        mine, theirs = set(self._me.member_ids), set(hello.members)
        if mine == theirs or not mine or not theirs or self._me.established():
            return None
        differences = [
            f"only node {node} lists {_ids(ids)}"
            for node, ids in ((hello.node, theirs - mine), (self._me.node, mine - theirs))
            if ids
        ]
        return f"the members differ ({', '.join(differences)}): make the cluster files equal"

    def _refuse_options(self, hello: Hello) -> str | None:
        me = self._me
        for name, mine in me.must_agree.items():
            theirs = hello.must_agree.get(name, mine)
            if theirs != mine:
                return (
                    f"{name} is {theirs} at node {hello.node} and {mine} at node {me.node}: "
                    "it must be the same at all members; make the cluster files equal"
                )
        return None


def _refuse_range(what: str, theirs: Range, they: str, mine: Range, me: str) -> str | None:
    """Return why two ranges do not overlap and which side must be upgraded; None: they overlap."""
    if theirs.low > theirs.high:
        return f"{they} gives an empty range of {what}s: {theirs.low} to {theirs.high}"
    if theirs.low <= mine.high and mine.low <= theirs.high:
        return None
    older = they if theirs.high < mine.low else me
    return f"{they} has {what} {theirs} and {me} has {what} {mine}: upgrade {older}"


def _ids(nodes: set[int]) -> str:
    named = ", ".join(map(str, sorted(nodes)[:_IDS_NAMED_MAX]))
    return named if len(nodes) <= _IDS_NAMED_MAX else f"{named} and more"
