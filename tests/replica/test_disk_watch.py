"""A member whose disk does not answer gives way, by itself and on three protocols in the simulator."""

from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import pytest

from tests.replica.fakes import FAKE, HERE, Counter
from viewstamp.core.effects import Effect, Persist, Send, Settled
from viewstamp.core.events import (
    Directed,
    DirectiveToken,
    Event,
    Persisted,
    Received,
    TakeSnapshot,
    TransferLeadership,
)
from viewstamp.core.ids import ORIGIN, Incarnation, Instant, NodeId, PersistSeq, View
from viewstamp.core.messages import AdminReply, AdminRequest
from viewstamp.core.principals import LOCAL_OPERATOR
from viewstamp.core.protocol import Recovered, Status
from viewstamp.replica.disk_watch import AWAY_MIN_US, OWN_TOKEN
from viewstamp.replica.divergence import peer_event
from viewstamp.replica.events import DiskReport, ReplicaEffect, ReplicaEvent, Requested, Respond
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.replica import Replica
from viewstamp.replica.setup import ReplicaSetup

ME, A, B = NodeId(1), NodeId(2), NodeId(3)
LIMIT_MS = 100
MS = 1_000
HEARTBEAT = Send(A, "heartbeat")


class FakeCore:
    """A core that does what a test has put into `effects`."""

    deadline = None
    view = View(1)
    accepting = True

    def __init__(self) -> None:
        self.leader: NodeId | None = ME
        self.events: list[Event] = []
        self.effects: list[Effect] = []

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        self.events.append(event)
        effects, self.effects = self.effects, []
        return effects

    def status(self, now: Instant) -> Status:
        return Status(ME, "leader", self.view, self.leader, ORIGIN, 0, 0, 0, 0, (ME, A, B))


class Bench:
    """A replica around such a core."""

    def __init__(self, stall_ms: int = LIMIT_MS) -> None:
        self.core = core = FakeCore()
        self.replica = Replica(
            ReplicaSetup(
                node=ME,
                members=(ME, A, B),
                incarnation=Incarnation(1),
                definition=msgspec.structs.replace(FAKE, make_core=lambda _: core),
                protocol_options=None,
                options=ReplicaOptions(disk_stall_ms=stall_ms),
                machine=Counter,
                rng=Random(1),
                recovered=Recovered(),
                now=Instant(0),
            )
        )

    def write(self, seq: int, ms: int) -> list[ReplicaEffect]:
        self.core.effects = [Persist(PersistSeq(seq), (b"x",)), HEARTBEAT]
        return self.step(Received(A, "anything"), ms)

    def beat(self, ms: int) -> list[ReplicaEffect]:
        self.core.effects = [HEARTBEAT]
        return self.step(Received(A, "anything"), ms)

    def durable(self, seq: int, ms: int) -> list[ReplicaEffect]:
        return self.step(Persisted(PersistSeq(seq)), ms)

    def report(self, source: NodeId, ms: int, **known: Any) -> list[ReplicaEffect]:
        given = {"asks": False, "answers": True, "fit": True, "sync_us": 300, **known}
        return self.step(peer_event(source, DiskReport(**given)), ms)

    def step(self, event: ReplicaEvent, ms: int) -> list[ReplicaEffect]:
        return self.replica.step(event, Instant(ms * MS))

    def waiting_for(self, ms: int) -> str:
        return self.replica.status(Instant(ms * MS)).waiting_for

    @property
    def directed(self) -> list[Any]:
        given = [event.directive for event in self.core.events if isinstance(event, Directed)]
        return [each.to for each in given if isinstance(each, TransferLeadership)]


def _asked(effects: list[ReplicaEffect]) -> set[NodeId]:
    sent = [effect for effect in effects if isinstance(effect, Send)]
    return {each.to for each in sent if isinstance(each.message, DiskReport) and each.message.asks}


def test_nothing_is_said_while_the_disk_answers() -> None:
    bench = Bench()
    for seq in range(1, 50):
        assert _asked(bench.write(seq, 30 * seq)) == set()
        assert bench.durable(seq, 30 * seq + 20) == []
    assert _answer(bench.report(A, 1_500, asks=True)).sync_us == 20 * MS
    assert bench.waiting_for(1_500) == ""


