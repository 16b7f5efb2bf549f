"""One TCP port for members and clients: who is connected, and what they may do.

Rules of this file:

- A connection is a stranger until its hello was accepted, and may be one only for a while and only among a
  few.
- The newest connection of a member wins: the older one is from before it restarted, or its network is gone.
- Every refusal is one line, sent to the other side and counted. A reason never contains what was not checked.
- Nothing waits here. Whoever does not read is dropped (member) or cut off (client).
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable
from random import Random
from typing import Final, Protocol

from viewstamp.core.errors import ConfigurationError, ProtocolViolation
from viewstamp.core.ids import ClientAddress, Incarnation, Instant, NodeId
from viewstamp.runtime.addresses import Address, format_address
from viewstamp.runtime.config import ClusterConfig, NodeConfig
from viewstamp.runtime.connection import Connection, Overflow
from viewstamp.runtime.dialing import LINGER_S, Link, LinkLimits
from viewstamp.runtime.framing import CLIENT, HELLO, PEER, REFUSAL, SERVER, WELCOME
from viewstamp.runtime.handshake import Doorkeeper, Hello, decode_hello, encode_refusal
from viewstamp.runtime.metrics import Metrics
from viewstamp.runtime.system import Clock

LOG: Final = logging.getLogger("viewstamp.runtime")
_BACKLOG: Final = 1024
_LINKS_MAX: Final = 256
"""Nodes that are dialled; what is sent to more is lost."""
_SWEEPS_PER_TIMEOUT: Final = 4


class Inbox(Protocol):
    """What the transport tells the driver. `ProtocolViolation` closes the connection of the frame."""

    def peer_frame(self, source: NodeId, payload: bytes) -> None:
        """A message of the protocol arrived."""
        ...

    def client_frame(self, source: ClientAddress, payload: bytes) -> None:
        """A client's message arrived."""
        ...

    def peer_changed(self, peer: NodeId, is_up: bool) -> None:  # noqa: FBT001  the second word of an event
        """This node's connection to a member stands, or broke, or was not to be had."""
        ...

    def client_gone(self, source: ClientAddress) -> None:
        """The client's connection is closed. Its address is never used again."""
        ...


