"""A member whose disk does not answer gives way, by itself and on three protocols in the simulator."""

from collections.abc import Sequence
from typing import Any

import pytest

from viewstamp.core.effects import Effect, Persist, Send, Settled
from viewstamp.core.events import (
    Directed,
    DirectiveToken,
    Event,
    Persisted,
    Received,
    Woke,
)
from viewstamp.core.ids import ORIGIN, Instant, NodeId, PersistSeq, View
from viewstamp.core.protocol import Core, Status
from viewstamp.replica.disk_watch import AWAY_MIN_US, OWN_TOKEN, DiskReport, DiskWatch

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
    def __init__(self) -> None:
        self.core = FakeCore()
        core: Core = self.core
        self.watch = DiskWatch(core, ME, stall_ms=LIMIT_MS)

    def write(self, seq: int, ms: int) -> list[Effect]:
        self.core.effects = [Persist(PersistSeq(seq), (b"x",)), HEARTBEAT]
        return self.step(Woke(), ms)

    def beat(self, ms: int) -> list[Effect]:
        self.core.effects = [HEARTBEAT]
        return self.step(Woke(), ms)

    def durable(self, seq: int, ms: int) -> list[Effect]:
        return self.step(Persisted(PersistSeq(seq)), ms)

    def report(self, source: NodeId, ms: int, **known: Any) -> list[Effect]:
        given = {"asks": False, "answers": True, "fit": True, "sync_us": 300, **known}
        return self.step(Received(source, DiskReport(**given)), ms)

    def step(self, event: Event, ms: int) -> list[Effect]:
        return list(self.watch.step(event, Instant(ms * MS)))

    @property
    def directed(self) -> list[Any]:
        return [event.directive.to for event in self.core.events if isinstance(event, Directed)]  # type: ignore[union-attr]


def _asked(effects: list[Effect]) -> set[NodeId]:
    sent = [effect for effect in effects if isinstance(effect, Send)]
    return {each.to for each in sent if isinstance(each.message, DiskReport) and each.message.asks}


def test_nothing_is_said_while_the_disk_answers() -> None:
    bench = Bench()
    for seq in range(1, 50):
        assert _asked(bench.write(seq, 30 * seq)) == set()
        assert bench.durable(seq, 30 * seq + 20) == []
    assert bench.watch.sync_us == 20 * MS
    assert bench.watch.status(Instant(0)).waiting_for == ""


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
    assert "disk has not answered" in bench.watch.status(Instant(0)).waiting_for


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
    other = Settled(DirectiveToken(1), None)
    bench.core.effects = [Settled(OWN_TOKEN, "not now"), other]
    assert bench.step(Woke(), 120) == [other]
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


def _answer(effects: list[Effect]) -> DiskReport:
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
    bench = Bench()
    core: Core = bench.core
    bench.watch = DiskWatch(core, ME, stall_ms=0)
    bench.write(1, 0)
    assert bench.beat(1_000_000) == [HEARTBEAT]
    assert _answer(bench.report(A, 1_000_001, asks=True)).fit
