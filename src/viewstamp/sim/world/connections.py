"""Connections between simulated servers: the link of production (`viewstamp.link`) in virtual time.

Each server dials each other one, says hello, is welcomed or refused, and dials again after the real back-off.
The bytes of the handshake travel in pieces, which may be damaged, held up, or be the last ones.

What travels after the welcome depends on the protocol:

- Where members always dial, decoded messages pass the network (`network.Network`), which is worse than TCP:
  it loses, duplicates and reorders. What is sent without a welcome is lost. A cut connection stays up, and
  what is sent over it is lost; it breaks when an end dies or is reset. Where connections may stall
  (`NetworkOptions.stalls`) it carries again only when TCP would send again, or its end has opened another.
- Where members dial on demand, the protocol takes a broken connection for a failure. Each message goes as
  bytes through both ends of the link, in order, and arrives unless an end dies.
"""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.events import PeerDown, PeerUp
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.link.acceptor import Acceptor, Greeted, Proved
from viewstamp.link.admission import Admitted, Claim, Entrance
from viewstamp.link.credentials import Trust
from viewstamp.link.dialer import Action, Challenged, Dialer, DialLimits, Welcomed
from viewstamp.link.framing import PEER
from viewstamp.link.handshake import Doorkeeper, Identity
from viewstamp.link.proof import KEY_BYTES, NONCE_BYTES, Prover, Secret
from viewstamp.replica.divergence import peer_event, peer_message_type
from viewstamp.replica.events import Announced
from viewstamp.sim.world.network import Network
from viewstamp.sim.world.process import CLUSTER_ID, Process
from viewstamp.sim.world.retransmission import Retransmission
from viewstamp.sim.world.world import World

LIMITS: Final = DialLimits(
    hello_bytes_max=4 << 10,
    frame_bytes_max=64 << 20,
    send_bytes_max=64 << 20,
    dial_timeout_ms=2_000,
    backoff_min_ms=20,
    backoff_max_ms=1_000,
)
"""As a server's defaults (`runtime.config.NodeConfig`), where connections do not stall."""
_SILENCE_MS: Final = 600
"""The same, where they do."""
_SECRET: Final = Secret(bytes(KEY_BYTES))
_HELLO_TIMEOUT_US: Final = 3_000_000
_NOTICE_US: Final = 3_000
_SYN_AGAIN_US: Final = 1_000_000
_RESEND_US: Final = 200_000
"""TCP sends again what a cut link has swallowed."""


class Link:
    """The connections from one life of a server to another server, one after the other."""

    __slots__ = (
        "acceptor",
        "armed_at",
        "arrives_us",
        "attempt",
        "claim",
        "dialer",
        "life",
        "retransmission",
        "source",
        "to",
        "to_life",
    )

    def __init__(self, source: NodeId, to: NodeId, life: int, dialer: Dialer) -> None:
        self.source = source
        self.to = to
        self.life = life
        self.dialer = dialer
        self.acceptor: Acceptor | None = None
        """The other end; None: there is no connection."""
        self.claim: Claim | None = None
        """What the other end was asked to prove."""
        self.to_life = 0
        """The life of the server that accepted."""
        self.attempt = 0
        """Grows with each connection: what was under way for an older one does not arrive."""
        self.arrives_us = 0
        """When the last bytes arrive: the next ones not before."""
        self.armed_at: int | None = None
        self.retransmission = Retransmission()
        """Of the connection that stands."""


