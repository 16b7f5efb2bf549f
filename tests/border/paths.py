"""All the ways by which an entry comes to be applied, in one process and without a network.

The stack stands at another depth on each of them, as it does in a server: an own sync comes from a turn of
the driver, an acknowledgement from the transport, a replay from the start of the program.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from tests.border.machines import Fragile
from tests.replica.fakes import HERE, Bench, replies
from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import ORIGIN, ClientAddress
from viewstamp.core.messages import Results, ServerMessage, decode_client_message
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.events import Requested

T = TypeVar("T")
PATHS: Final = {"own sync": 0, "acknowledgement": 23, "follower": 11, "replay": 3, "after a restore": 60}
"""How many frames deeper than the test each path begins: no two alike."""


def below(frames: int, action: Callable[[], T]) -> T:
    """Run an action with the stack so much deeper."""
    return action() if frames == 0 else below(frames - 1, action)


class Paths:
    """One leader whose entries are applied by every path, and the replicas that applied them."""

    def __init__(self, machine: type[StateMachine] = Fragile) -> None:
        self.benches = {path: Bench(machine) for path in PATHS}
        self._machine = machine
        self.refusals: list[str] = []

    @property
    def leader(self) -> Bench:
        """The one that clients talk to: it applies by its own sync."""
        return self.benches["own sync"]

    def send(self, payload: bytes, source: ClientAddress = HERE) -> list[ServerMessage]:
        """Let a client send these bytes; apply everywhere what that enters into the log."""
        first = len(self.leader.core.held)
        self.leader.core.holding = True
        try:
            message = decode_client_message(payload)
        except ProtocolViolation as violation:
            self.refusals.append(str(violation))
            return []
        effects = self.leader.step(Requested(source, message, payload))
        effects += self.leader.wake()
        for data in self.leader.core.held[first:]:
            effects += self._apply(data)
        return replies(effects)

    def _apply(self, data: bytes) -> list[Any]:
        effects: list[Any] = []
        for path, bench in self.benches.items():

            def apply(bench: Bench = bench) -> list[Any]:
                return bench.feed(bench.core.entry(data))

            try:
                out = below(PATHS[path], apply)
            except (KeyboardInterrupt, MemoryError) as error:
                raise AssertionError(f"{path}: a command ended the node by {error!r}") from None
            effects += out if bench is self.leader else []
        return effects

    def restore(self) -> None:
        """Let one replica go on from the leader's snapshot."""
        if self.leader.replica.applied == ORIGIN:
            return
        snapshot = self.leader.save()
        restored = Bench(self._machine, snapshot=snapshot)
        self.benches["after a restore"] = restored

    def differences(self) -> list[str]:
        """Return, for each path that ended in another state than the leader, what differs."""
        found = [
            f"{path}: {bench.replica.halted}" for path, bench in self.benches.items() if bench.replica.halted
        ]
        if found:
            return found
        states = {path: state_of(bench) for path, bench in self.benches.items()}
        return [f"{path} differs" for path, state in states.items() if state != states["own sync"]]


def state_of(bench: Bench) -> tuple[object, ...]:
    """Return everything that must be equal on all replicas."""
    replica = bench.replica
    return replica.applied, replica.digest, bench.save().body


def results(messages: list[ServerMessage]) -> list[tuple[int, Any]]:
    """Return (kind, decoded payload) of each line."""
    return [
        (kind, _shown(payload))
        for message in messages
        if isinstance(message, Results)
        for _, kind, payload in message.results
    ]


def _shown(payload: msgspec.Raw) -> Any:
    try:
        return msgspec.msgpack.decode(payload)
    except RecursionError:
        return bytes(payload)[:20]
