"""What runs too long is named, and ends the node at the limit (`runtime.watchdog`)."""

import threading
from collections.abc import Callable, Iterator

import pytest

from viewstamp.core.ids import LogTime, NodeId, Seqno, View, Viewstamp
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.runner import MachineRunner
from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.runtime.watchdog import EXIT_STUCK, SAMPLE_S, SLOW_S, Watchdog

AT = Viewstamp(View(3), Seqno(14))
_running = threading.Event()
_end = threading.Event()


class Meanwhile:
    """What happens while a quick command runs."""

    def __init__(self) -> None:
        self.do: Callable[[], None] = lambda: None


_meanwhile = Meanwhile()


class Slow(StateMachine):
    total: int = 0

    @command
    def spin(self, rounds: int) -> int:
        _running.set()
        while not _end.is_set():
            self.total += rounds
        return self.total

    @command
    def quick(self) -> int:
        _meanwhile.do()
        return self.total

    @query
    def look(self) -> int:
        _running.set()
        while not _end.is_set():
            pass
        return self.total


class Bench:
    """A machine that runs in another thread, and its watchdog."""

    def __init__(self, *, limit_ms: int) -> None:
        self.definition = MachineDefinition.of(Slow)
        self.runner = MachineRunner(self.definition)
        self.ended: list[int] = []
        self.dog = Watchdog(NodeId(2), lambda: self.runner, limit_ms=limit_ms, end=self.ended.append)

    def run(self, method: str, *arguments: int) -> threading.Thread:
        _running.clear()
        _end.clear()
        call = self.definition.methods[method].arguments(*arguments)
        begin = self.runner.begin_queries if method == "look" else self.runner.begin_entry
        begin(AT, LogTime(0))
        thread = threading.Thread(target=lambda: self.runner.run(call))
        thread.start()
        assert thread.ident is not None
        self.dog._watched = thread.ident
        assert _running.wait(10)
        return thread

    def wait(self, seconds: float) -> None:
        """Let the watchdog see that much time pass."""
        for _ in range(round(seconds / SAMPLE_S) + 1):
            self.dog.sample(SAMPLE_S)


@pytest.fixture
def ended() -> Iterator[None]:
    yield
    _end.set()


@pytest.mark.usefixtures("ended")
def test_a_slow_command_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(limit_ms=0)
    thread = bench.run("spin", 1)
    bench.wait(SLOW_S - 3 * SAMPLE_S)
    assert caplog.messages == []
    bench.wait(100)
    assert bench.ended == []
    (line,) = caplog.messages
    assert "node 2" in line
    assert "command spin has run for 1." in line
    assert f"viewstamp {AT}" in line
    _end.set()
    thread.join()


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize(
    ("method", "arguments", "advice"), [("spin", (1,), "journal skip"), ("look", (), "query")]
)
def test_the_node_ends_at_the_limit(
    caplog: pytest.LogCaptureFixture, method: str, arguments: tuple[int, ...], advice: str
) -> None:
    bench = Bench(limit_ms=5_000)
    thread = bench.run(method, *arguments)
    bench.wait(4)
    assert bench.ended == []
    bench.wait(1)
    assert bench.ended
    assert set(bench.ended) == {EXIT_STUCK}
    assert method in caplog.messages[-1]
    assert advice in caplog.messages[-1]
    _end.set()
    thread.join()


def test_many_quick_commands_are_not_one_slow_one() -> None:
    bench = Bench(limit_ms=1_000)
    _meanwhile.do = lambda: bench.dog.sample(0.9)
    bench.runner.begin_entry(AT, LogTime(0))
    for _ in range(50):
        bench.runner.run(bench.definition.methods["quick"].arguments())
    assert bench.ended == []


def test_nothing_is_said_when_nothing_runs(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(limit_ms=1)
    bench.wait(10)
    assert (bench.ended, caplog.messages) == ([], [])


def test_the_thread_ends_when_it_is_told() -> None:
    before = set(threading.enumerate())
    bench = Bench(limit_ms=1)
    bench.dog.start()
    (thread,) = set(threading.enumerate()) - before
    bench.dog.stop()
    thread.join(10)
    assert not thread.is_alive()
