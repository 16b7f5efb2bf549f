"""What clients send, as bytes, to replicas that apply it on every path: none may differ from the others.

An input is a sequence of messages, each behind its length in two bytes. The first byte says after how many of
them one replica goes on from a snapshot.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from tests.border.machines import Branch
from tests.border.paths import Paths
from viewstamp.core.messages import Identify, OpenSession, client_number, encode_message
from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.sim.workloads.hostile_frames import CallGrammar
from viewstamp.testkit.hostile_wire import secret_of

SECRETS: Final = tuple(map(secret_of, (1, 2, 77)))
CLIENTS: Final = tuple(map(client_number, SECRETS))
MESSAGES_MAX: Final = 48


class Tangled(StateMachine):
    """Takes and returns what nests, and recurses as deep as it is told."""

    kept: list[Any] = []  # noqa: RUF012  copied for each instance
    total: int = 0

    @command
    def keep(self, value: Any) -> Any:
        """Keep a value of any form."""
        self.kept = [*self.kept[-7:], value]
        return value

    @command
    def weigh(self, tree: Branch) -> int:
        """Recurse over an argument."""
        self.total += _weigh(tree)
        return self.total

    @command
    def descend(self, depth: int) -> int:
        """Recurse without one."""
        self.total += _descend(min(depth, 5_000))
        return self.total

    @command
    def build(self, depth: int) -> Any:
        """Return something nested."""
        value: Any = self.total
        for _ in range(min(depth, 2_000)):
            value = [value]
        return value

    @query
    def read(self) -> Any:
        """Return everything."""
        return self.kept


def _weigh(tree: Branch) -> int:
    return 1 + sum(_weigh(child) for child in tree.children)


def _descend(depth: int) -> int:
    return 0 if depth <= 0 else 1 + _descend(depth - 1)


def messages_of(data: bytes) -> Iterator[bytes]:
    """Yield the messages of an input; the last may be cut off."""
    start = 1
    while start + 2 <= len(data):
        end = start + 2 + int.from_bytes(data[start : start + 2], "big")
        yield data[start + 2 : end]
        start = end


def play(machine: type[StateMachine], data: bytes) -> None:
    """Let replicas apply what these messages lead to; they must not differ, and must not stop."""
    paths = Paths(machine)
    restore_after = 1 + data[0] % 16 if data else 1
    for number, payload in enumerate(islice(messages_of(data), MESSAGES_MAX), start=1):
        paths.send(payload)
        if number % restore_after == 0:
            paths.restore()
    differences = paths.differences()
    assert not differences, differences


def seeds(machine: type[StateMachine], seed: int) -> Iterator[bytes]:
    """Yield sequences of the grammar's messages, after sessions have been opened."""
    facts = {
        "client": CLIENTS,
        "secret": SECRETS,
        "session": [0, *(n << 20 for n in range(1, 4))],
        "sequence": range(1, 9),
    }
    grammar = CallGrammar(seed, machine, facts=facts)
    opening = [
        encode_message(message)
        for client, secret in zip(CLIENTS, SECRETS, strict=True)
        for message in (Identify(client, secret), OpenSession(client))
    ]
    count = 0
    while True:
        count += 1
        payloads = [*opening, *(frame.payload for frame in grammar.frames(10))]
        yield bytes((count % 16,)) + b"".join(
            len(payload).to_bytes(2, "big") + payload for payload in payloads if len(payload) < 1 << 12
        )
