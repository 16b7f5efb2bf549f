"""Beats of which one leads: what is sent where one dies, is suspended, or has no cluster or broker."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.beat import SchedulingError
from celery.exceptions import ImproperlyConfigured

from tests.adapters.celery.beats import Clock, depose, make_app, numbers, sent, turn
from tests.adapters.conftest import Stock
from viewstamp.adapters.celery import BeatScheduler
from viewstamp.adapters.celery.runs import Runs
from viewstamp.adapters.celery.settings import Settings
from viewstamp.clients.coordination_blocking import BlockingCoordination
from viewstamp.runtime.addresses import free_ports


class Died(BaseException):
    """The process ended here."""


@pytest.fixture(autouse=True)
def _empty(store: BlockingCoordination) -> None:
    """Begin with a store that knows no run."""


def test_one_of_two_beats_sends(app: Celery, clock: Clock) -> None:
    first, second = BeatScheduler(app), BeatScheduler(app)
    for _ in range(3):
        turn(first)
        turn(second)
        clock.advance()
    turn(second)
    turn(first)
    assert numbers(app) == [1, 2, 3]
    first.close()
    second.close()


def test_no_interval_is_skipped_or_sent_twice_when_another_beat_takes_over(
    app: Celery, clock: Clock, store: BlockingCoordination
) -> None:
    first, second = BeatScheduler(app), BeatScheduler(app)
    turn(first)
    clock.advance()
    turn(first)
    depose(store)
    turn(second)
    assert numbers(app) == [1]
    clock.advance(5)
    turn(second)
    assert numbers(app) == [], "half of the interval has passed since the other beat sent"
    clock.advance(5.2)
    turn(second)
    assert numbers(app) == [2]
    second.close()


def test_a_beat_that_resigns_is_followed_at_once(app: Celery, clock: Clock) -> None:
    first, second = BeatScheduler(app), BeatScheduler(app)
    turn(first)
    first.close()
    clock.advance()
    turn(second)
    assert numbers(app) == [1]
    second.close()


def test_a_run_is_sent_by_the_next_beat_when_the_first_died_before_it_was_sent(
    app: Celery, clock: Clock, store: BlockingCoordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = BeatScheduler(app), BeatScheduler(app)
    turn(first)
    clock.advance()
    monkeypatch.setattr(first, "apply_async", _die)
    with pytest.raises(Died):
        turn(first)
    depose(store)
    turn(second)
    assert numbers(app) == [1]
    turn(second)
    assert numbers(app) == []
    second.close()


def test_a_run_comes_again_under_its_id_when_a_beat_died_before_it_wrote_that_down(
    app: Celery, clock: Clock, store: BlockingCoordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = BeatScheduler(app), BeatScheduler(app)
    turn(first)
    clock.advance()
    with monkeypatch.context() as patch:
        patch.setattr(Runs, "sent", _die)
        with pytest.raises(Died):
            turn(first)
    depose(store)
    turn(second)
    once, again = sent(app)
    assert once == again
    second.close()


def test_a_run_is_not_sent_again_by_the_beat_that_sent_it(
    app: Celery, clock: Clock, store: BlockingCoordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was deposed after it sent the run and before it wrote that down, and leads again."""
    beat = BeatScheduler(app)
    turn(beat)
    clock.advance()
    write = Runs._write
    with monkeypatch.context() as patch:
        patch.setattr(Runs, "_write", _deposed_before_the_second(store, write))
        turn(beat, 1)
    turn(beat)
    assert numbers(app) == [1]
    clock.advance()
    turn(beat)
    assert numbers(app) == [2]
    beat.close()


