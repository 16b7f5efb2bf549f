"""A client core on a bench, and servers that are nothing but scripts."""

from random import Random
from typing import Any, Literal, TypeVar

import msgspec

from tests.replica.fakes import call
from viewstamp.core.effects import Send
from viewstamp.core.events import PeerDown, PeerUp, Received, Woke
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.messages import (
    NO_SESSION,
    REFUSED,
    RESULT,
    SECRET_BYTES,
    ClientMessage,
    Identify,
    KeepAlive,
    OpenSession,
    QueryRequest,
    Redirect,
    Results,
    ServerMessage,
    SessionOpened,
    Submit,
    client_number,
)
from viewstamp.replica.client.client import ClientCore
from viewstamp.replica.events import (
    CallId,
    ClientEffect,
    ClientEvent,
    Complete,
    CompleteAll,
    Deliver,
    Failed,
    Invoked,
    Outcome,
)
from viewstamp.replica.options import ClientOptions, ClientSetup

SECRET = bytes(range(SECRET_BYTES))
NUMBER = client_number(SECRET)
S1, S2, S3 = NodeId(1), NodeId(2), NodeId(3)
SESSION = 1 << 20
M = TypeVar("M")
SECOND = 1_000_000


class ClientBench:
    """Feeds a client core, and sorts what comes out."""

    def __init__(
        self,
        *,
        exactly_once: bool = True,
        routing: Literal["leader", "any"] = "any",
        options: ClientOptions | None = None,
        servers: tuple[NodeId, ...] = (S1, S2, S3),
        up: tuple[NodeId, ...] | None = None,
        seed: int = 1,
    ) -> None:
        self.now = 0
        self.core = ClientCore(
            ClientSetup(
                servers=servers,
                secret=SECRET,
                rng=Random(seed),
                now=Instant(0),
                options=options or ClientOptions(),
                exactly_once=exactly_once,
                write_routing=routing,
            )
        )
        self.sent: list[tuple[NodeId, ClientMessage]] = []
        """Not yet looked at by `take`."""
        self.identified: list[NodeId] = []
        """Servers that were shown the secret, in order."""
        self.outcomes: dict[int, Outcome] = {}
        self.delivered: list[Any] = []
        self._calls = 0
        for server in servers if up is None else up:
            self.step(PeerUp(server))

    def step(self, event: ClientEvent) -> list[ClientEffect]:
        effects = self.core.step(event, Instant(self.now))
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Identify):
                self.identified.append(effect.to)
            elif isinstance(effect, Send):
                assert effect.to in self.identified or not hasattr(effect.message, "client"), effect
                self.sent.append((effect.to, effect.message))
            elif isinstance(effect, Complete | CompleteAll):
                for ended in effect.each():
                    assert ended.call not in self.outcomes, "a call ends once"
                    self.outcomes[ended.call] = ended.outcome
            elif isinstance(effect, Deliver):
                self.delivered.append(msgspec.msgpack.decode(effect.payload))
        return effects

    def invoke(
        self,
        *what: Any,
        kind: Literal["command", "linearizable", "stale"] = "command",
        timeout_us: int = 60 * SECOND,
    ) -> int:
        self._calls += 1
        payload = call(*(what or ("add", 1)))
        self.step(Invoked(CallId(self._calls), kind, payload, Instant(self.now + timeout_us)))
        return self._calls

    def wake(self) -> None:
        """Do what a driver does until nothing is due."""
        for _ in range(100):
            deadline = self.core.deadline
            if deadline is None or deadline > self.now:
                return
            self.step(Woke())
        raise AssertionError("the client asks endlessly to be woken")

    def run_until(self, moment: int) -> None:
        """Let time pass, waking the core whenever it wants."""
        for _ in range(10_000):
            self.wake()
            deadline = self.core.deadline
            if deadline is None or deadline > moment:
                self.now = moment
                return
            self.now = deadline
        raise AssertionError("the client is woken too often")

    def take(self, kind: type[M]) -> list[tuple[NodeId, M]]:
        """Wake the core, and return what it sent since the last look; all of it must be of this kind."""
        self.wake()
        sent, self.sent = self.sent, []
        found: list[tuple[NodeId, M]] = []
        for to, message in sent:
            assert isinstance(message, kind), message
            found.append((to, message))
        return found

    def receive(self, source: NodeId, message: ServerMessage) -> None:
        self.step(Received(source, message))

    def down(self, *servers: NodeId) -> None:
        for server in servers:
            self.step(PeerDown(server))

    def up(self, *servers: NodeId) -> None:
        for server in servers:
            self.step(PeerUp(server))

    def open_session(self, session: int = SESSION, life_ms: int = 60_000) -> None:
        """Answer the client's request for a session."""
        ((to, asked),) = self.take(OpenSession)
        self.confirm(to, asked, session, life_ms)

    def confirm(
        self, source: NodeId, asked: OpenSession | KeepAlive, session: int = SESSION, life_ms: int = 60_000
    ) -> None:
        """Answer a question: the session stands."""
        self.receive(source, SessionOpened(NUMBER, session, life_ms, asked.question))

    def submitted(self) -> tuple[NodeId, Submit]:
        """Return the one message with commands that was sent."""
        ((to, message),) = self.take(Submit)
        return to, message

    def asked(self) -> tuple[NodeId, QueryRequest]:
        ((to, message),) = self.take(QueryRequest)
        return to, message

    def answer(self, source: NodeId, *sequences: int, kind: int = RESULT, payload: Any = "ok") -> None:
        encoded = msgspec.Raw(msgspec.msgpack.encode(payload))
        self.receive(source, Results(NUMBER, 99, [(sequence, kind, encoded) for sequence in sequences]))

    def redirect(self, source: NodeId, leader: NodeId | None, *sequences: int, entered: bool = False) -> None:
        self.receive(source, Redirect(NUMBER, leader, entered, list(sequences), "another node leads"))

    def failed(self, number: int) -> tuple[str, str]:
        outcome = self.outcomes[number]
        assert isinstance(outcome, Failed), outcome
        assert "\n" not in outcome.reason
        return outcome.outcome, outcome.reason


