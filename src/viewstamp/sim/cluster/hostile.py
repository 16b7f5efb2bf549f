"""A client that means harm, in a simulated cluster: frames of the grammar, decoded and fed as a server would.

It has connections of its own and clients of its own, whose secrets it shows, and it knows the numbers of the
honest clients. Whatever it does, the judge's invariants hold and the
honest clients' history is linearizable. Calls that would be ordinary writes are left to the honest clients:
the model by which a history is judged knows only those.
"""

from random import Random
from typing import Any, Final

import msgspec

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import ClientAddress, NodeId
from viewstamp.core.messages import (
    SECRET_BYTES,
    UNREADABLE,
    AdminRequest,
    ClientMessage,
    Identify,
    Submit,
    client_number,
    decode_client_message,
    encode_message,
)
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.events import ClientGone, Requested
from viewstamp.sim.cluster.cluster import Cluster
from viewstamp.sim.workloads.hostile_frames import CallGrammar
from viewstamp.sim.workloads.hostile_values import Facts

_NUMBERS: Final = 5
_SESSIONS_GUESSED: Final = 400
_LEAVES_ONE_IN: Final = 50
_US_PER_S: Final = 1_000_000
_LEAPING: Final = ("term", "epoch", "view")
_FORGED: Final = (1 << 41, 1 << 52)


class Forger:
    """Poses as a member: sends what members sent a moment ago, with a number far beyond what anybody reached.

    A cluster that takes one of them has no higher number left for its elections.
    """

    def __init__(self, cluster: Cluster, messages_per_s: float) -> None:
        self._cluster = cluster
        self._rng: Random = cluster.tree.stream("forger")
        self._rate = messages_per_s / _US_PER_S
        self.stopped = not messages_per_s
        """Whether it sends nothing more."""

    def begin(self) -> None:
        """Send the first message after a while, and then one after the other; none where the rate is 0."""
        if not self.stopped:
            self._cluster.world.after(1 + round(self._rng.expovariate(self._rate)), self._send)

    def _send(self) -> None:
        if self.stopped:
            return
        self.begin()
        cluster, network = self._cluster, self._cluster.network
        recent = network.recent
        if not recent or not cluster.running:
            return
        source, _, message = self._rng.choice(recent)
        to = self._rng.choice(cluster.running)
        forged = with_leap(message, self._rng.randrange(*_FORGED))
        # A node with nothing of its own has to believe what the others have come to.
        replica = cluster.processes[to].replica
        if forged is not None and to != source and replica is not None and replica.view > 0:
            cluster.counts["forged message"] += 1
            network.deliver(source, to, forged)


def with_leap(message: Any, by: int) -> Any | None:
    """Return the message with its term, epoch, view or ballot raised by this; None: it has none."""
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if name in _LEAPING and type(value) is int:
            return msgspec.structs.replace(message, **{name: value + by})
        if name == "ballot":
            return msgspec.structs.replace(
                message, ballot=msgspec.structs.replace(value, number=value.number + by)
            )
    return None


class HostileClient:
    """Sends frames to every server that runs, until it is told to stop."""

    def __init__(self, cluster: Cluster, frames_per_s: float) -> None:
        self._cluster = cluster
        self._rng: Random = cluster.tree.stream("hostile")
        self._rate = frames_per_s / _US_PER_S
        self._decode_command = MachineDefinition.of(cluster.workload.machine).decoder("command")
        secrets = [self._rng.randbytes(SECRET_BYTES) for _ in range(_NUMBERS)]
        self._own = {client_number(secret): secret for secret in secrets}
        """Its own clients' secrets, by number."""
        honest = [client.core.number for client in cluster.clients.values()]
        facts: Facts = {
            "client": [*self._own, *honest],
            "secret": secrets,
            "session": [0, *(number << 20 for number in range(1, _SESSIONS_GUESSED))],
        }
        self._grammar = CallGrammar(self._rng.getrandbits(32), cluster.workload.machine, facts=facts)
        self._addresses: dict[NodeId, ClientAddress] = {}
        self.stopped = not frames_per_s
        """Whether it sends nothing more."""

    def begin(self) -> None:
        """Send the first frame after a while, and then one after the other; none where the rate is 0."""
        if not self.stopped:
            self._cluster.world.after(1 + round(self._rng.expovariate(self._rate)), self._send)

    def _send(self) -> None:
        if self.stopped:
            return
        self.begin()
        running = self._cluster.running
        if running:
            self._arrive(self._rng.choice(running), self._grammar.next().payload)

    def _arrive(self, node: NodeId, payload: bytes) -> None:
        try:
            message = decode_client_message(payload)
        except ProtocolViolation:
            self._cluster.counts["hostile violation"] += 1
            self._leave(node)
            return
        if isinstance(message, AdminRequest) or self._is_ordinary(message):
            return
        self._cluster.counts["hostile message"] += 1
        host = self._cluster.host
        if node not in self._addresses:
            self._addresses[node] = ClientAddress(next(host.addresses))
            for number, secret in self._own.items():
                self._feed(node, Identify(number, secret))
        host.judge.requested(node, message)
        self._cluster.processes[node].feed(Requested(self._addresses[node], message, payload))
        if not self._rng.randrange(_LEAVES_ONE_IN):
            self._leave(node)

    def _feed(self, node: NodeId, message: ClientMessage) -> None:
        arrived = Requested(self._addresses[node], message, encode_message(message))
        self._cluster.processes[node].feed(arrived)

    def _leave(self, node: NodeId) -> None:
        address = self._addresses.pop(node, None)
        if address is not None:
            self._cluster.processes[node].feed(ClientGone(address))

    def _is_ordinary(self, message: ClientMessage) -> bool:
        """Return whether a message holds a command that can be executed."""
        return isinstance(message, Submit) and any(self._can_be_executed(raw) for _, raw in message.calls)

    def _can_be_executed(self, raw: msgspec.Raw) -> bool:
        try:
            self._decode_command(raw)
        except UNREADABLE:
            return False
        return True