def test_a_suspended_beat_writes_and_sends_nothing_when_it_goes_on(
    app: Celery, clock: Clock, store: BlockingCoordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease's clock stands still too, so that only the condition of its write stops it."""
    first, second = BeatScheduler(app), BeatScheduler(app)
    turn(first)
    depose(store)
    turn(second)
    monkeypatch.setattr("viewstamp.adapters.leading.Leadership.is_certain", True)
    monkeypatch.setattr("viewstamp.adapters.leading.Leadership.leads", lambda _: True)
    clock.advance()
    turn(first, 1)
    assert numbers(app) == []
    turn(second)
    assert numbers(app) == [1]
    second.close()


def test_a_run_is_tried_again_when_the_broker_refused_it(
    app: Celery, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = BeatScheduler(app)
    turn(beat)
    clock.advance()
    with monkeypatch.context() as patch:
        patch.setattr(beat, "send_task", _refuse)
        turn(beat)
    assert numbers(app) == []
    turn(beat)
    assert numbers(app) == [1]
    beat.close()


def test_other_entries_go_on_when_the_message_of_one_cannot_be_made(stock: Stock, clock: Clock) -> None:
    app = make_app(stock, clock, ["bad", "good"])
    app.conf.beat_schedule["bad"]["args"] = [object()]
    beat = BeatScheduler(app)
    turn(beat)
    for expected in (1, 2):
        clock.advance()
        turn(beat, 5)
        assert [(name, number) for name, number, _ in sent(app)] == [("good", expected)]
    beat.close()
    Settings(app.conf).close()


def test_other_entries_go_on_when_the_last_run_of_one_cannot_be_read(
    stock: Stock, clock: Clock, store: BlockingCoordination
) -> None:
    app = make_app(stock, clock, ["bad", "good"])
    store.kv.put("celery/runs/bad", b"{")
    beat = BeatScheduler(app)
    turn(beat)
    clock.advance()
    turn(beat, 5)
    assert [name for name, _, _ in sent(app)] == ["good"]
    item = store.kv.get("celery/runs/bad")
    assert item is not None
    assert item.value == b"{"
    beat.close()
    Settings(app.conf).close()


def test_an_entry_that_is_added_later_is_run(app: Celery, clock: Clock) -> None:
    beat = BeatScheduler(app)
    turn(beat)
    beat.add(name="new", task="count", schedule=beat.schedule["report"].schedule, args=["new"])
    turn(beat)
    clock.advance()
    turn(beat, 5)
    assert sorted(name for name, _, _ in sent(app)) == ["new", "report"]
    beat.close()


def test_a_beat_pauses_when_no_cluster_answers(
    stock: Stock, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_ports(1)[0]
    app = make_app(stock, clock, viewstamp_where=f"127.0.0.1:{port}", viewstamp_beat_ttl_s=0.5)
    beat = BeatScheduler(app)
    caplog.clear()
    assert beat.tick() == pytest.approx(0.1)
    assert beat.tick() == pytest.approx(0.1)
    assert [record.getMessage()[:26] for record in caplog.records].count("beat: pauses: NotExecuted:") == 1
    beat.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"viewstamp_where": None},
        {"viewstamp_where": "no-port"},
        {"viewstamp_where": 5},
        {"viewstamp_beat_ttl_s": 0.1},
        {"viewstamp_beat_ttl_s": float("nan")},
        {"viewstamp_beat_ttl_s": "5"},
        {"viewstamp_prefix": ""},
        {"viewstamp_prefix": b"x"},
    ],
)
def test_settings_are_refused_before_anything_is_started(
    stock: Stock, clock: Clock, settings: dict[str, Any]
) -> None:
    with pytest.raises(ImproperlyConfigured, match="nothing was started"):
        BeatScheduler(make_app(stock, clock, **settings))


def test_a_name_is_refused_when_it_cannot_be_a_key(stock: Stock, clock: Clock) -> None:
    with pytest.raises(ImproperlyConfigured, match="nothing was started"):
        BeatScheduler(make_app(stock, clock, ["a\ud800"]))


def _die(*_: object, **__: object) -> None:
    raise Died


def _refuse(*_: object, **__: object) -> None:
    raise SchedulingError("the broker is away")


def _deposed_before_the_second(store: BlockingCoordination, write: Callable[..., int]) -> Callable[..., int]:
    calls = []

    def wrapped(*args: object) -> int:
        calls.append(args)
        if len(calls) == 2:
            depose(store)
        return write(*args)

    return wrapped
