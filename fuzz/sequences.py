"""Sequences of events for a protocol core, as bytes: what a fuzzer mutates is a whole conversation.

The first byte chooses the node. Then come events, each of one byte (what it is), two bytes (a length) and a
payload. Three honest cores that talk to each other make the first sequences, so a fuzzer begins where leaders
have been elected and entries committed.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final

import msgspec

from viewstamp.core.effects import Apply, Capture, Effect, Persist, Restore, Send, Stage
from viewstamp.core.events import (
    Captured,
    Directed,
    DirectiveToken,
    Event,
    PeerDown,
    PeerUp,
    Persisted,
    Proposed,
    Queried,
    ReadToken,
    Received,
    Staged,
    TakeSnapshot,
    TransferLeadership,
    Woke,
)
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq
from viewstamp.core.messages import UNREADABLE
from viewstamp.core.protocol import CoreSetup, ProtocolDefinition, Recovered
from viewstamp.core.snapshots import BytesSnapshot, Snapshot

MEMBERS: Final = (NodeId(1), NodeId(2), NodeId(3))
FROM_NEXT, FROM_OTHER, WAKE, PROPOSE, QUERY, CONNECTION, DIRECT, SYNC = range(8)
OPERATIONS: Final = 8
_SECOND_US: Final = 1_000_000
EVENTS_MAX: Final = 400
_ENCODE: Final = msgspec.msgpack.Encoder().encode


def incarnation_of(node: int) -> Incarnation:
    """Return the incarnation that a node of these tests has."""
    return Incarnation(10 + node)


def packed(operation: int, payload: bytes = b"") -> bytes:
    """Return one event of a sequence."""
    return bytes((operation,)) + len(payload).to_bytes(2, "big") + payload


def unpacked(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the events of a sequence; what is cut off at its end is not one."""
    start = 1
    while start + 3 <= len(data):
        end = start + 3 + int.from_bytes(data[start + 1 : start + 3], "big")
        yield data[start] % OPERATIONS, data[start + 3 : end]
        start = end


class Player:
    """One core with a disk that obeys."""

    def __init__(self, definition: ProtocolDefinition, node: int) -> None:
        self.node = NodeId(node)
        self.now = Instant(_SECOND_US)
        options = definition.options_type()
        self.core = definition.make_core(
            CoreSetup(
                node=self.node,
                members=MEMBERS,
                incarnation=incarnation_of(node),
                rng=Random(node),
                options=options,
                recovered=Recovered(),
                now=self.now,
            )
        )
        self.decode = msgspec.msgpack.Decoder(definition.message_type).decode
        self.sent: deque[tuple[NodeId, bytes]] = deque()
        self.persisted: PersistSeq | None = None
        self.writes: list[tuple[bytes, ...]] = []
        """Its journal."""
        self.applied = 0
        self.tokens = 0
        self._staged = bytearray()
        self._due: deque[Event] = deque()

    def play(self, data: bytes) -> None:
        """Feed a whole sequence."""
        for count, (operation, payload) in enumerate(unpacked(data)):
            if count == EVENTS_MAX:
                return
            self.do(operation, payload)

    def do(self, operation: int, payload: bytes) -> None:
        """Feed one event of a sequence; one that is none is ignored, as the runtime would."""
        event = self._event(operation, payload)
        if event is not None:
            self.feed(event)

    def feed(self, event: Event) -> None:
        """Feed an event and what follows from its effects."""
        self._due.append(event)
        while self._due:
            for effect in self.core.step(self._due.popleft(), self.now):
                self._carry_out(effect)

    def _event(self, operation: int, payload: bytes) -> Event | None:
        self.tokens += 1
        if operation in {FROM_NEXT, FROM_OTHER}:
            return self._message(MEMBERS[(self.node + operation) % 3], payload)
        if operation == WAKE:
            deadline = self.core.deadline
            self.now = max(self.now, Instant(self.now + 1_000) if deadline is None else deadline)
            return Woke()
        if operation == PROPOSE:
            return Proposed(payload) if self.core.accepting else None
        if operation == QUERY:
            return Queried(ReadToken(self.tokens))
        if operation == CONNECTION:
            peer = MEMBERS[(self.node + len(payload) % 2) % 3]
            return PeerUp(peer) if len(payload) % 4 < 2 else PeerDown(peer)
        if operation == DIRECT:
            peer = MEMBERS[len(payload) % 3]
            directive = TransferLeadership(peer) if len(payload) % 2 else TakeSnapshot()
            return Directed(DirectiveToken(self.tokens), directive)
        return self._synced()

    def _message(self, source: NodeId, payload: bytes) -> Event | None:
        try:
            return Received(source, self.decode(payload))
        except UNREADABLE:
            return None

    def _synced(self) -> Event | None:
        seq, self.persisted = self.persisted, None
        return None if seq is None else Persisted(seq)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(to, message):
                self.sent.append((to, _ENCODE(message)))
            case Persist(seq, records):
                self.persisted = seq
                self.writes.append(records)
            case Apply(entry):
                assert entry.viewstamp.seqno == self.applied + 1, (entry.viewstamp, self.applied)
                self.applied = entry.viewstamp.seqno
            case Capture(token, viewstamp, header):
                self._due.append(Captured(token, BytesSnapshot(viewstamp, header, b"body")))
            case Stage():
                self._stage(effect)
            case Restore(snapshot):
                assert snapshot.meta.viewstamp.seqno >= self.applied, "a machine never goes back"
                self.applied = snapshot.meta.viewstamp.seqno
            case _:
                pass

    def _stage(self, stage: Stage) -> None:
        if stage.offset == 0:
            self._staged = bytearray()
        assert stage.offset == len(self._staged), "pieces of a snapshot are staged in order"
        self._staged += stage.data
        if len(self._staged) >= stage.meta.size_bytes:
            made = BytesSnapshot(stage.meta.viewstamp, stage.meta.header, bytes(self._staged))
            snapshot: Snapshot | None = made if made.meta == stage.meta else None
            self._due.append(Staged(stage.token, snapshot))


