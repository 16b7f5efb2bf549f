"""Three replicas (or more) of the stock store that pass messages in memory, in virtual time: no wire or disk.

What it costs is what `replica` and the protocol cost, and nothing else.
"""

from collections import deque
from random import Random
from typing import Any

import msgspec

from viewstamp.core.effects import Persist, Send
from viewstamp.core.events import PeerUp, Persisted, Woke
from viewstamp.core.ids import ClientAddress, Incarnation, Instant, NodeId
from viewstamp.core.messages import (
    Identify,
    OpenSession,
    QueryRequest,
    SessionOpened,
    Submit,
    client_number,
    encode_message,
)
from viewstamp.core.protocol import Recovered
from viewstamp.protocols.registry import protocol_definition
from viewstamp.replica.divergence import peer_event
from viewstamp.replica.events import ReplicaEvent, Requested, Respond
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.replica import Replica
from viewstamp.replica.setup import ReplicaSetup
from viewstamp.services.kv import KeyValueStore

MEMBERS = 3
SECRET = b"77" * 8
CLIENT = client_number(SECRET)
HERE = ClientAddress(5)
STARTS_WITHIN_US = 30_000_000


class Trio:
    """Bootstrapped, with a leader and an open session, when it is made."""

    def __init__(self, protocol: str, members: int = MEMBERS) -> None:
        self._nodes = tuple(NodeId(number) for number in range(1, members + 1))
        self.now = Instant(0)
        self.answers: list[Any] = []
        self._events: deque[tuple[NodeId, ReplicaEvent]] = deque()
        self._replicas = {node: self._replica(node, protocol) for node in self._nodes}
        for node in self._nodes:
            self._events.extend((node, PeerUp(other)) for other in self._nodes if other != node)
        self._sequence = 0
        self.leader = self._first_leader()
        self._events.append((self.leader, Requested(HERE, Identify(CLIENT, SECRET), b"")))
        opened = self._request(OpenSession(CLIENT))
        assert isinstance(opened, SessionOpened)
        self._session = opened.session

    def _replica(self, node: NodeId, protocol: str) -> Replica:
        definition = protocol_definition(protocol)
        setup = ReplicaSetup(
            node=node,
            members=self._nodes,
            incarnation=Incarnation(node),
            definition=definition,
            protocol_options=definition.options_type(),
            options=ReplicaOptions(),
            machine=KeyValueStore,
            rng=Random(node),
            recovered=Recovered(),
            now=self.now,
        )
        return Replica(setup)

    def submission(self, commands: list[bytes]) -> tuple[Submit, bytes]:
        """Return a message with the session's next commands, and the message encoded."""
        first, self._sequence = self._sequence + 1, self._sequence + len(commands)
        calls = [(first + at, msgspec.Raw(command)) for at, command in enumerate(commands)]
        message = Submit(CLIENT, self._session, first - 1, calls)
        return message, encode_message(message)

    def submit(self, commands: list[bytes]) -> None:
        """Have commands executed; return when they are answered."""
        before = len(self.answers)
        message, encoded = self.submission(commands)
        self._events.append((self.leader, Requested(HERE, message, encoded)))
        self._run_until(before + 1)

    def ask(self, queries: list[bytes]) -> None:
        """Have linearizable queries evaluated; return when they are answered."""
        before = len(self.answers)
        first, self._sequence = self._sequence + 1, self._sequence + len(queries)
        calls = [(first + at, msgspec.Raw(query)) for at, query in enumerate(queries)]
        message = QueryRequest(CLIENT, "linearizable", calls)
        self._events.append((self.leader, Requested(HERE, message, encode_message(message))))
        self._run_until(before + 1)

    def _request(self, message: Any) -> Any:
        before = len(self.answers)
        self._events.append((self.leader, Requested(HERE, message, encode_message(message))))
        self._run_until(before + 1)
        return self.answers[before]

    def _run_until(self, answers: int) -> None:
        while len(self.answers) < answers:
            self._round()

    def _round(self) -> None:
        """Hand over what is under way; where nothing is, let time pass until the next deadline."""
        if not self._events:
            deadlines = [each.deadline for each in self._replicas.values() if each.deadline is not None]
            self.now = max(self.now, min(deadlines))
        for _ in range(len(self._events)):
            self._step(*self._events.popleft())
        for node, replica in self._replicas.items():
            deadline = replica.deadline
            if deadline is not None and deadline <= self.now:
                self._step(node, Woke())

    def _step(self, node: NodeId, event: ReplicaEvent) -> None:
        for effect in self._replicas[node].step(event, self.now):
            if isinstance(effect, Send):
                assert isinstance(effect.to, int)
                self._events.append((NodeId(effect.to), peer_event(node, effect.message)))
            elif isinstance(effect, Persist):
                self._events.append((node, Persisted(effect.seq)))
            elif isinstance(effect, Respond):
                self.answers.append(effect.message)

    def _first_leader(self) -> NodeId:
        while self.now < STARTS_WITHIN_US:
            self._round()
            for node, replica in self._replicas.items():
                status = replica.status(self.now)
                if (
                    replica.leader == node
                    and not status.waiting_for
                    and len(status.members) == len(self._nodes)
                ):
                    return node
        raise AssertionError("nobody leads")