def test_a_leader_hands_over_to_the_member_that_syncs_best_when_its_disk_hangs() -> None:
    bench = Bench()
    bench.write(1, 0)
    assert _asked(bench.beat(49)) == set()
    assert _asked(bench.beat(50)) == {A, B}
    bench.report(A, 51, sync_us=900)
    bench.report(B, 51, sync_us=200)
    bench.beat(99)
    assert bench.directed == []
    bench.beat(100)
    assert bench.directed == [B]
    assert "disk has not answered" in bench.waiting_for(100)


@pytest.mark.parametrize("known", [{"fit": False}, {"fit": False, "answers": False}])
def test_nobody_unfit_is_asked_to_lead(known: dict[str, bool]) -> None:
    bench = Bench()
    bench.write(1, 0)
    bench.beat(50)
    bench.report(A, 51, **known)
    bench.beat(100)
    assert bench.directed == []


def test_a_follower_asks_nobody_to_lead() -> None:
    bench = Bench()
    bench.core.leader = A
    bench.write(1, 0)
    bench.beat(50)
    bench.report(B, 51)
    bench.beat(100)
    assert bench.directed == []


def test_the_answer_to_its_own_directive_is_kept_back_and_it_tries_again() -> None:
    bench = Bench()
    bench.write(1, 0)
    bench.beat(50)
    bench.report(A, 51)
    bench.beat(100)
    bench.beat(110)
    assert bench.directed == [A], "one at a time"
    bench.step(Requested(HERE, AdminRequest(7, TakeSnapshot()), b"", LOCAL_OPERATOR), 115)
    bench.core.effects = [Settled(OWN_TOKEN, "not now"), Settled(DirectiveToken(1), None)]
    assert bench.step(Received(A, "anything"), 120) == [Respond(HERE, AdminReply(7, None))]
    bench.beat(219)
    assert bench.directed == [A]
    bench.beat(220)
    assert bench.directed == [A, A]


def test_a_member_says_nothing_while_its_disk_hangs_and_a_majority_works_without_it() -> None:
    bench = Bench()
    bench.write(1, 0)
    bench.beat(50)
    bench.report(A, 51)
    assert HEARTBEAT in bench.beat(150), "one of three is not a majority"
    bench.report(B, 151)
    assert HEARTBEAT not in bench.beat(152)
    assert HEARTBEAT in [*bench.durable(1, 400), *bench.beat(401)]


def test_a_member_goes_on_speaking_when_all_disks_are_slow() -> None:
    bench = Bench()
    bench.write(1, 0)
    bench.beat(50)
    bench.report(A, 51, answers=False, fit=False)
    bench.report(B, 51)
    assert HEARTBEAT in bench.beat(1_000)


def test_a_member_is_unfit_for_a_while_after_its_disk_was_slow_and_longer_the_next_time() -> None:
    bench = Bench()
    bench.write(1, 0)
    bench.durable(1, LIMIT_MS)
    away_ms = AWAY_MIN_US // MS
    again_ms = LIMIT_MS + away_ms + 10 + LIMIT_MS
    assert _is_fit_from(bench, LIMIT_MS + away_ms)
    bench.write(2, again_ms - LIMIT_MS)
    bench.durable(2, again_ms)
    assert _is_fit_from(bench, again_ms + 2 * away_ms)


def _is_fit_from(bench: Bench, ms: int) -> bool:
    before = _answer(bench.report(A, ms - 1, asks=True))
    return not before.fit and _answer(bench.report(A, ms, asks=True)).fit


def _answer(effects: list[ReplicaEffect]) -> DiskReport:
    (sent,) = effects
    assert isinstance(sent, Send)
    assert isinstance(sent.message, DiskReport)
    assert not sent.message.asks, "an answer asks for none"
    return sent.message


def test_what_a_stranger_reports_does_not_count() -> None:
    bench = Bench()
    bench.write(1, 0)
    bench.beat(50)
    bench.report(NodeId(9), 51)
    bench.beat(100)
    assert bench.directed == []


def test_nothing_is_watched_when_the_limit_is_zero() -> None:
    bench = Bench(stall_ms=0)
    bench.write(1, 0)
    assert bench.beat(1_000_000) == [HEARTBEAT]
    assert _answer(bench.report(A, 1_000_001, asks=True)).fit
