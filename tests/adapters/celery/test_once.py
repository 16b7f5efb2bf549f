"""Tasks whose message comes twice."""

import threading
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

from tests.adapters.celery.beats import Clock, depose, turn
from viewstamp.adapters.celery import BeatScheduler, OnceTask
from viewstamp.adapters.celery.beat import RUN_HEADER
from viewstamp.adapters.celery.once import DONE, RUNNING
from viewstamp.adapters.celery.runs import Runs
from viewstamp.clients.coordination_blocking import BlockingCoordination, BlockingKeys

RUN = {RUN_HEADER: 1}


@pytest.fixture(autouse=True)
def _empty(store: BlockingCoordination) -> None:
    """Begin with a store that knows no run."""


@pytest.fixture
def done() -> list[str]:
    """What the task did."""
    return []


@pytest.fixture
def count(app: Celery, done: list[str]) -> Any:
    """Return a task that runs once."""

    @app.task(base=OnceTask, name="count", shared=False)
    def count(what: str, *, fail: bool = False) -> None:
        done.append(what)
        if fail:
            raise ValueError(what)

    return count


def test_a_message_of_a_run_that_is_over_is_dropped(count: Any, done: list[str]) -> None:
    assert count.apply(["a"], task_id="1", headers=RUN).state == "SUCCESS"
    assert count.apply(["a"], task_id="1", headers=RUN).state == "IGNORED"
    assert count.apply(["b"], task_id="2", headers=RUN).state == "SUCCESS"
    assert done == ["a", "b"]


def test_a_run_that_failed_is_over_and_its_retry_is_another(count: Any, done: list[str]) -> None:
    failing = {"fail": True}
    assert count.apply(["a"], failing, task_id="1", headers=RUN).state == "FAILURE"
    assert count.apply(["a"], failing, task_id="1", headers=RUN).state == "IGNORED"
    assert count.apply(["again"], task_id="1", headers=RUN, retries=1).state == "SUCCESS"
    assert done == ["a", "again"]


def test_other_calls_run_as_ever(count: Any, done: list[str], store: BlockingCoordination) -> None:
    count.apply(["a"], task_id="1")
    count.apply(["a"], task_id="1")
    assert done == ["a", "a"]
    assert store.kv.range(prefix="celery/once/").items == []


@pytest.mark.parametrize(("outcome", "state"), [("died", "SUCCESS"), ("finished", "IGNORED")])
def test_a_second_message_waits_for_the_outcome_of_the_first(
    count: Any,
    done: list[str],
    store: BlockingCoordination,
    monkeypatch: pytest.MonkeyPatch,
    outcome: str,
    state: str,
) -> None:
    first = store.grant(60_000)
    store.kv.put("celery/once/1/0", RUNNING, lease=first)
    waits, states = threading.Event(), []
    watch = BlockingKeys.watch

    def noticed(*arguments: Any, **options: Any) -> Any:
        waits.set()
        return watch(*arguments, **options)

    monkeypatch.setattr(BlockingKeys, "watch", noticed)
    thread = threading.Thread(
        target=lambda: states.append(count.apply(["a"], task_id="1", headers=RUN).state)
    )
    thread.start()
    assert waits.wait(30)
    if outcome == "died":
        store.revoke(first)
    else:
        store.kv.put("celery/once/1/0", DONE)
    thread.join(30)
    assert states == [state]
    assert done == (["a"] if outcome == "died" else [])


def test_a_worker_runs_once_what_two_beats_have_sent(
    app: Celery,
    clock: Clock,
    count: Any,
    done: list[str],
    store: BlockingCoordination,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = BeatScheduler(app), BeatScheduler(app)
    turn(first)
    clock.advance()
    with monkeypatch.context() as patch:
        patch.setattr(Runs, "sent", lambda *_: None)  # as if it died before it wrote that down
        turn(first, 1)
    depose(store)
    turn(second)
    count.apply_async(["last"])
    over = threading.Event()

    @app.task(shared=False)
    def end() -> None:
        over.set()

    end.apply_async()
    with start_worker(app, pool="solo", perform_ping_check=False):
        assert over.wait(60)
    assert done == ["report", "last"]
    second.close()
