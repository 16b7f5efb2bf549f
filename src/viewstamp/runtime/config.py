"""The two configurations: the cluster's, equal everywhere, and the node's own. Frozen, checked when made.

`ClusterConfig` lives in a TOML file that every node and every client may have. What members must agree on is
compared when they meet (`link.handshake`). `NodeConfig` is what may differ from node to node: directories,
limits, placement of work.
"""

import json
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec
import xxhash

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NODE_ID_MAX, NodeId
from viewstamp.core.snapshots import UNVERSIONED
from viewstamp.link.handshake import NO_CLASS, Identity, Range, ServedClass, cluster_digest
from viewstamp.link.proof import Secret
from viewstamp.protocols.registry import PROTOCOL_NAMES, protocol_definition
from viewstamp.replica.authorization import GRANTS_MAX, Grant, policy_digest
from viewstamp.replica.options import ReplicaOptions
from viewstamp.runtime.addresses import PORT_MAX, Address, check_address, parse_address
from viewstamp.runtime.secret_file import read_secret, user_secret
from viewstamp.runtime.system import Loop
from viewstamp.runtime.tokens import TokenConfig
from viewstamp.storage.files import read_named

T = TypeVar("T", bound=msgspec.Struct)
Placement = Literal["auto", "inline", "executor"]
SnapshotPlacement = Literal["auto", "inline", "fork"]

MEMBERS_MAX: Final = 31
_MAY_BE_ZERO: Final = frozenset(
    {"command_limit_ms", "sync_hang_ms", "space_low_bytes", "ballast_bytes", "link_silence_ms"}
)
"""Of a node's options: 0 means never, or none."""
CLUSTER_ID_LENGTH_MAX: Final = 63
"""As in the files of a data directory (`storage.framing.CLUSTER_ID_BYTES_MAX`)."""
KIB: Final = 1 << 10
MIB: Final = 1 << 20
_CLUSTER_FILE_BYTES_MAX: Final = MIB
_CANONICAL: Final = msgspec.msgpack.Encoder(order="deterministic")


