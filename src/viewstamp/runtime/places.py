"""The places of clients: how many connections there may be, in all and of one owner, and who gives way.

Rules of this file:

- An owner is a principal that has a name, wherever it connects from, or else an address.
- A client that has said something after its hello keeps its place: when the node is full, the new one is
  refused.
- A client that has said nothing keeps it while there is room. When there is none it gives way after
  `silent_timeout_ms`, the longest silent first.
- Beyond the limit there is a reserve, in which a connection may ask what operators ask (a node's status, a
  directive) and nothing else. There the oldest gives way, so that an operator always gets in.
"""

from collections.abc import Iterator

from viewstamp.core.ids import ClientAddress, Instant, NodeId
from viewstamp.core.principals import Role, role_of
from viewstamp.runtime.config import NodeConfig
from viewstamp.runtime.connection import Connection


class Client:
    """The tag of a client's connection."""

    __slots__ = ("address", "owner")

    def __init__(self, address: ClientAddress, owner: str) -> None:
        self.address = address
        self.owner = owner

    def __str__(self) -> str:
        return f"client {self.address}"


class Peer:
    """The tag of a member's connection."""

    __slots__ = ("node",)

    def __init__(self, node: NodeId) -> None:
        self.node = node

    def __str__(self) -> str:
        return f"node {self.node}"


class Newcomer(Client):
    """One that has said nothing after its hello."""

    __slots__ = ()


class Visitor(Client):
    """One that came when the node was full, into the reserve."""

    __slots__ = ()


class ClientPlaces:
    """The clients that have a place."""

    __slots__ = ("_config", "_owners", "_regular", "_reserve", "_silent")

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._owners: dict[str, dict[Connection, None]] = {}
        """The connections with a place outside the reserve, by owner. None of them is empty."""
        self._regular = 0
        """How many there are."""
        self._silent: dict[Connection, Instant] = {}
        """Those of them that have said nothing since their hello, and when that was; the oldest first."""
        self._reserve: dict[Connection, None] = {}
        """The oldest first."""

    def __len__(self) -> int:
        return self._regular

    def room_for(self, owner: str, now: Instant) -> "Connection | str | None":
        """Return who must give way to a new client of this owner, or why it is refused; None: no one."""
        limit = self._config.clients_per_address_max
        mine = self._owners.get(owner, ())
        if len(mine) >= limit:
            silent = next((each for each in self._overdue(now) if each in mine), None)
            return (
                silent or f"{limit} clients of {_named(owner)} are connected, which is the limit: close some"
            )
        if self._regular >= self._config.clients_max:
            return next(self._overdue(now), None)
        return None

    @property
    def full(self) -> str:
        """What a client is told that came when the node was full."""
        return f"{self._config.clients_max} clients are connected, which is the limit: try another node"

    @property
    def is_full(self) -> bool:
        """Whether a new client finds a place in the reserve only."""
        return self._regular >= self._config.clients_max

    def admit(
        self, connection: Connection, address: ClientAddress, owner: str, now: Instant
    ) -> Connection | None:
        """Give a connection its tag; return the one that must give way to it in the reserve."""
        if self.is_full:
            connection.tag = Visitor(address, owner)
            self._reserve[connection] = None
            full = len(self._reserve) > self._config.operators_max
            return next(iter(self._reserve)) if full else None
        connection.tag = Newcomer(address, owner)
        self._owners.setdefault(owner, {})[connection] = None
        self._silent[connection] = now
        self._regular += 1
        return None

    def spoke(self, connection: Connection, sender: Client) -> None:
        """A newcomer has said something: it keeps its place from now on."""
        self._silent.pop(connection, None)
        connection.tag = Client(sender.address, sender.owner)

    def left(self, connection: Connection, sender: Client) -> None:
        """A connection has ended."""
        if type(sender) is Visitor:
            self._reserve.pop(connection, None)
            return
        self._silent.pop(connection, None)
        mine = self._owners.get(sender.owner, {})
        if connection in mine:
            del mine[connection]
            self._regular -= 1
            if not mine:
                del self._owners[sender.owner]

    def usage(self) -> Iterator[tuple[str, int, int]]:
        """Yield (what, how many, how many at most)."""
        most = max(map(len, self._owners.values()), default=0)
        yield "clients", self._regular, self._config.clients_max
        yield "clients of one owner", most, self._config.clients_per_address_max
        yield "operators in the reserve", len(self._reserve), self._config.operators_max

    def _overdue(self, now: Instant) -> Iterator[Connection]:
        """Yield those that have been silent for too long where others need their place."""
        for connection, since in self._silent.items():
            if now - since < 1000 * self._config.silent_timeout_ms:
                return
            yield connection


def _named(owner: str) -> str:
    return owner if role_of(owner) is not Role.ANONYMOUS else "this address"
