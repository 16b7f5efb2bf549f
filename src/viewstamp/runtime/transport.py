"""One TCP port for members and clients: which connections there are, and what each may send.

Rules of this file:

- A connection is a stranger until its hello is accepted. It may be one for a limited time only, and only few
  may be strangers at once.
- The newest connection of a member wins: the older one is from before it restarted, or its network is gone.
- Every refusal is one line, sent to the other side and counted. A reason never contains what was not checked.
- Nothing waits here. What a member does not read is dropped; a client that does not read is cut off.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from random import Random
from typing import Final

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import ClientAddress, Incarnation, Instant, NodeId, Viewstamp
from viewstamp.core.messages import MembersChanged, OperatorMessage, decode_client_message, encode_message
from viewstamp.link.acceptor import Acceptor
from viewstamp.link.admission import Admitted
from viewstamp.link.framing import PEER, UnfinishedBytes
from viewstamp.link.handshake import NO_CLASS, Doorkeeper, Hello, ServedClass
from viewstamp.replica.events import Announced
from viewstamp.runtime.address_book import AddressBook
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.admissions import Admissions
from viewstamp.runtime.backlog import Backlog
from viewstamp.runtime.bounded_log import BoundedLog
from viewstamp.runtime.config import ClusterConfig, NodeConfig
from viewstamp.runtime.connection import Connection, LinkStep, Overflow
from viewstamp.runtime.deadlines import Deadlines
from viewstamp.runtime.dialing import LINGER_S, OutgoingLink, link_limits
from viewstamp.runtime.differences import Differences
from viewstamp.runtime.disk_hang import shut_down
from viewstamp.runtime.inbox import Inbox
from viewstamp.runtime.listening import listen_on
from viewstamp.runtime.metrics import Metrics
from viewstamp.runtime.moves import Moves
from viewstamp.runtime.places import Client, ClientPlaces, Newcomer, Peer
from viewstamp.runtime.security import OPEN, Security
from viewstamp.runtime.system import Clock

LOG: Final = logging.getLogger("viewstamp.runtime")
_LINKS_MAX: Final = 256
"""Nodes that are dialled; what is sent to more is lost."""


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
        book: AddressBook | None = None,
        dials_on_demand: bool = False,
        machine: ServedClass = NO_CLASS,
        security: Security = OPEN,
    ) -> None:
        """`guests` returns the nodes that take part now, where some may that the configuration does not list.

        With `dials_on_demand` nobody is called before something is sent to it, and each send to a member
        without a connection leads to `peer_changed`: it was reached, with this message, or it was not.
        `book` holds addresses; `machine` is what the others are told of the class that is served.
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
        self._security = security
        self._book = book or AddressBook(cluster, node)
        self._node = node
        self.doorkeeper = self._make_doorkeeper(write_routing, machine)
        self._admissions = Admissions(self.doorkeeper, cluster.cluster_id, security)
        self._differences = Differences(self.doorkeeper, node, machine.name)
        self._open: dict[Connection, None] = {}  # all connections that others opened, the oldest first
        self._all_closed = asyncio.Event()  # set while `_open` is empty
        self._all_closed.set()
        self._log = BoundedLog(LOG, clock)
        self._deadlines = Deadlines(config, clock, metrics, self._log, self._refuse, lambda: self.silenced)
        self._strangers = self._deadlines.strangers
        self._places = ClientPlaces(config)
        self._backlog = Backlog()
        self.waiting = self._backlog.queues
        self._unfinished = UnfinishedBytes(config.unfinished_bytes_max)
        self._clients: dict[ClientAddress, Connection] = {}
        self._peers: dict[NodeId, Connection] = {}  # the newest that each member opened to us
        self._last_client = 0
        self.dirty: list[Connection] = []
        """Connections with something to write in this turn. Read-only for callers."""
        self._server: asyncio.Server | None = None
        self._stopped = False
        self.silenced = False  # for tests: as if every cable were pulled
        self._links = self._make_links()
        self._moves = Moves(self._links, self._book, self.doorkeeper)

    def _make_doorkeeper(self, write_routing: str, served: ServedClass) -> Doorkeeper:
        advertised, book = self._config.advertised, self._book
        return Doorkeeper(
            self._cluster.identity(self._node, write_routing, advertised, served, book, self._is_established)
        )

    def _make_links(self) -> dict[NodeId, OutgoingLink]:
        listed = {peer: self._book.address_of(peer) or at for peer, at in self._cluster.addresses.items()}
        return {peer: self._make_link(peer, at) for peer, at in listed.items() if peer != self._node}

    def _is_established(self) -> bool:
        """Return whether the log names the members."""
        return self._guests is not None and any(True for _ in self._guests())

    def _make_link(self, peer: NodeId, address: Address) -> OutgoingLink:
        return OutgoingLink(
            peer,
            address,
            hello=self._security.greet_member(self.doorkeeper, peer, self._incarnation),
            kind=PEER,
            limits=link_limits(self._config, on_demand=self._dials_on_demand),
            rng=self._rng,
            owner=self,
            dirty=self.dirty,
            on_demand=self._dials_on_demand,
            secure=self._security.dial(self._cluster.cluster_id, peer),
        )

    def _link_to_guest(self, peer: NodeId) -> OutgoingLink | None:
        """Begin to dial a node that the configuration does not list, if it may take part."""
        address = self._book.address_of(peer)
        if address is None or peer == self._node or self._stopped or len(self._links) >= _LINKS_MAX:
            return None
        link = self._links[peer] = self._make_link(peer, address)
        if self._server is not None and not self._dials_on_demand:  # else `start` starts it with the others
            link.start()
        return link

    async def start(self, listen: Address | socket.socket) -> None:
        """Listen, and begin to dial the other members.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        self._server = await listen_on(listen, self._accept)
        if not self._dials_on_demand:
            for link in self._links.values():
                link.start()

    async def stop(self) -> None:
        """Close everything. What was sent before is written as far as the other sides take it at once."""
        self.halt(abort=False)
        await asyncio.gather(self._close_connections(), *(link.stop() for link in self._links.values()))
        if self._server is not None:
            await self._server.wait_closed()
        for _ in range(8):  # what was accepted in the turn that closed the port comes only now
            await asyncio.sleep(0)
        await self._close_connections()

    async def _close_connections(self) -> None:
        """Wait a little for what is being written, then cut off those that do not read it."""
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
        self._deadlines.stop()
        for connection in list(self._open):
            if abort:
                connection.abort("the server failed")
            else:
                connection.close("the server stops")

    def sever(self) -> None:
        """Shut every socket down at once. May be called in any thread: this one may hang."""
        listening = () if self._server is None else self._server.sockets
        ours = (link.up for link in tuple(self._links.values()))
        connected = (each.descriptor for each in (*tuple(self._open), *ours) if each is not None)
        open_ones = (number for number in connected if number is not None)
        shut_down([*(each.fileno() for each in listening), *open_ones])

    def send(self, to: NodeId, payload: bytes) -> None:
        """Send a message of the protocol to a member; lost where it is away or is not a member."""
        link = self._links.get(to) or self._link_to_guest(to)
        if link is None:
            return
        connection = link.up
        if connection is not None and not self.silenced:
            connection.send(payload)
            self._metrics.peer_messages_out += 1
            return
        link.lose()
        if self._dials_on_demand:
            link.dial(payload)

    def respond(self, to: ClientAddress, payload: bytes) -> None:
        """Send a message to a client, if its connection still stands."""
        connection = self._clients.get(to)
        if connection is not None and not self.silenced:
            connection.send(payload)
            self._metrics.client_messages_out += 1

    def _keep(self, connection: Connection, payload: bytes) -> None:
        """Keep a message for a later turn."""
        self._metrics.client_messages_waited += 1
        self._backlog.put(connection, payload)
        if self._backlog.size_bytes > self._config.unfinished_bytes_max:
            connection.abort("this node has too much to do")
        self._inbox.work_waits()

    def serve_waiting(self) -> bool:
        """Pass on what was kept, one connection after the other, while there is time; return what remains."""
        while self.waiting and self._inbox.has_time():
            taken = self._backlog.take()
            if taken is None:
                break
            connection, payload = taken
            assert isinstance(connection.tag, Client)
            try:
                self._inbox.client_frame(connection.tag.address, payload, connection.principal)
            except ProtocolViolation as violation:
                connection.abort(str(violation))
                self._backlog.drop(connection)
        return bool(self.waiting)

    def flush(self) -> None:
        """Write everything that was sent in this turn, once for each connection."""
        for connection in self.dirty:
            connection.flush()
        self.dirty.clear()

    def tally(self) -> None:
        """Bring the counters that the links keep into the metrics."""
        self._metrics.certificate_expires_at_s = self._security.expires_at_s
        self._metrics.dials = sum(link.dials for link in self._links.values())
        self._metrics.peer_messages_dropped = sum(link.dropped for link in self._links.values())

    def connections(self) -> Iterator[Connection]:
        """Yield every connection, whichever end opened it."""
        yield from self._open
        for link in self._links.values():
            if link.up is not None:
                yield link.up

    def connected_peers(self) -> list[NodeId]:
        """Return the members that have welcomed us."""
        return [peer for peer, link in self._links.items() if link.is_up]

    def usage(self) -> Iterator[tuple[str, int, int]]:
        """Yield the budgets of connections: (what, how much is used, how much at most)."""
        config = self._config
        yield from self._places.usage()
        yield "connections without a hello", len(self._strangers), config.strangers_max
        yield "bytes of unfinished frames", self._unfinished.used, config.unfinished_bytes_max
        yield "bytes of frames for later turns", self._backlog.size_bytes, config.unfinished_bytes_max
        yield "bytes of replies not read", self._deadlines.unread_bytes(), config.unread_bytes_max

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
        self._open[connection] = None
        self._all_closed.clear()
        if self._stopped:
            connection.abort("the server stops")
            return
        if len(self._strangers) >= self._config.strangers_max:
            oldest = next(iter(self._strangers))
            self._refuse(oldest, "too many connections have not said hello")
        assert isinstance(connection.link, Acceptor)
        self._strangers[connection] = connection.link
        self._deadlines.plan()

    def greeted(self, connection: Connection, step: LinkStep) -> None:
        """Answer a hello, or the proof of one (`connection.Handler`)."""
        if self.silenced:
            return
        decided = self._admissions.decide(connection, step)
        if decided is not None:
            self._greet(connection, decided)

    def _from_client(self, connection: Connection, source: ClientAddress, payload: bytes) -> None:
        if not self.silenced:
            self._metrics.client_messages_in += 1
            if self.waiting or connection.is_held or connection.is_full or not self._inbox.has_time():
                self._keep(connection, payload)
            else:
                self._inbox.client_frame(source, payload, connection.principal)

    def _from_peer(self, source: NodeId, payload: bytes) -> None:
        if not self.silenced:
            self._metrics.peer_messages_in += 1
            self._inbox.peer_frame(source, payload)

    def closed(self, connection: Connection, reason: str) -> None:
        """Forget a connection (`connection.Handler`)."""
        if reason and not self._stopped:
            said = f"{connection.tag or 'a stranger'}: {reason}"
            self._log.write(logging.INFO, "closed", said, once=f"{connection.host}: {reason}")
            self._deadlines.plan()
            self._metrics.violations += 1
        self._open.pop(connection, None)
        if not self._open:
            self._all_closed.set()
        self._deadlines.forget(connection)
        self._admissions.forget(connection)
        self._backlog.drop(connection)
        sender = connection.tag
        if isinstance(sender, Client):
            self._places.left(connection, sender)
            self._clients.pop(sender.address, None)
            if not self._stopped:
                self._inbox.client_gone(sender.address)
        elif isinstance(sender, Peer) and self._peers.get(sender.node) is connection:
            del self._peers[sender.node]
            self._moves.silent(sender.node)
            if self._dials_on_demand and not self._stopped:
                self._inbox.peer_changed(sender.node, False)  # we may have no connection to it of our own

    def paused(self, connection: Connection, *, paused: bool) -> None:
        """Watch a client that does not read (`connection.Handler`)."""
        self._deadlines.paused(connection, paused=paused)
        if not paused and self._backlog.heard(connection):
            self._inbox.work_waits()

    def in_frame(self, connection: Connection, *, in_frame: bool) -> None:
        """Watch a frame that has not ended (`connection.Handler`)."""
        self._deadlines.in_frame(connection, in_frame=in_frame)

    def link_changed(self, peer: NodeId, is_up: bool) -> None:  # noqa: FBT001  as in LinkOwner
        """Tell the driver of a member's connection (`dialing.LinkOwner`)."""
        if not self._stopped:
            self._inbox.peer_changed(peer, is_up)

    def link_received(self, peer: NodeId, payload: bytes) -> None:
        """Refuse: members send over the connections that they opened (`dialing.LinkOwner`)."""
        raise ProtocolViolation(f"node {peer} sent {len(payload)} bytes over the connection that is ours")

    def _accept(self) -> Connection:
        config = self._config
        hello_until = Instant(self._clock() + 1000 * config.hello_timeout_ms)
        return Connection(
            self,
            Acceptor(config.hello_bytes_max, hello_until),
            dirty=self.dirty,
            deliver=_from_a_stranger,
            send_bytes_max=config.client_send_bytes_max,
            overflow=Overflow.CLOSE,
            tls=self._security.accept(),
        )

    def _greet(self, connection: Connection, decided: Admitted | str) -> None:
        if isinstance(decided, Admitted):
            connection.principal = decided.principal
            if not decided.is_peer:
                decided = self._make_room(connection) or decided
        if isinstance(decided, str):
            said, once = f"at {connection.peer_name}: {decided}", f"{connection.host}: {decided}"
            self._log.write(logging.WARNING, "refused", said, once=once)
            self._refuse(connection, decided)
            return
        acceptor = self._strangers.pop(connection)
        guests, is_peer = self._guests, decided.is_peer
        if is_peer:
            self._admit_peer(connection, decided.hello)
        else:
            self._admit_client(connection)
        if decided.ends_after_s is not None:
            self._deadlines.end_after(connection, decided.ends_after_s, decided.ends_because)
        door, config = self.doorkeeper, self._config
        acceptor.accept(
            door.welcome if guests is None else door.welcome_with(guests()),
            is_peer=is_peer,
            frame_bytes_max=config.peer_frame_bytes_max if is_peer else config.client_frame_bytes_max,
            budget=None if is_peer else self._unfinished,
        )
        connection.flush()  # no step of the driver, and so no turn, follows from it

    def _admit_client(self, connection: Connection) -> None:
        self._last_client += 1
        address = ClientAddress(self._last_client)
        displaced = self._places.admit(connection, address, connection.owner, self._clock())
        connection.deliver = partial(self._from_newcomer, connection)
        self._clients[address] = connection
        self._deadlines.client_came(connection)
        if displaced is not None:
            self._displace(displaced)

    def _make_room(self, connection: Connection) -> str | None:
        """Return why a client finds no place here; None: it does, if another gives way then by that."""
        room = self._places.room_for(connection.owner, self._clock())
        if isinstance(room, Connection):
            self._displace(room)
            return None
        return room

    def _displace(self, connection: Connection) -> None:
        self._metrics.clients_displaced += 1
        sender = connection.tag
        assert isinstance(sender, Client)
        self._places.left(connection, sender)
        connection.close("")

    def _from_newcomer(self, connection: Connection, payload: bytes) -> None:
        """Take in the first message of a client; of one in the reserve every one."""
        sender = connection.tag
        assert isinstance(sender, Client), sender
        if self.silenced:
            return
        if type(sender) is Newcomer:
            self._places.spoke(connection, sender)
            connection.deliver = partial(self._from_client, connection, sender.address)
            connection.deliver(payload)
            return
        if not isinstance(decode_client_message(payload), OperatorMessage):
            self._metrics.connections_refused += 1
            assert isinstance(connection.link, Acceptor)
            connection.link.refuse(self._places.full)
            connection.close("")
            return
        self._metrics.client_messages_in += 1
        self._inbox.client_frame(sender.address, payload, connection.principal)

    def _admit_peer(self, connection: Connection, hello: Hello) -> None:
        peer = NodeId(hello.node)
        if hello.advertise is not None and peer not in self._cluster.addresses:
            self._book.learn(peer, hello.advertise)  # no file says where it is, so its own word is kept
        older = self._peers.pop(peer, None)
        if older is not None:
            older.abort("")
        connection.tag = Peer(peer)
        connection.deliver = partial(self._from_peer, peer)
        self._peers[peer] = connection
        self._differences.compare(peer)
        self._inbox.peer_announced(Announced(peer, hello.level.high, hello.machine.high, hello.interface))
        link = self._links.get(peer) or self._link_to_guest(peer)
        if link is not None:
            if hello.advertise is not None:
                self._moves.said(link, hello.advertise)
            link.nudge()

    def move(self, node: NodeId, address: Address) -> None:
        """An operator says where a node is found."""
        self._moves.told(node, address)

    def members_are(self, members: frozenset[NodeId], at: Viewstamp | None = None) -> None:
        """The log names these members at this entry: dial them, not those that were removed; tell clients."""
        if not members or self._stopped:
            return
        for peer in members - self._links.keys() - {self._node}:
            self._link_to_guest(peer)
        told = self.doorkeeper.members_with(sorted(members))
        if told and told != self._moves.announced:
            self._moves.announced = told
            for connection in self._clients.values():
                connection.send(encode_message(MembersChanged(told, at)))
                connection.flush()

    def _refuse(self, connection: Connection, reason: str) -> None:
        """Refuse a stranger."""
        self._metrics.connections_refused += 1
        self._strangers.pop(connection).refuse(reason)
        connection.close("")


def _from_a_stranger(payload: bytes) -> None:
    raise AssertionError(f"the acceptor let {len(payload)} bytes through before the hello")
