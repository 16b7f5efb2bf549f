"""The simulated network: messages between members are datagrams, connections of clients are streams.

Between members a message may be lost, duplicated, delayed, overtaken or damaged. As in
production, a damaged one has a wrong checksum and is dropped. A client's connection keeps order and loses
nothing until it breaks.

A *link* is directed. It is *cut* (silently loses everything) or *clogged* (holds everything back until a
moment). Rules of this file: every choice comes from the network's own stream; every effect of a fault is
counted.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import msgspec
from xxhash import xxh3_64_intdigest

from viewstamp.core.ids import NodeId
from viewstamp.sim.world.options import NetworkOptions
from viewstamp.sim.world.world import World

Endpoint = int
"""A member's NodeId (0 or more), or a client's number below zero."""
Link = tuple[Endpoint, Endpoint]

RECENT_MAX: Final = 400
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class Network:
    """Carries messages between members, and says how long those of clients take."""

    __slots__ = (
        "_clogged",
        "_cut",
        "_cuts",
        "_decode",
        "_delay_rate",
        "_options",
        "_random",
        "_recent",
        "_rng",
        "_world",
        "counts",
        "deliver",
        "intercept",
        "sent_bytes",
    )

    def __init__(
        self,
        world: World,
        rng: Random,
        options: NetworkOptions,
        message_type: Any,
        deliver: Callable[[NodeId, NodeId, Any], None],
    ) -> None:
        """Hand each message that arrives to `deliver(source, to, message)`."""
        self._world = world
        self._rng = rng
        self._random = rng.random
        self._decode = msgspec.msgpack.Decoder(message_type).decode
        self.deliver = deliver
        """Hands a message over, now."""
        self.intercept: Callable[[NodeId, NodeId, Any], bool] | None = None
        """Called with each message between members; True: the network does not carry it."""
        self._cut: set[Link] = set()
        """All of `_cuts` together."""
        self._cuts: dict[str, set[Link]] = {}
        self._clogged: dict[Link, int] = {}
        self._recent: deque[tuple[NodeId, NodeId, Any]] = deque(maxlen=RECENT_MAX)
        """The last messages between members."""
        self.counts: Counter[str] = Counter()
        """How often each fault had an effect, and how many messages there were."""
        self.sent_bytes = 0
        """Bytes of the messages that went through the encoder; all of them where `encode` is 1."""
        self.configure(options)

    @property
    def recent(self) -> Sequence[tuple[NodeId, NodeId, Any]]:
        """The last messages between members: (source, to, message)."""
        return self._recent

    @property
    def stalls(self) -> bool:
        """Whether connections between members stall when they were cut."""
        return self._options.stalls

    def configure(self, options: NetworkOptions) -> None:
        """Treat messages like this from now on."""
        self._options = options
        self._delay_rate = 1.0 / max(1, options.delay_mean_us)

    def send(self, source: NodeId, to: NodeId, message: Any) -> None:
        """Carry a message from member to member, with the faults of today's options."""
        options, chance = self._options, self._random
        self.counts["messages"] += 1
        if self.intercept is not None and self.intercept(source, to, message):
            return
        if (source, to) in self._cut:
            self.counts["cut off"] += 1
            return
        if options.loss and chance() < options.loss:
            self.counts["lost"] += 1
            return
        if chance() < options.encode:
            message = self._through_the_wire(message)
            if message is None:
                return
        self._recent.append((source, to, message))
        self._world.at(self._arrival(source, to), self.deliver, source, to, message)
        if options.duplication and chance() < options.duplication:
            self.counts["duplicated"] += 1
            self._world.at(self._arrival(source, to), self.deliver, source, to, message)
        if options.echo and chance() < options.echo:
            self.counts["echoed"] += 1
            arrival = self._world.now_us + self._rng.randrange(options.echo_max_us)
            self._world.at(arrival, self.deliver, source, to, message)

    def repeat(self, source: NodeId, count: int) -> None:
        """Deliver copies of this member's last `count` messages, in any order, where nothing is cut."""
        recent = [sent for sent in self._recent if sent[0] == source][-count:]
        for _, to, message in recent:
            if (source, to) not in self._cut:
                self.counts["echoed"] += 1
                self._world.at(self._arrival(source, to), self.deliver, source, to, message)

    def cut(self, links: set[Link], by: str = "partition") -> None:
        """Cut exactly these links; other links that were cut by the same one carry again."""
        self._cuts[by] = links
        self._cut = set().union(*self._cuts.values())

    def heal(self) -> None:
        """Let every link carry again."""
        self._cuts.clear()
        self._cut = set()

    def is_cut(self, source: Endpoint, to: Endpoint) -> bool:
        """Return whether nothing gets from one to the other."""
        return (source, to) in self._cut

    def clog(self, source: Endpoint, to: Endpoint, until_us: int) -> None:
        """Hold back what goes over this link until then."""
        self._clogged[source, to] = until_us

    def unclog(self) -> None:
        """Let every link flow. What was held back still arrives when it was to arrive."""
        self._clogged.clear()

    def delay(self, source: Endpoint, to: Endpoint) -> int:
        """Return how long a message over this link takes now, in microseconds."""
        return self._arrival(source, to) - self._world.now_us

    def perhaps_damaged(self, data: bytes) -> bytes:
        """Return bytes of a stream as they arrive: with a wrong bit, now and then."""
        if not self._options.corruption or self._random() >= self._options.corruption:
            return data
        self.counts["damaged"] += 1
        return self._damage(data)

    def _damage(self, data: bytes) -> bytes:
        damaged = bytearray(data)
        bit = self._rng.randrange(len(data) * 8)
        damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    def _arrival(self, source: Endpoint, to: Endpoint) -> int:
        options, now = self._options, self._world.now_us
        arrival = now + options.delay_min_us + int(self._rng.expovariate(self._delay_rate))
        if options.late and self._random() < options.late:
            self.counts["late"] += 1
            arrival += self._rng.randrange(options.late_max_us)
        if self._clogged:
            until = self._clogged.get((source, to), 0)
            if until > arrival:
                self.counts["clogged"] += 1
                return until + self._rng.randrange(1_000)
        return arrival

    def _through_the_wire(self, message: Any) -> Any:
        """Encode, perhaps damage, and decode. None: it was damaged, and that was noticed."""
        payload = _ENCODE(message)
        self.sent_bytes += len(payload)
        if self._options.corruption and self._random() < self._options.corruption:
            assert xxh3_64_intdigest(self._damage(payload)) != xxh3_64_intdigest(payload)
            self.counts["damaged"] += 1
            return None
        return self._decode(payload)
