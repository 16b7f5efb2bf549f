"""Streams of the simulated world: what the kernels of two hosts do for one TCP connection.

Rules of this file:

1. Bytes keep their order and arrive once, until the connection breaks. Any part of them may arrive later than
   the rest, and a cut stops them until it is healed or the sender gives up.
2. A process that ends closes its sockets, as the kernel does for it; a machine without power says nothing,
   and answers with a reset when it is back and something arrives.
3. A reset loses what was under way and what was not read.
"""

import errno
import os
from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Final, Protocol, TypeAlias

import msgspec

from viewstamp.sim.world.world import World
from viewstamp.simruntime.host import Host
from viewstamp.simruntime.options import SocketOptions

Address: TypeAlias = tuple[str, int]
_RETRY_US: Final = 200_000
"""What a kernel waits before it sends again; each time twice as long (RFC 6298)."""
_RETRY_MAX_US: Final = 6_400_000
_SYN_RETRY_US: Final = 1_000_000
_GIVE_UP_US: Final = 10_000_000
"""TCP_USER_TIMEOUT, as `runtime.system` sets it."""
_FIN: Final = b""
_EPHEMERAL: Final = 40_000


class End:
    """One end of a stream: the socket, and what is under way from it to the other end."""

    __slots__ = (
        "_arrives_us",
        "_flight",
        "_flight_bytes",
        "_network",
        "_retry_us",
        "_stuck_since_us",
        "acknowledged_us",
        "closed",
        "eof",
        "error",
        "host",
        "life",
        "name",
        "other",
        "readable",
        "stalled_until_us",
        "unread",
        "wants_room",
        "writable",
    )

    other: "End"

    def __init__(self, network: "Network", host: Host, name: Address) -> None:
        self._network = network
        self.host = host
        self.life = host.life
        self.name = name
        self.unread = bytearray()
        """What has arrived here."""
        self.eof = False
        """Whether the other end will send no more, once `unread` was read."""
        self.error: OSError | None = None
        """Why nothing can be sent or read here."""
        self.closed = False
        """Whether this end was closed, or its process has ended."""
        self.readable: Callable[[], None] = _ignore
        self.writable: Callable[[], None] = _ignore
        self.wants_room = False
        """Whether `writable` is to be called when there is room again."""
        self.stalled_until_us = 0
        """The process does not read before that."""
        self._flight: deque[tuple[int, bytes]] = deque()
        """(when it arrives, what), towards the other end; empty bytes: the end of the stream."""
        self._flight_bytes = 0
        self._arrives_us = 0
        self._stuck_since_us: int | None = None
        self._retry_us = _RETRY_US
        self.acknowledged_us = network.world.now_us
        """When the other machine last acknowledged something."""

    @property
    def waits(self) -> bool:
        """Whether something is under way that the other machine has not acknowledged."""
        return bool(self._flight)

    @property
    def stands(self) -> bool:
        """Whether its process still has it open."""
        return not self.closed and self.host.life == self.life

    def send(self, data: bytes) -> int:
        """Give bytes to the kernel and return how many it took; `OSError`: the connection is broken."""
        if self.error is not None:
            raise self.error
        network, options = self._network, self._network.options
        room = options.buffer_bytes - self._flight_bytes - len(self.other.unread)
        count = min(len(data), room)
        if count <= 0:
            self.wants_room = True
            return 0
        rng = network.rng
        if count > 1 and options.partial_writes and rng.random() < options.partial_writes:
            network.counts["partial write"] += 1
            count = rng.randrange(1, count)
        self.wants_room = count < len(data)
        self._launch(bytes(data[:count]))
        if self.wants_room and count < room:  # it took less than it could: there is room at once
            network.world.after(1, self._offer_room)
        return count

    def _launch(self, data: bytes) -> None:
        network, options, rng = self._network, self._network.options, self._network.rng
        begin = 0
        if len(data) > 1 and options.pieces and rng.random() < options.pieces:
            network.counts["frame in pieces"] += 1
            begin = rng.randrange(1, len(data))
            self._fly(data[:begin], 0)
            self._fly(data[begin:], rng.randrange(options.piece_delay_max_us))
        else:
            self._fly(data, 0)

    def _fly(self, data: bytes, extra_us: int) -> None:
        network = self._network
        now_us = self.host.now_us()
        at_us = now_us + network.delay(self.host.name, self.other.host.name) + extra_us
        self._arrives_us = at_us = max(at_us, self._arrives_us)
        self._flight.append((at_us, data))
        self._flight_bytes += len(data)
        if len(self._flight) == 1:
            network.world.at(at_us, self._arrive)

    def _arrive(self) -> None:
        """The first piece that is under way arrives, unless something is in its way."""
        if not self._flight or self.error is not None:
            return
        network, world, other = self._network, self._network.world, self.other
        if network.is_cut(self.host.name, other.host.name) or not other.host.powered:
            self._wait_or_give_up()
            return
        self._stuck_since_us = None
        self._retry_us = _RETRY_US
        self.acknowledged_us = world.now_us
        if other.error is not None or not other.stands:
            self._flight.clear()
            if self.stands:
                self.fail(errno.ECONNRESET)
            return
        _, data = self._flight.popleft()
        self._flight_bytes -= len(data)
        network.trace_bytes(other, data)
        if data:
            other.unread += data
        else:
            other.eof = True
        other.readable()
        if self._flight:
            world.at(max(self._flight[0][0], world.now_us), self._arrive)

    def _wait_or_give_up(self) -> None:
        now_us = self._network.world.now_us
        if self._stuck_since_us is None:
            self._stuck_since_us = now_us
        if now_us - self._stuck_since_us >= _GIVE_UP_US:
            self._flight.clear()
            if self.stands:
                self._network.counts["connection given up"] += 1
                self.fail(errno.ETIMEDOUT)
            return
        self._network.world.after(self._retry_us, self._arrive)
        self._retry_us = min(2 * self._retry_us, _RETRY_MAX_US)

    def receive(self, count: int) -> bytes:
        """Take up to `count` bytes that have arrived. `OSError`: the connection is broken."""
        if self.error is not None:
            raise self.error
        data = bytes(self.unread[:count])
        del self.unread[:count]
        if self.other.wants_room:
            self.other.wants_room = False
            back_us = self._network.delay(self.host.name, self.other.host.name)
            self._network.world.after(back_us, self.other._offer_room)  # noqa: SLF001  the same connection
        return data

    def _offer_room(self) -> None:
        if self.stands and self.error is None:
            self.writable()

    def close(self) -> None:
        """Close this end, as a process does: what was sent arrives, unless something here was not read."""
        if self.closed:
            return
        self.closed = True
        if self.error is None:
            if self.unread:
                self.break_off()
            else:
                self._fly(_FIN, 0)

    def break_off(self) -> None:
        """Let the other end hear of a reset."""
        self._flight.clear()
        delay_us = self._network.delay(self.host.name, self.other.host.name)
        self._network.world.after(delay_us, self.other.fail, errno.ECONNRESET)

    def fail(self, number: int) -> None:
        """The connection is broken, as this end learns now."""
        if self.error is None:
            self.error = OSError(number, os.strerror(number))
            self.unread.clear()
            self._flight.clear()
            if self.stands:
                self.readable()


