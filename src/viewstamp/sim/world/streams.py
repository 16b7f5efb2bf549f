"""Connections between members that behave like TCP, for protocols that take a broken one for a failure.

A stream keeps order and loses nothing while both ends live. What is sent to a server that is down is answered
by `PeerDown`, as a refused connection is; what was under way when an end died does not arrive.
"""

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any, Final

import msgspec

from viewstamp.core.events import PeerDown, Received
from viewstamp.core.ids import NodeId
from viewstamp.sim.world.network import Network
from viewstamp.sim.world.process import Process
from viewstamp.sim.world.world import World

_REFUSED_US: Final = 2_000


class Streams:
    """Every stream of one cluster."""

    def __init__(
        self,
        world: World,
        network: Network,
        processes: Mapping[NodeId, Process],
        rng: Random,
        message_type: Any,
        counts: Counter[str],
    ) -> None:
        self._world = world
        self._network = network
        self._processes = processes
        self._rng = rng
        self._counts = counts
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(message_type).decode
        self._arrives_us: dict[tuple[NodeId, NodeId], int] = {}
        """When the last message of a stream arrives: the next one not before."""

    def send(self, source: NodeId, to: NodeId, message: Any) -> None:
        """Carry a message, in order."""
        network, processes = self._network, self._processes
        network.counts["messages"] += 1
        if not processes[to].running:
            self._refuse(source, to)
            return
        delay = network.delay(source, to)
        arrives = max(self._arrives_us.get((source, to), 0), self._world.now_us + delay)
        self._arrives_us[source, to] = arrives
        lives = processes[source].life, processes[to].life
        copied = self._decode(self._encode(message))
        self._world.at(arrives, self._deliver, source, to, copied, lives)

    def _deliver(self, source: NodeId, to: NodeId, message: Any, lives: tuple[int, int]) -> None:
        processes = self._processes
        sender, receiver = processes[source], processes[to]
        if not sender.running or sender.life != lives[0]:
            return
        if receiver.running and receiver.life == lives[1]:
            receiver.feed(Received(source, message))
        else:
            self._counts["arrived at a stopped server"] += 1

    def _refuse(self, source: NodeId, to: NodeId) -> None:
        life = self._processes[source].life
        self._world.after(self._rng.randrange(1, _REFUSED_US), self._tell, source, to, life)

    def _tell(self, source: NodeId, to: NodeId, life: int) -> None:
        process = self._processes[source]
        if process.running and process.life == life and not self._processes[to].running:
            process.feed(PeerDown(to))