class Connections:
    """Every connection between the servers of one cluster."""

    def __init__(
        self,
        world: World,
        network: Network,
        definition: ProtocolDefinition,
        processes: dict[NodeId, Process],
        rng: Random,
        counts: Counter[str],
    ) -> None:
        """`counts` takes how often each fault had an effect."""
        self._counts = counts
        self._world = world
        self._network = network
        self._processes = processes
        self._rng = rng
        self._on_demand = definition.dials == "on_demand"
        self._stalls = network.stalls and not self._on_demand
        self._limits = msgspec.structs.replace(LIMITS, silence_ms=_SILENCE_MS) if self._stalls else LIMITS
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(peer_message_type(definition.message_type)).decode
        addresses = {node: (f"node-{node}", 7000) for node in processes}
        self.identities = {
            node: Identity(
                cluster_id=CLUSTER_ID,
                protocol=definition.name,
                node=node,
                write_routing=definition.write_routing,
                addresses=addresses,
                address_of=addresses.get,
            )
            for node in processes
        }
        """What each server says of itself from its next start on."""
        self._doors: dict[NodeId, tuple[Doorkeeper, Entrance]] = {}
        self._drawn = 0
        self._links: dict[tuple[NodeId, NodeId], Link] = {}

    # What the cluster tells

    def started(self, node: NodeId) -> None:
        """A server came up: it dials the others."""
        process = self._processes[node]
        assert process.incarnation is not None
        door = Doorkeeper(self.identities[node])
        self._doors[node] = door, Entrance(door, CLUSTER_ID, Trust.SECRET, _SECRET, self._draw)
        for to in self._processes:
            if to == node:
                continue
            hello = door.greeting(to, process.incarnation)
            prover = Prover(_SECRET, hello, self._draw, process.incarnation, insists=True)
            dialer = Dialer(prover, PEER, self._limits, self._rng, on_demand=self._on_demand)
            link = self._links[node, to] = Link(node, to, process.life, dialer)
            if not self._on_demand:
                dialer.start(self._now)
                self._arm(link)

    def ended(self, node: NodeId) -> None:
        """A server went down: the others notice after a while, unless the network is cut."""
        for other in self._processes:
            self._links.pop((node, other), None)
            link = self._links.get((other, node))
            if link is not None and link.acceptor is not None and not self._is_cut(node, other):
                self._soon(self._lost, link, link.attempt, "it closed the connection")

    def reset(self, first: NodeId, second: NodeId) -> None:
        """Break the connections between two servers."""
        for pair in ((first, second), (second, first)):
            link = self._links.get(pair)
            if link is not None and link.acceptor is not None:
                self._soon(self._lost, link, link.attempt, "it was reset")

    def send(self, source: NodeId, to: NodeId, message: Any) -> None:
        """Carry a message of the protocol, or lose it where there is no connection."""
        link = self._links[source, to]
        if self._on_demand:
            self._send_bytes(link, self._encode(message))
        elif not link.dialer.is_up:
            self._counts["sent without a connection"] += 1
        elif not self._stands(link):
            self._counts["sent over a dead connection"] += 1
            if not self._is_cut(to, source):
                self._soon(self._lost, link, link.attempt, "it was reset")
        elif self._stalls and not link.retransmission.passes(self._now, is_cut=self._is_cut_at_all(link)):
            self._counts["sent over a stalled connection"] += 1
        else:
            self._network.send(source, to, message)

    def is_up(self, source: NodeId, to: NodeId) -> bool:
        """Return whether a server has been welcomed by another."""
        link = self._links.get((source, to))
        return link is not None and link.dialer.is_up

    def dials(self, source: NodeId, to: NodeId) -> int:
        """Return how often a server has dialled another in its present life."""
        return self._links[source, to].dialer.dials

    def _draw(self) -> bytes:
        """Return a number that is used once; a simulation has nobody who could foresee it."""
        self._drawn += 1
        return self._drawn.to_bytes(NONCE_BYTES, "big")

    # Dialling

    @property
    def _now(self) -> Instant:
        return Instant(self._world.now_us)

    def _arm(self, link: Link) -> None:
        """See to it that the dialer is looked at when its deadline has come."""
        deadline = link.dialer.deadline
        if deadline is not None and (link.armed_at is None or deadline < link.armed_at):
            link.armed_at = deadline
            self._world.at(deadline, self._advance, link, deadline)

    def _advance(self, link: Link, armed_at: int) -> None:
        if armed_at != link.armed_at:
            return
        link.armed_at = None
        if not self._lives(link):
            return
        action = link.dialer.advance(self._now)
        if action is Action.DIAL:
            self._dial(link, link.attempt)
        elif action is Action.LOOK:
            silent_us = link.retransmission.silent_us(self._now, is_cut=self._is_cut_at_all(link))
            action = link.dialer.looked(self._now, silent_us // 1000)
        if action is Action.HANG_UP:
            self._counts["dials given up"] += 1
            self._lost(link, link.attempt, "")
        self._arm(link)

    def _dial(self, link: Link, attempt: int) -> None:
        if attempt != link.attempt or not self._lives(link):
            return
        if self._is_cut_at_all(link):
            self._world.after(_SYN_AGAIN_US, self._dial, link, attempt)
        elif not self._processes[link.to].running:
            self._soon(self._lost, link, attempt, "connection refused")
        else:
            there, back = self._delay(link.source, link.to), self._delay(link.to, link.source)
            self._world.after(there + back, self._opened, link, attempt, self._processes[link.to].life)

    def _opened(self, link: Link, attempt: int, to_life: int) -> None:
        target = self._processes[link.to]
        if attempt != link.attempt or not self._lives(link):
            return
        if not target.running or target.life != to_life:
            self._lost(link, attempt, "connection refused")
            return
        link.to_life = to_life
        link.acceptor = Acceptor(LIMITS.hello_bytes_max, Instant(self._now + _HELLO_TIMEOUT_US))
        link.arrives_us = 0
        link.retransmission = Retransmission()
        link.dialer.opened(self._now)
        self._arm(link)
        self._carry(link, attempt, self._cut_up(link.dialer.out.take()), self._at_acceptor)

    def _lost(self, link: Link, attempt: int, reason: str) -> None:
        if attempt != link.attempt or not self._lives(link):
            return
        link.attempt += 1
        if link.acceptor is not None and (link.acceptor.in_frame or link.dialer.in_frame):
            self._counts["connections cut within a frame"] += 1
        link.acceptor = None
        is_news = link.dialer.lost(reason, self._now)
        self._arm(link)
        if is_news:
            self._processes[link.source].feed(PeerDown(link.to))

    # Bytes

    def _cut_up(self, data: bytes) -> list[bytes]:
        cut = self._rng.randrange(len(data))
        return [piece for piece in (data[:cut], data[cut:]) if piece]

    def _carry(
        self, link: Link, attempt: int, pieces: list[bytes], arrive: Callable[[Link, bytes], None]
    ) -> None:
        """Let bytes travel, one piece after the other."""
        if attempt != link.attempt or not self._lives(link) or not pieces:
            return
        if not self._stands(link):
            return  # the end that is left notices by itself
        ends = (link.source, link.to) if arrive == self._at_acceptor else (link.to, link.source)
        if self._is_cut(*ends):
            self._world.after(_RESEND_US, self._carry, link, attempt, pieces, arrive)
        else:
            self._world.after(self._delay(*ends), self._arrive, link, attempt, pieces, arrive)

    def _arrive(
        self, link: Link, attempt: int, pieces: list[bytes], arrive: Callable[[Link, bytes], None]
    ) -> None:
        if attempt != link.attempt or not self._lives(link) or not self._stands(link):
            return
        first, *rest = pieces
        try:
            arrive(link, self._network.perhaps_damaged(first))
        except ProtocolViolation as violation:
            self._counts["handshakes damaged"] += 1
            self._lost(link, attempt, str(violation))
        self._carry(link, attempt, rest, arrive)

    def _at_acceptor(self, link: Link, data: bytes) -> None:
        acceptor = link.acceptor
        assert acceptor is not None
        for event in acceptor.receive(data):
            if isinstance(event, Greeted):
                self._greet(link, acceptor, self._doors[link.to][1].on_hello(event, None))
            elif isinstance(event, Proved):
                claim, link.claim = link.claim, None
                assert claim is not None, "a proof answers a challenge"
                self._greet(link, acceptor, self._doors[link.to][1].on_proof(claim, event.proof))
            else:
                self._processes[link.to].feed(peer_event(link.source, self._decode(event)))

    def _greet(self, link: Link, acceptor: Acceptor, decided: Admitted | Claim | str) -> None:
        if isinstance(decided, str):
            acceptor.refuse(decided)
        elif isinstance(decided, Claim):
            link.claim = decided
            acceptor.challenge(decided.challenge.frame)
        else:
            hello = decided.hello
            said = Announced(link.source, hello.level.high, hello.machine.high, hello.interface)
            if (replica := self._processes[link.to].replica) is not None:
                replica.hear(said)
            acceptor.accept(
                self._doors[link.to][0].welcome, is_peer=True, frame_bytes_max=LIMITS.frame_bytes_max
            )
            backward = self._links.get((link.to, link.source))
            if backward is not None and not self._on_demand:
                backward.dialer.nudge(self._now)
                self._arm(backward)
        self._carry(link, link.attempt, self._cut_up(acceptor.out.take()), self._at_dialer)

    def _at_dialer(self, link: Link, data: bytes) -> None:
        attempt = link.attempt
        for event in link.dialer.receive(data):
            if isinstance(event, Welcomed):
                if link.dialer.out.parts:
                    self._flush(link)
                self._processes[link.source].feed(PeerUp(link.to))
            elif isinstance(event, Challenged):
                self._carry(link, attempt, self._cut_up(link.dialer.out.take()), self._at_acceptor)
            else:
                self._counts["hellos refused"] += 1
                self._lost(link, attempt, "")

    # On demand

    def _send_bytes(self, link: Link, payload: bytes) -> None:
        self._network.counts["messages"] += 1
        if link.dialer.is_up and self._stands(link):
            link.dialer.send(payload)
            self._flush(link)
        else:
            if link.dialer.is_up:
                self._lost(link, link.attempt, "it was reset")
            link.dialer.dial_for(payload, self._now)
            self._arm(link)

    def _flush(self, link: Link) -> None:
        """Let what waits travel, behind what is under way."""
        arrives = max(link.arrives_us, self._world.now_us + self._delay(link.source, link.to))
        link.arrives_us = arrives
        data = link.dialer.out.take()
        self._world.at(arrives, self._arrive, link, link.attempt, [data], self._at_acceptor)

    # Facts

    def _lives(self, link: Link) -> bool:
        source = self._processes[link.source]
        return source.running and source.life == link.life

    def _stands(self, link: Link) -> bool:
        target = self._processes[link.to]
        return link.acceptor is not None and target.running and target.life == link.to_life

    def _is_cut(self, source: NodeId, to: NodeId) -> bool:
        return not self._on_demand and self._network.is_cut(source, to)

    def _is_cut_at_all(self, link: Link) -> bool:
        """Return whether no acknowledgement can come over this connection."""
        return self._is_cut(link.source, link.to) or self._is_cut(link.to, link.source)

    def _delay(self, source: NodeId, to: NodeId) -> int:
        return self._network.delay(source, to)

    def _soon(self, action: Callable[..., None], *arguments: Any) -> None:
        self._world.after(self._rng.randrange(1, _NOTICE_US), action, *arguments)