class Addresses(Protocol):
    """What knows where nodes are found."""

    def address_of(self, node: NodeId) -> Address | None:
        """Return where a node listens; None: it is not known, or the node may not take part."""
        ...


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server of the cluster and where the others and the clients find it."""

    id: int
    host: str
    port: int
    etcd: str | None = None
    """HOST:PORT of its gateway for clients of etcd (`viewstamp serve --etcd`), for those that ask another
    member; None: nobody is told."""

    def __post_init__(self) -> None:
        if self.etcd is not None:
            parse_address(self.etcd)

    @property
    def address(self) -> Address:
        """Host and port in their one form."""
        return check_address(self.host, self.port)


class TlsFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files in PEM.

    Where certificate and key are not named they stand beside the CA's: `node-1.pem` and `node-1.key` for
    node 1, `client.pem` for clients, `operator.pem` for operators.
    """

    ca: str
    """The CAs that are trusted."""
    cert: str | None = None
    """This process's certificate, with those that lead to the CA; empty: a client shows none."""
    key: str | None = None

    def beside(self, folder: Path) -> "TlsFiles":
        """Return the same files, where relative names are relative to a folder."""
        cert, key = (None if name is None else str(folder / name) for name in (self.cert, self.key))
        return TlsFiles(str(folder / self.ca), cert, key)

    def of(self, name: str) -> "TlsFiles":
        """Return the same files, with the certificate of this name beside the CA's where none is named."""
        cert = Path(self.cert or Path(self.ca).parent / f"{name}.pem")
        return TlsFiles(self.ca, str(cert), str(self.key or cert.with_suffix(".key")))


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """What every node of a cluster must agree on.

    Raises:
        ConfigurationError: two members share an id or an address, an address or an option cannot be used, or
            the protocol is not known. The message is one line.
    """

    cluster_id: str
    """Tells clusters apart: a node of another cluster is refused in its hello."""
    members: tuple[Member, ...]
    protocol: str = "raft"
    options: dict[str, Any] = {}
    """The protocol's options that are not at their defaults, by name."""
    replica: dict[str, Any] = {}
    """The replica's options that are not at their defaults (batches, sessions), by name."""
    grants: tuple[Grant, ...] = ()
    """Which principals may make which calls. As soon as there is one, what none permits is denied."""
    secret: str | None = None
    """File with the secret of members and operators, on one machine; relative to the cluster file. None: that
    of the user who starts the servers (`runtime.secret_file`)."""
    tokens: TokenConfig = TokenConfig()
    """Which tokens of clients are accepted; none, where no key is listed."""
    tls: TlsFiles | None = None
    """Certificates of members and clients; relative to the cluster file. None: no TLS."""
    chaos: bool = False
    """Whether `viewstamp chaos` may disturb this cluster: for staging, never for production."""
    open_host: str | None = None
    """A node that is not listed may take part as well: its id is its port on this host. Members and
    protocol options may then differ from node to node. None: only those that are listed."""

    def __post_init__(self) -> None:
        _check_cluster_id(self.cluster_id)
        if not 1 <= len(self.members) <= MEMBERS_MAX:
            raise ConfigurationError(f"a cluster has 1 to {MEMBERS_MAX} members, not {len(self.members)}")
        for member in self.members:
            if not 0 <= member.id <= NODE_ID_MAX:
                raise ConfigurationError(f"member id {member.id} is out of range: choose 0 to {NODE_ID_MAX}")
        _refuse_twice("id", (member.id for member in self.members))
        _refuse_twice("address", (member.address for member in self.members))
        if len(self.grants) > GRANTS_MAX:
            raise ConfigurationError(f"there are {len(self.grants)} grants: {GRANTS_MAX} are the most")
        if self.open_host is not None:
            check_address(self.open_host, 1)
        if self.protocol not in PROTOCOL_NAMES:
            known = ", ".join(PROTOCOL_NAMES)
            raise ConfigurationError(f"no protocol is called {self.protocol!r}: choose one of {known}")

    @cached_property
    def node_ids(self) -> tuple[NodeId, ...]:
        """The members' ids in ascending order."""
        return tuple(sorted(NodeId(member.id) for member in self.members))

    @cached_property
    def addresses(self) -> dict[NodeId, Address]:
        """Where each member listens."""
        return {NodeId(member.id): member.address for member in self.members}

    def address_of(self, node: NodeId) -> Address | None:
        """Return where a node listens that may take part, listed or not; None: it may not."""
        listed = self.addresses.get(node)
        if listed is not None or self.open_host is None or not 1 <= node <= PORT_MAX:
            return listed
        return check_address(self.open_host, node)

    @cached_property
    def protocol_options(self) -> Any:
        """The protocol's options as its own type; `ConfigurationError` where they do not fit."""
        return _convert(self.options, protocol_definition(self.protocol).options_type, "options")

    @cached_property
    def replica_options(self) -> ReplicaOptions:
        """The replica's options; `ConfigurationError` where they do not fit."""
        return _convert(self.replica, ReplicaOptions, "replica")

    @cached_property
    def digest(self) -> int:
        """63 bits that are equal for nodes of one cluster that speak one protocol (`link.handshake`)."""
        return cluster_digest(self.cluster_id, self.protocol)

    @cached_property
    def must_agree(self) -> dict[str, int]:
        """The options that decide what every replica does: with others a node is refused."""
        sessions = self.replica_options.sessions
        return {f"replica.sessions.{name}": getattr(sessions, name) for name in sessions.__struct_fields__}

    @cached_property
    def options_digest(self) -> int:
        """63 bits that are equal for options that mean the same, whatever their order or defaults."""
        meaning = (self.protocol_options, self.replica_options)
        return xxhash.xxh3_64_intdigest(_CANONICAL.encode(meaning)) >> 1

    @cached_property
    def local_secret(self) -> Secret:
        """The secret of members and operators; `ConfigurationError` where this user cannot read it."""
        return user_secret() if self.secret is None else read_secret(self.secret)

    def holding(self, secret: Secret) -> "ClusterConfig":
        """Return the same configuration with a secret that stands in no file, for clusters in one process."""
        held = msgspec.structs.replace(self)
        held.__dict__["local_secret"] = secret
        return held

    def identity(
        self,
        node: NodeId,
        write_routing: str,
        advertise: Address | None = None,
        served: ServedClass = NO_CLASS,
        book: Addresses | None = None,
        established: Callable[[], bool] = lambda: False,
    ) -> Identity:
        """Return what this node says when it meets another, and compares with what the other says.

        `book` knows more addresses than this file; `established` says whether the log names the members.
        """
        return Identity(
            cluster_id=self.cluster_id,
            protocol=self.protocol,
            node=node,
            write_routing=write_routing,
            addresses=self.addresses,
            address_of=(book or self).address_of,
            established=established,
            admits=self.open_host is None and protocol_definition(self.protocol).guarantees.changes_members,
            settings={"options": self.options, "replica": self.replica},
            is_open=self.open_host is not None,
            must_agree=self.must_agree,
            options=self.options_digest,
            advertise=advertise,
            fingerprint=served.fingerprint,
            interface=served.interface,
            machine=Range(UNVERSIONED, served.version),
            grants=policy_digest(self.grants),
        )

    def check(self) -> None:
        """Raise `ConfigurationError` unless the options fit the protocol as well. Imports the protocol."""
        _ = self.must_agree, self.protocol_options
        guarantees = protocol_definition(self.protocol).guarantees
        if self.open_host is not None and not guarantees.dynamic_membership:
            raise ConfigurationError(f"open_host is set, but the members of {self.protocol} are those listed")

    def to_toml(self) -> str:
        """Return the text of a cluster file."""
        lines = [f"cluster_id = {_toml(self.cluster_id)}", f"protocol = {_toml(self.protocol)}"]
        if self.secret is not None:
            lines.append(f"secret = {_toml(self.secret)}")
        if self.chaos:
            lines.append("chaos = true")
        if self.open_host is not None:
            lines.append(f"open_host = {_toml(self.open_host)}")
        if self.tls is not None:
            files = {name: value for name, value in msgspec.structs.asdict(self.tls).items() if value}
            lines += _toml_table("tls", files)
        for name, table in (("options", self.options), ("replica", self.replica)):
            lines += _toml_table(name, table)
        if self.tokens != TokenConfig():
            lines += ["", "[tokens]", f"keys = {_toml(self.tokens.keys)}"]
            lines += [f"lifetime_max_s = {_toml(self.tokens.lifetime_max_s)}"]
        for grant in self.grants:
            lines += ["", "[[grants]]", f"principal = {_toml(grant.principal)}"]
            lines += [f"methods = {_toml(grant.methods)}"]
            lines += [f"prefixes = {_toml(grant.prefixes)}"] if grant.prefixes else []
        for member in self.members:
            lines += ["", "[[members]]", f"id = {member.id}"]
            lines += [f"host = {_toml(member.host)}", f"port = {member.port}"]
            lines += [f"etcd = {_toml(member.etcd)}"] if member.etcd else []
        return "\n".join(lines) + "\n"

    def save(self, path: Path | str) -> None:
        """Write the cluster file. Refuses to replace one that exists.

        Raises:
            ConfigurationError: the file is there already or cannot be written.
        """
        try:
            with Path(path).open("x", encoding="utf-8") as file:
                file.write(self.to_toml())
        except OSError as error:
            raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error

    @classmethod
    def from_toml(cls, text: bytes, *, name: str = "cluster file") -> "ClusterConfig":
        """Return the configuration in the text of a cluster file; `ConfigurationError` names `name`."""
        try:
            return msgspec.toml.decode(text, type=cls)
        except (ConfigurationError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"{name}: {_one_line(error)}") from error

    @classmethod
    def load(cls, path: Path | str) -> "ClusterConfig":
        """Read and check a cluster file.

        Raises:
            ConfigurationError: it cannot be read, is not TOML, or cannot be used; one line that names the
            file.
        """
        config = cls.from_toml(read_named(path, bytes_max=_CLUSTER_FILE_BYTES_MAX), name=str(path))
        folder = Path(path).parent
        return msgspec.structs.replace(
            config,
            secret=None if config.secret is None else str(folder / config.secret),
            tls=None if config.tls is None else config.tls.beside(folder),
        )


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one node may decide for itself. Every limit has a default that suits a small server.

    Raises:
        ConfigurationError: a value is out of range.
    """

    data: str | None = None
    """The data directory; None keeps everything in memory, and a restart forgets it: tests only."""
    listen_host: str | None = None
    """Where to listen: None is the member's own host, `0.0.0.0` or `::` every interface."""
    advertise: str | None = None
    """HOST:PORT at which others reach this node; None: as in the cluster file. The others use it instead."""
    loop: Loop = "auto"
    """`auto` takes uvloop where it is installed."""

    tls: TlsFiles | None = None
    """This node's certificate; None: as in the cluster file."""
    insecure: bool = False
    """Start although others can reach this node and nothing protects it; each status says so."""
    paranoid: bool = False
    """Check the protocol's invariants of this node after each step, and stop at once where one is broken."""
    sync_placement: Placement = "auto"
    """Where journal syncs run: `auto` measures, and leaves the loop's thread when the disk is slow."""
    sync_inline_us_max: int = 1_500
    """Up to this lower quartile an `auto` sync runs on the loop's thread."""
    segment_bytes: int = 16 * MIB
    """Size of one file of the journal."""
    snapshot_placement: SnapshotPlacement = "auto"
    """Where a state is encoded for a snapshot: `auto` goes by the size of the last one."""
    snapshot_inline_bytes_max: int = MIB
    """A state up to this size is encoded on the loop; a bigger one in a forked copy of the process."""

    clients_max: int = 4096
    """Connections of clients. Other members have room of their own."""
    clients_per_address_max: int = 1024
    """Of these, of one principal that has proved its name, or else from one address."""
    operators_max: int = 64
    """Connections beyond `clients_max` that may ask for status and give directives; the oldest gives way."""
    silent_timeout_ms: int = 5_000
    """A client that has said nothing since its hello gives way after this time, where places are short."""
    client_idle_timeout_ms: int = 3_600_000
    """A client that sends nothing for this long is disconnected. Sessions are kept alive by messages."""
    strangers_max: int = 256
    """Connections that have not said hello; the oldest gives way."""
    hello_timeout_ms: int = 3_000
    hello_bytes_max: int = 4 * KIB
    client_frame_bytes_max: int = 16 * MIB
    unfinished_bytes_max: int = 64 * MIB
    """What is kept of the unfinished frames of all clients; beyond it the frame that grows is given up."""
    frame_timeout_ms: int = 30_000
    """How long a frame may take from its first byte to its last one."""
    peer_frame_bytes_max: int = 64 * MIB
    client_send_bytes_max: int = 32 * MIB
    """Replies waiting for one client; beyond it the client is cut off."""
    unread_bytes_max: int = 256 * MIB
    """Replies waiting for all clients that do not read; beyond it the one is cut off that waits longest."""
    client_stall_timeout_ms: int = 10_000
    """How long a client may leave its replies unread before it is cut off."""
    peer_send_bytes_max: int = 64 * MIB
    """Messages waiting for one member; beyond it they are dropped, which the protocol makes good."""
    dial_timeout_ms: int = 2_000
    dial_backoff_min_ms: int = 20
    dial_backoff_max_ms: int = 1_000
    link_silence_ms: int = 600
    """A connection to a member is opened again when its machine, not its process, has acknowledged nothing
    for this long; Linux only. 0: TCP decides, which takes up to 10 s."""
    stop_timeout_ms: int = 5_000
    """How long a leader that is asked to stop may take to hand over."""
    stop_snapshot_timeout_ms: int = 10_000
    """How long the snapshot may take that a node leaves when it is asked to stop."""
    command_limit_ms: int = 60_000
    """A server whose command or query runs longer ends with exit code 75 and names it; 0: never."""
    sync_hang_ms: int = 20_000
    """A server whose disk takes longer for a sync closes its sockets and ends with code 74; 0: never."""

    space_low_bytes: int = 64 * MIB
    """With less room than this on its disk a leader takes only commands that free something; 0: never."""
    ballast_bytes: int = 0
    """Size of a file that gives room when the disk is full to the last; 0: there is none."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if type(value) is int and value < (0 if name in _MAY_BE_ZERO else 1):
                raise ConfigurationError(f"{name} is {value}: it must be 1 or more")
        _ = self.advertised
        if self.dial_backoff_min_ms > self.dial_backoff_max_ms:
            raise ConfigurationError("dial_backoff_min_ms is over dial_backoff_max_ms")

    @property
    def advertised(self) -> Address | None:
        """`advertise` as an address; `ConfigurationError` where it is not one."""
        return None if self.advertise is None else parse_address(self.advertise)


def _check_cluster_id(cluster_id: str) -> None:
    usable = all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in cluster_id)
    if not usable or not 1 <= len(cluster_id) <= CLUSTER_ID_LENGTH_MAX:
        raise ConfigurationError(
            f"cluster_id {cluster_id[:80]!r}: use 1 to {CLUSTER_ID_LENGTH_MAX} ASCII letters, digits, "
            "'-', '_' or '.'"
        )


def _refuse_twice(what: str, values: Iterable[object]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise ConfigurationError(f"two members have the {what} {value}: each needs its own")
        seen.add(value)


def _convert(values: dict[str, Any], target: type[T], table: str) -> T:
    """Make the options object, refusing names that its type does not have."""
    known = {field.name for field in msgspec.structs.fields(target)}
    for name in values:
        if name not in known:
            raise ConfigurationError(f"{table} has no {name!r}: it has {', '.join(sorted(known))}")
    try:
        return msgspec.convert(values, target)
    except (ConfigurationError, ValueError) as error:
        raise ConfigurationError(f"{table}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _toml_table(name: str, table: dict[str, Any]) -> list[str]:
    """Return a table's lines, tables inside it after its own values; nothing for an empty table."""
    plain = [f"{key} = {_toml(value)}" for key, value in table.items() if not isinstance(value, dict)]
    lines = ["", f"[{name}]", *plain] if plain else []
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _toml_table(f"{name}.{key}", value)
    return lines


def _toml(value: object) -> str:
    """Write a string, boolean, number or list of these as TOML. JSON's spelling is TOML's for these."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