def operation_from(source: int, node: int) -> int:
    """Return by which operation a message of `source` reaches `node`."""
    return FROM_NEXT if MEMBERS[(node + FROM_NEXT) % 3] == source else FROM_OTHER


def conversation(definition: ProtocolDefinition, rounds: int = 60) -> list[bytes]:
    """Return what each of three honest cores is fed while they elect a leader and order some entries."""
    players = {node: Player(definition, node) for node in MEMBERS}
    scripts = {node: bytearray((node - 1,)) for node in MEMBERS}

    def do(node: NodeId, operation: int, payload: bytes = b"") -> None:
        scripts[node] += packed(operation, payload)
        players[node].do(operation, payload)

    for turn in range(rounds):
        for node, player in players.items():
            if player.core.accepting:
                do(node, PROPOSE, b"entry %d" % turn)
                do(node, QUERY)
            elif turn == 2 and definition.decided_by == "operator" and node == 1:
                do(node, DIRECT, b"x" * 3)
            do(node, WAKE)
            do(node, SYNC)
        _deliver(players, do)
    return [bytes(script) for script in scripts.values()]


def journals(definition: ProtocolDefinition) -> list[list[tuple[bytes, ...]]]:
    """Return what each of three honest cores wrote during a conversation."""
    found = []
    for script in conversation(definition):
        player = Player(definition, 1 + script[0] % 3)
        player.play(script)
        found.append(player.writes)
    return found


def _deliver(players: dict[NodeId, Player], do: Any) -> None:
    for _ in range(6):
        letters = [
            (node, *player.sent.popleft()) for node, player in players.items() for _ in list(player.sent)
        ]
        for source, to, payload in letters:
            if to in players and len(payload) < 1 << 16:
                do(to, operation_from(source, to), payload)
        for node in players:
            do(node, SYNC)


def play(definition: ProtocolDefinition, data: bytes) -> None:
    """Feed a sequence to a fresh core: it must not raise, whatever the members say."""
    Player(definition, 1 + data[0] % 3 if data else 1).play(data)


def facts() -> dict[str, Sequence[object]]:
    """Return values by which hostile messages come near to what these nodes expect."""
    incarnations = [int(incarnation_of(node)) for node in MEMBERS]
    small = [0, 1, 2, 3, 4, 5]
    names = "term epoch view last_view previous_view hint_view matched_view election campaign attempt round"
    places = (
        "last_seqno previous_seqno committed matched_seqno refused_seqno hint_seqno seqno reached version"
    )
    return {
        **dict.fromkeys([*names.split(), *places.split()], small),
        "incarnation": incarnations,
        "to": incarnations,
        "group": [*incarnations, -1],
        "node": [1, 2, 3],
        "candidate": [1, 2, 3],
    }