def _ignore() -> None:
    """Nobody listens yet."""


class Listening(Protocol):
    """A port on which a process listens."""

    host: Host

    @property
    def stands(self) -> bool:
        """Whether its process lives and has not closed it."""
        ...

    def queue(self, end: End) -> None:
        """A connection waits to be accepted."""
        ...


class Caller(msgspec.Struct):
    """The process that opens a connection, and what is to happen when it stands, or is refused (None)."""

    host: Host
    name: Address
    life: int
    answer: Callable[[End | None], None]
    is_over: Callable[[], bool]
    """Whether nobody waits for the answer."""


class Network:
    """All hosts and connections of one run."""

    def __init__(self, world: World, rng: Random, options: SocketOptions) -> None:
        self.world = world
        self.rng = rng
        self.options = options
        self.listeners: dict[Address, Listening] = {}
        self.hosts: dict[str, Host] = {}
        self.counts: Counter[str] = Counter()
        self.cut: set[tuple[str, str]] = set()
        """(source, destination) of links that carry nothing now."""
        self.delay_min_us = 100
        self.delay_mean_us = 200
        self.ends: list[End] = []
        """Both ends of all connections that stand, one after the other."""
        self.trace_bytes: Callable[[End, bytes], None] = lambda _end, _data: None
        self._ports = _EPHEMERAL

    def is_cut(self, source: str, to: str) -> bool:
        """Return whether nothing gets from one host to another."""
        return (source, to) in self.cut

    def delay(self, source: str, to: str) -> int:
        """Draw how long a packet takes."""
        if source == to:
            return 1
        return self.delay_min_us + int(self.rng.expovariate(1 / self.delay_mean_us)) + 1

    def knock(
        self, host: Host, to: Address, answer: Callable[[End | None], None], is_over: Callable[[], bool]
    ) -> None:
        """Begin to open a connection from a host to an address."""
        self._ports += 1
        caller = Caller(host, (host.name, self._ports), host.life, answer, is_over)
        self.world.after(self.delay(host.name, to[0]), self._arrive, caller, to)

    def _arrive(self, caller: Caller, to: Address) -> None:
        """The first packet of a connection arrives, or does not."""
        host, name = self.hosts.get(to[0]), caller.name
        if caller.is_over() or caller.host.life != caller.life:
            return
        gone = host is None or not host.powered
        if gone or self.is_cut(name[0], to[0]) or self.is_cut(to[0], name[0]):
            self.world.after(_SYN_RETRY_US, self._arrive, caller, to)
            return
        assert host is not None
        back_us = self.delay(to[0], name[0])
        listener = self.listeners.get(to)
        if listener is None or not listener.stands:
            self.world.after(back_us, _tell, caller, None)
            return
        if self.options.accept_delay and self.rng.random() < self.options.accept_delay:
            self.counts["connected late"] += 1
            back_us += self.rng.randrange(self.options.accept_delay_max_us)
        ours, theirs = End(self, caller.host, name), End(self, host, to)
        ours.other, theirs.other = theirs, ours
        self.ends = [end for end in self.ends if end.stands]
        self.ends += [ours, theirs]
        listener.queue(theirs)
        self.world.after(back_us, _tell, caller, ours)

    def process_ended(self, host: Host) -> None:
        """The kernel closes what a process had open; without power nothing is said. Called before it ends."""
        for end in self.ends:
            if end.host is host and end.stands:
                if host.powered:
                    end.close()
                else:
                    end.closed = True
        for address, listener in list(self.listeners.items()):
            if listener.host is host:
                del self.listeners[address]

    def reset(self, first: str, second: str) -> None:
        """Break all connections between two hosts; what was under way is lost."""
        for end in self.ends:
            if end.stands and {end.host.name, end.other.host.name} == {first, second}:
                end.fail(errno.ECONNRESET)


def _tell(caller: Caller, end: End | None) -> None:
    if caller.host.life == caller.life:
        caller.answer(end)