def sequences(message: Submit | QueryRequest) -> list[int]:
    return [sequence for sequence, _ in message.calls]


class ScriptedServers:
    """Servers that share one table of what was executed, and lose, refuse, redirect and answer at random."""

    def __init__(self, bench: ClientBench, rng: Random) -> None:
        self.bench = bench
        self.rng = rng
        self.executed: dict[int, int] = {}
        """How often, by the command's own argument."""
        self._seen: set[int] = set()

    def serve(self, to: NodeId, message: ClientMessage) -> None:
        fate = self.rng.randrange(8)
        if isinstance(message, Submit):
            self._submitted(to, message, fate)
        elif fate:
            assert isinstance(message, OpenSession | KeepAlive), message
            self.bench.confirm(to, message)

    def _submitted(self, to: NodeId, message: Submit, fate: int) -> None:
        bench, named = self.bench, sequences(message)
        if fate == 1:
            bench.redirect(to, self.rng.choice([S1, S2, S3, None]), *named)
        elif fate == 2:
            bench.answer(to, *named, kind=REFUSED, payload="busy")
        elif fate >= 3:
            self._execute(message)
            if fate == 3:
                bench.redirect(to, self.rng.choice([S1, S2, S3]), *named, entered=True)
            elif fate > 4:
                bench.answer(to, *named)

    def _execute(self, message: Submit) -> None:
        for sequence, payload in message.calls:
            tag = msgspec.msgpack.decode(payload)[1]
            late = sequence <= message.acknowledged or sequence in self._seen
            if message.session == NO_SESSION or not late:
                self.executed[tag] = self.executed.get(tag, 0) + 1
            self._seen.add(sequence)


def opened_bench(**options: int) -> ClientBench:
    """Return a bench with an open session at S1, and one command done."""
    bench = ClientBench(options=ClientOptions(**options))
    bench.invoke()
    bench.open_session()
    bench.submitted()
    bench.answer(S1, 1)
    return bench