class Transport:
    """All connections of one node."""

    def __init__(
        self,
        cluster: ClusterConfig,
        node: NodeId,
        config: NodeConfig,
        *,
        incarnation: Incarnation,
        write_routing: str,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        inbox: Inbox,
        guests: Callable[[], Iterable[NodeId]] | None = None,
        dials_on_demand: bool = False,
    ) -> None:
        """`guests` tells who takes part now, where members may come that the configuration does not list.

        With `dials_on_demand` nobody is called before something is sent to it, and each send to a member
        without a connection leads to `peer_changed`: it was reached, with this message, or it was not.
        """
        self._config = config
        self._cluster = cluster
        self._incarnation = incarnation
        self._rng = rng
        self._guests = guests
        self._dials_on_demand = dials_on_demand
        self._clock = clock
        self._metrics = metrics
        self._inbox = inbox
        self._doorkeeper = Doorkeeper(cluster, node, write_routing)
        self._open: set[Connection] = set()
        """All connections that others opened, whoever they are."""
        self._all_closed = asyncio.Event()
        """Set while `_open` is empty."""
        self._all_closed.set()
        self._strangers: dict[Connection, Instant] = {}
        """Connections without an accepted hello and when they came, the oldest first."""
        self._refused = ""
        """The refusal that was logged last: who is refused tries again every second, for days."""
        self._clients: dict[ClientAddress, Connection] = {}
        self._peers: dict[NodeId, Connection] = {}
        """The newest connection that each member opened to us."""
        self._paused: dict[Connection, Instant] = {}
        """Clients that do not read their replies, and since when."""
        self._last_client = 0
        self._dirty: list[Connection] = []
        """Connections with something to write in this turn."""
        self._sweep: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None
        self._stopped = False
        self.silenced = False
        """For tests: as if every cable were pulled. Nothing is sent, and what arrives is not looked at."""
        self._node = node
        self._links = {
            peer: self._make_link(peer, address)
            for peer, address in cluster.addresses.items()
            if peer != node
        }

    def _make_link(self, peer: NodeId, address: Address) -> Link:
        hello = self._doorkeeper.hello_to(peer, self._incarnation)
        limits = link_limits(self._config)
        return Link(peer, address, hello=hello, kind=PEER, limits=limits, rng=self._rng, owner=self)

    def _link_to_guest(self, peer: NodeId) -> Link | None:
        """Begin to dial a node that the configuration does not list, if it may take part."""
        address = self._cluster.address_of(peer)
        if address is None or peer == self._node or self._stopped or len(self._links) >= _LINKS_MAX:
            return None
        link = self._links[peer] = self._make_link(peer, address)
        if self._server is not None:  # else `start` will start it with all the others
            link.start()
        return link

    async def start(self, listen: Address | socket.socket) -> None:
        """Listen, and begin to dial the other members.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        try:
            if isinstance(listen, socket.socket):
                self._server = await loop.create_server(self._accept, sock=listen, backlog=_BACKLOG)
            else:
                self._server = await loop.create_server(self._accept, *listen, backlog=_BACKLOG)
        except OSError as error:
            where = "its socket" if isinstance(listen, socket.socket) else format_address(listen)
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise ConfigurationError(
                f"cannot listen on {where}: {why}; nothing was served: stop who has it, or take another"
            ) from error
        if not self._dials_on_demand:
            for link in self._links.values():
                link.start()

    async def stop(self) -> None:
        """Close everything. What was sent before is written as far as the other sides take it at once."""
        self.halt(abort=False)
        await asyncio.gather(self._close_connections(), *(link.stop() for link in self._links.values()))
        if self._server is not None:
            await self._server.wait_closed()

    async def _close_connections(self) -> None:
        """Wait a little for what is being written, then cut off who does not read it."""
        try:
            async with asyncio.timeout(LINGER_S):
                await self._all_closed.wait()
        except TimeoutError:
            for connection in list(self._open):
                connection.abort("")
            await self._all_closed.wait()

    def halt(self, *, abort: bool) -> None:
        """Accept and deliver nothing from now on. With `abort` not even what waits to be written goes out."""
        self._stopped = True
        if self._server is not None:
            self._server.close()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self._open):
            if abort:
                connection.abort("the server failed")
            else:
                connection.close("the server stops")

    def send(self, to: NodeId, payload: bytes) -> None:
        """Send a message of the protocol to a member; lost where it is away or is none."""
        link = self._links.get(to) or self._link_to_guest(to)
        if link is not None and not self.silenced and link.send(payload):
            self._metrics.peer_messages_out += 1
        elif self._dials_on_demand and link is not None:
            link.dial(payload)

    def respond(self, to: ClientAddress, payload: bytes) -> None:
        """Send a message to a client, if its connection still stands."""
        connection = self._clients.get(to)
        if connection is not None and not self.silenced:
            connection.send(SERVER, payload)
            self._metrics.client_messages_out += 1

    def flush(self) -> None:
        """Write everything that was sent in this turn, once for each connection."""
        dirty = self._dirty
        if dirty:
            self._dirty = []
            for connection in dirty:
                connection.flush()

    def tally(self) -> None:
        """Bring the counters that the links keep into the metrics."""
        self._metrics.dials = sum(link.dials for link in self._links.values())
        self._metrics.peer_messages_dropped = sum(link.dropped for link in self._links.values())

    def connected_peers(self) -> list[NodeId]:
        """Return the members that have welcomed us."""
        return [peer for peer, link in self._links.items() if link.is_up]

    @property
    def clients_connected(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    @property
    def strangers_connected(self) -> int:
        """How many connections have not said hello."""
        return len(self._strangers)

    def opened(self, connection: Connection) -> None:
        """Admit a stranger for a while (`connection.Handler`)."""
        self._metrics.connections_accepted += 1
        self._open.add(connection)
        self._all_closed.clear()
        if self._stopped:
            connection.abort("the server stops")
            return
        if len(self._strangers) >= self._config.strangers_max:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            self._refuse(oldest, "too many connections have not said hello")
        self._strangers[connection] = self._clock()
        self._arm_sweep()

    def frame(self, connection: Connection, kind: int, payload: bytes) -> None:
        """Pass a frame on, according to who sent it (`connection.Handler`)."""
        who = connection.tag
        if self.silenced:
            return
        if who is None:
            self._greet(connection, kind, payload)
        elif kind == CLIENT and type(who) is _Client:
            self._metrics.client_messages_in += 1
            self._inbox.client_frame(who.address, payload)
        elif kind == PEER and type(who) is _Peer:
            self._metrics.peer_messages_in += 1
            self._inbox.peer_frame(who.node, payload)
        else:
            raise ProtocolViolation(f"a frame of kind {kind} may not come from a {who}")

    def closed(self, connection: Connection, reason: str) -> None:
        """Forget a connection (`connection.Handler`)."""
        if reason and not self._stopped:
            LOG.info("closed %s: %s", connection.tag or "a stranger", reason)
            self._metrics.violations += 1
        self._open.discard(connection)
        if not self._open:
            self._all_closed.set()
        self._strangers.pop(connection, None)
        self._paused.pop(connection, None)
        who = connection.tag
        if isinstance(who, _Client):
            self._clients.pop(who.address, None)
            if not self._stopped:
                self._inbox.client_gone(who.address)
        elif isinstance(who, _Peer) and self._peers.get(who.node) is connection:
            del self._peers[who.node]
            if self._dials_on_demand and not self._stopped:
                self._inbox.peer_changed(who.node, False)  # we may have no connection to it of our own

    def wants_flush(self, connection: Connection) -> None:
        """Remember it until `flush`, which ends every turn of the driver (`connection.Handler`)."""
        self._dirty.append(connection)

    def paused(self, connection: Connection, *, paused: bool) -> None:
        """Watch a client that does not read (`connection.Handler`)."""
        if paused:
            self._paused[connection] = self._clock()
            self._arm_sweep()
        else:
            self._paused.pop(connection, None)

    def link_changed(self, peer: NodeId, is_up: bool) -> None:  # noqa: FBT001  as in LinkOwner
        """Tell the driver of a member's connection (`links.LinkOwner`)."""
        if not self._stopped:
            self._inbox.peer_changed(peer, is_up)

    def link_received(self, peer: NodeId, payload: bytes) -> None:
        """Refuse: members send over the connections that they opened (`links.LinkOwner`)."""
        raise ProtocolViolation(f"node {peer} sent {len(payload)} bytes over the connection that is ours")

    def _accept(self) -> Connection:
        config = self._config
        return Connection(
            self,
            frame_bytes_max=config.hello_bytes_max,
            send_bytes_max=config.client_send_bytes_max,
            overflow=Overflow.CLOSE,
        )

    def _greet(self, connection: Connection, kind: int, payload: bytes) -> None:
        if kind != HELLO:
            raise ProtocolViolation("the first frame is not a hello")
        hello = decode_hello(payload)
        del self._strangers[connection]
        reason = self._doorkeeper.refuse(hello)
        if reason is None and hello.role == "client" and len(self._clients) >= self._config.clients_max:
            reason = f"{self._config.clients_max} clients are connected, which is the limit: try another node"
        if reason is not None:
            told = f"{hello.role}: {reason}"
            level = logging.DEBUG if told == self._refused else logging.WARNING
            self._refused = told
            LOG.log(level, "refused %s at %s: %s", hello.role, connection.peer_name, reason)
            self._refuse(connection, reason)
            return
        self._admit(connection, hello)
        guests = self._guests
        connection.send(
            WELCOME, self._doorkeeper.welcome if guests is None else self._doorkeeper.welcome_with(guests())
        )
        connection.flush()  # no step of the driver, and so no turn, follows from it

    def _admit(self, connection: Connection, hello: Hello) -> None:
        if hello.role == "client":
            self._last_client += 1
            connection.tag = _Client(ClientAddress(self._last_client))
            connection.raise_limit(self._config.client_frame_bytes_max)
            self._clients[ClientAddress(self._last_client)] = connection
            return
        peer = NodeId(hello.node)
        older = self._peers.pop(peer, None)
        if older is not None:
            older.abort("")
        connection.tag = _Peer(peer)
        connection.raise_limit(self._config.peer_frame_bytes_max)
        self._peers[peer] = connection
        link = self._links.get(peer) or self._link_to_guest(peer)
        if link is not None:
            link.nudge()

    def _refuse(self, connection: Connection, reason: str) -> None:
        self._metrics.connections_refused += 1
        connection.send(REFUSAL, encode_refusal(reason))
        connection.close("")

    def _arm_sweep(self) -> None:
        if self._sweep is None and not self._stopped:
            shorter_ms = min(self._config.hello_timeout_ms, self._config.client_stall_timeout_ms)
            wait_s = shorter_ms / _SWEEPS_PER_TIMEOUT / 1000
            self._sweep = asyncio.get_running_loop().call_later(wait_s, self._on_sweep)

    def _on_sweep(self) -> None:
        """Close what has waited too long; one timer serves all connections."""
        self._sweep = None
        if self.silenced:
            self._arm_sweep()
            return
        now = self._clock()
        for connection in _older_than(self._strangers, now - 1000 * self._config.hello_timeout_ms):
            del self._strangers[connection]
            self._refuse(connection, "no hello in time")
        for connection in _older_than(self._paused, now - 1000 * self._config.client_stall_timeout_ms):
            self._metrics.clients_stalled += 1
            connection.abort("the replies were not read in time")
        if self._strangers or self._paused:
            self._arm_sweep()


class _Client:
    """The tag of a client's connection."""

    __slots__ = ("address",)

    def __init__(self, address: ClientAddress) -> None:
        self.address = address

    def __str__(self) -> str:
        return f"client {self.address}"


class _Peer:
    """The tag of a member's connection."""

    __slots__ = ("node",)

    def __init__(self, node: NodeId) -> None:
        self.node = node

    def __str__(self) -> str:
        return f"node {self.node}"


def _older_than(since: dict[Connection, Instant], moment: int) -> list[Connection]:
    """Return the connections from before this moment; the dict is in order of time."""
    return [connection for connection, begun in since.items() if begun < moment]


def link_limits(config: NodeConfig) -> LinkLimits:
    """Return the limits of a member's connections to the others."""
    return LinkLimits(
        hello_bytes_max=config.hello_bytes_max,
        frame_bytes_max=config.peer_frame_bytes_max,
        send_bytes_max=config.peer_send_bytes_max,
        dial_timeout_ms=config.dial_timeout_ms,
        backoff_min_ms=config.dial_backoff_min_ms,
        backoff_max_ms=config.dial_backoff_max_ms,
    )
