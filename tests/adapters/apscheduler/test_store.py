"""Schedulers that share jobs: one runs them, and what follows where it dies, or somebody changes a job."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.schedulers.base import BaseScheduler

from tests.adapters.apscheduler.jobs import note
from tests.adapters.conftest import Stock
from viewstamp.adapters.apscheduler import ViewstampJobStore
from viewstamp.adapters.leading import Leadership
from viewstamp.clients.coordination import Conflict
from viewstamp.clients.coordination_blocking import BlockingCoordination, BlockingKeys
from viewstamp.core.errors import ConfigurationError, OutcomeUnknown

START = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = START + timedelta(seconds=10)
EVERY: dict[str, Any] = {"trigger": "interval", "seconds": 10, "start_date": FIRST, "next_run_time": FIRST}


class Died(BaseException):
    """The process ended here."""


class Recording(BaseExecutor):
    """Writes down what it was to run."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[tuple[str, int]] = []
        self.dies = False

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        if self.dies:
            raise Died
        self.ran += [(job.id, round((at - START).total_seconds())) for at in run_times]
        self._run_job_success(job.id, [])


class Turned(BaseScheduler):
    """A scheduler that the test turns, at a time that it sets."""

    def __init__(self, stock: Stock, **options: Any) -> None:
        super().__init__(timezone=UTC, job_defaults={"misfire_grace_time": 600})
        self.store = ViewstampJobStore(stock.config, modules=["tests"], ttl_s=60, **options)
        self.recording = Recording()
        self.add_jobstore(self.store)
        self.add_executor(self.recording)
        self.start(paused=True)
        self.state = 1

    def wakeup(self) -> None: ...

    def shutdown(self, wait: bool = True) -> None:
        super().shutdown(wait)

    def turn(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
        """Let it do what is due then; return what it ran."""
        now = START + timedelta(seconds=seconds)

        class Then(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return now.astimezone(tz)

        monkeypatch.setattr("apscheduler.schedulers.base.datetime", Then)
        self._process_jobs()
        ran, self.recording.ran = self.recording.ran, []
        return ran


Make = Callable[..., Turned]
Turn = Callable[[Turned, float], list[tuple[str, int]]]


@pytest.fixture
def make(stock: Stock, store: BlockingCoordination) -> Iterator[Make]:
    made: list[Turned] = []

    def one(**options: Any) -> Turned:
        made.append(Turned(stock, **options))
        return made[-1]

    yield one
    for scheduler in made:
        scheduler.shutdown()


@pytest.fixture
def turn(monkeypatch: pytest.MonkeyPatch) -> Turn:
    return lambda scheduler, seconds: scheduler.turn(seconds, monkeypatch)


def depose(store: BlockingCoordination) -> None:
    """End the lease of the scheduler that leads."""
    item = store.kv.get("apscheduler/leader")
    assert item is not None
    store.revoke(item.lease)


def test_one_of_two_schedulers_runs_a_job_whichever_added_it(make: Make, turn: Turn) -> None:
    first, second = make(), make()
    turn(first, 0)
    second.add_job(note, args=["a"], id="a", **EVERY)
    first.store._changed.set()  # as the watch does
    ran = [(turn(second, seconds), turn(first, seconds)) for seconds in (5, 10, 15, 20)]
    assert ran == [([], []), ([], [("a", 10)]), ([], []), ([], [("a", 20)])]


def test_a_scheduler_hears_of_a_job_that_another_one_added(make: Make, turn: Turn) -> None:
    first, second = make(), make()
    turn(first, 0)
    second.add_job(note, args=["a"], id="a", **EVERY)
    while not turn(first, 10):
        pass


def test_no_interval_is_skipped_or_run_twice_when_another_takes_over(
    make: Make, turn: Turn, store: BlockingCoordination
) -> None:
    first, second = make(), make()
    first.add_job(note, args=["a"], id="a", **EVERY)
    assert turn(first, 10) == [("a", 10)]
    depose(store)
    assert turn(second, 11) == []
    assert turn(second, 20) == [("a", 20)]


def test_a_claimed_run_is_not_run_again_when_its_scheduler_died(
    make: Make, turn: Turn, store: BlockingCoordination
) -> None:
    _die_with_a_claim(make, turn, store)
    second = make()
    assert turn(second, 11) == []
    assert turn(second, 20) == [("a", 20)]


def test_a_claimed_run_is_run_again_when_that_is_wanted(
    make: Make, turn: Turn, store: BlockingCoordination
) -> None:
    _die_with_a_claim(make, turn, store)
    second = make(on_doubt="run")
    assert turn(second, 11) == [("a", 10)]
    assert turn(second, 12) == []
    assert turn(second, 20) == [("a", 20)]


@pytest.mark.parametrize(("on_doubt", "ran"), [("skip", []), ("run", [("once", 10)])])
def test_a_job_for_one_run_is_over_when_its_scheduler_died(
    make: Make, turn: Turn, store: BlockingCoordination, on_doubt: str, ran: list[tuple[str, int]]
) -> None:
    first = make()
    first.add_job(note, "date", ["a"], id="once", run_date=FIRST, next_run_time=FIRST)
    first.recording.dies = True
    first.store.remove_job = first.store.update_job = _die  # type: ignore[method-assign,assignment]
    with pytest.raises(Died):
        turn(first, 10)
    depose(store)
    second = make(on_doubt=on_doubt)
    assert turn(second, 11) == ran
    assert second.get_jobs() == []


def test_a_deposed_scheduler_runs_nothing(
    make: Make, turn: Turn, store: BlockingCoordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease's clock stands still too, so that only the condition of the claim stops it."""
    first, second = make(), make()
    first.add_job(note, args=["a"], id="a", **EVERY)
    turn(first, 0)
    depose(store)
    turn(second, 1)
    monkeypatch.setattr(Leadership, "leads", lambda _: True)
    assert turn(first, 10) == []
    assert turn(second, 10) == [("a", 10)]


def test_a_run_is_run_when_its_claim_was_not_answered(
    make: Make, turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make()
    first.add_job(note, args=["a"], id="a", **EVERY)
    turn(first, 0)
    with monkeypatch.context() as patch:
        patch.setattr(BlockingKeys, "txn", _unanswered(BlockingKeys.txn))
        assert turn(first, 10) == []
    assert turn(first, 11) == [("a", 10)]
    assert turn(first, 12) == []


def test_a_run_is_not_run_again_when_it_could_not_be_written_down(
    make: Make, turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(on_doubt="run")
    first.add_job(note, args=["a"], id="a", **EVERY)
    turn(first, 0)
    answers = iter([False, True])
    txn = BlockingKeys.txn

    def second_is_lost(*arguments: Any) -> Any:
        if next(answers):
            raise OutcomeUnknown("the answer was lost")
        return txn(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(BlockingKeys, "txn", second_is_lost)
        assert turn(first, 10) == [("a", 10)]
    assert turn(first, 11) == []
    assert turn(first, 20) == [("a", 20)]


def test_a_change_by_another_process_is_not_undone(make: Make, turn: Turn) -> None:
    first, second = make(), make()
    first.add_job(note, args=["a"], id="a", **EVERY)
    old = second.store.lookup_job("a")
    assert turn(first, 10) == [("a", 10)]
    assert old is not None
    with pytest.raises(Conflict):
        second.store.update_job(old)
    second.modify_job("a", args=["b"])
    job = first.get_job("a")
    assert job is not None
    assert job.args == ("b",)
    assert job.next_run_time == START + timedelta(seconds=20)


def test_jobs_are_listed_paused_replaced_and_removed(make: Make) -> None:
    first = make()
    first.add_job(note, args=["b"], id="b", **EVERY)
    first.add_job(note, "date", ["a"], id="a", run_date=START)
    first.pause_job("a")
    assert [job.id for job in first.get_jobs()] == ["b", "a"]
    with pytest.raises(ConflictingIdError):
        first.add_job(note, args=["b"], id="b", **EVERY)
    first.add_job(note, args=["c"], id="b", replace_existing=True, **EVERY)
    job = first.get_job("b")
    assert job is not None
    assert job.args == ("c",)
    first.remove_job("b")
    assert first.get_job("b") is None
    for missing in (first.remove_job, first.pause_job):
        with pytest.raises(JobLookupError):
            missing("b")
    with pytest.raises(JobLookupError):
        first.store.update_job(job)
    first.remove_all_jobs()
    assert first.get_jobs() == []


def test_a_job_that_cannot_be_read_is_left_and_the_others_run(
    make: Make, turn: Turn, store: BlockingCoordination
) -> None:
    first = make()
    first.add_job(note, args=["a"], id="a", **EVERY)
    item = store.kv.get("apscheduler/jobs/a")
    assert item is not None
    elsewhere = {**msgspec.json.decode(item.value), "func": "os:system"}
    store.kv.put("apscheduler/jobs/bad", b"{")
    store.kv.put("apscheduler/jobs/evil", msgspec.json.encode(elsewhere))
    assert turn(first, 10) == [("a", 10)]
    assert [job.id for job in first.get_jobs()] == ["a"]
    assert len(store.kv.range(prefix="apscheduler/jobs/").items) == 3


def test_a_scheduler_looks_again_when_it_does_not_lead(make: Make, turn: Turn) -> None:
    first, second = make(), make()
    turn(first, 0)
    turn(second, 0)
    assert first.store.leads
    assert not second.store.leads
    assert second.store.get_next_run_time() == START + timedelta(seconds=1)


@pytest.mark.parametrize(
    "options",
    [{"modules": "tests"}, {"modules": []}, {"on_doubt": "maybe"}, {"ttl_s": 0}, {"ttl_s": float("nan")}],
)
def test_an_argument_that_makes_no_sense_is_refused(stock: Stock, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ViewstampJobStore(stock.config, **{"modules": ["tests"], **options})


def _die_with_a_claim(make: Make, turn: Turn, store: BlockingCoordination) -> None:
    first = make()
    first.add_job(note, args=["a"], id="a", **EVERY)
    first.store.update_job = _die  # type: ignore[method-assign,assignment]
    with pytest.raises(Died):
        turn(first, 10)
    depose(store)


def _die(*_: object) -> None:
    raise Died


def _unanswered(txn: Callable[..., Any]) -> Callable[..., Any]:
    def executed(*arguments: Any) -> Any:
        txn(*arguments)
        raise OutcomeUnknown("the answer was lost")

    return executed
