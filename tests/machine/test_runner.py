"""Running the methods of a machine: whatever they do is a result, except what must end the process."""

import asyncio
from typing import Any

import msgspec
import pytest

from viewstamp.core.errors import ConfigurationError, OutOfMemory
from viewstamp.core.ids import LogTime, Seqno, View, Viewstamp
from viewstamp.core.messages import FAILED, RESULT
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.runner import EXPLANATION_CHARACTERS_MAX, TOO_LONG, UNENCODABLE, MachineRunner
from viewstamp.machine.state_machine import StateMachine, command, query


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Odd(StateMachine):
    count: int = 0

    @command
    def do(self, what: str) -> Any:
        self.count += 1
        match what:
            case "raise":
                raise KeyError("gone")
            case "silent":
                raise Silent
            case "long":
                raise ValueError("x" * 100_000)
            case "surrogate":
                raise ValueError("\ud800")
            case "object":
                return object()
            case "huge":
                return 2**80
            case "endless":
                endless: list[Any] = []
                endless.append(endless)
                return endless
            case "memory":
                raise MemoryError
            case "exit":
                raise SystemExit(3)
            case "cancelled":
                raise asyncio.CancelledError
            case "interrupt":
                raise KeyboardInterrupt
            case "recursion":
                return self.do(what)
            case _:
                return what

    @query
    def draw(self) -> float:
        return self.context.random.random()

    def session_ended(self, client: int) -> None:
        raise ValueError("a hook that raises")


DEFINITION = MachineDefinition.of(Odd)


def _do(runner: MachineRunner, what: str) -> tuple[int, Any]:
    payload = DEFINITION.methods["do"].encode_call((what,), {})
    runner.begin_entry(Viewstamp(View(1), Seqno(1)), LogTime(5))
    kind, encoded = runner.run(DEFINITION.decode("command", payload))
    runner.end_queries()
    return kind, msgspec.msgpack.decode(encoded)


@pytest.mark.parametrize(
    ("what", "kind", "payload"),
    [
        ("fine", RESULT, "fine"),
        ("raise", FAILED, ["KeyError", "'gone'"]),
        ("exit", FAILED, ["SystemExit", "3"]),
        ("cancelled", FAILED, ["CancelledError", ""]),
        ("silent", FAILED, ["Silent", "(its text cannot be shown)"]),
        ("long", FAILED, ["ValueError", "x" * EXPLANATION_CHARACTERS_MAX]),
        ("surrogate", FAILED, ["ValueError", "\\ud800"]),
    ],
)
def test_an_exception_is_the_result_when_a_command_raises(what: str, kind: int, payload: Any) -> None:
    runner = MachineRunner(DEFINITION)
    assert _do(runner, what) == (kind, payload)
    assert runner.machine.count == 1  # type: ignore[attr-defined]


def test_a_command_fails_by_name_when_its_result_is_too_long_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("viewstamp.machine.runner.RESULT_BYTES_MAX", 5)
    runner = MachineRunner(DEFINITION)
    assert _do(runner, "four")[0] == RESULT
    kind, (name, explanation) = _do(runner, "fiver")
    assert (kind, name) == (FAILED, TOO_LONG)
    assert "6 bytes" in explanation


@pytest.mark.parametrize("what", ["object", "huge", "endless"])
def test_a_command_fails_by_name_when_its_result_cannot_be_encoded(what: str) -> None:
    kind, payload = _do(MachineRunner(DEFINITION), what)
    assert (kind, payload[0]) == (FAILED, UNENCODABLE)


def test_endless_recursion_is_a_result_when_a_command_runs_into_it() -> None:
    assert _do(MachineRunner(DEFINITION), "recursion")[1][0] == "RecursionError"


@pytest.mark.parametrize(("what", "kind"), [("memory", "MemoryError"), ("interrupt", "KeyboardInterrupt")])
def test_what_a_command_raises_is_its_result_whatever_it_is(what: str, kind: str) -> None:
    assert _do(MachineRunner(DEFINITION), what)[1][0] == kind


def test_the_node_ends_when_the_process_has_no_memory_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("viewstamp.machine.runner.PROBE_BYTES", 2**62)
    with pytest.raises(OutOfMemory, match="no data is lost"):
        _do(MachineRunner(DEFINITION), "memory")


def test_a_hook_that_raises_changes_nothing_when_a_session_ends() -> None:
    runner = MachineRunner(DEFINITION)
    runner.begin_entry(Viewstamp(View(1), Seqno(1)), LogTime(5))
    runner.end_session(3, 0)
    runner.end_queries()
    assert _do(runner, "fine") == (RESULT, "fine")


def test_a_query_fails_when_it_draws_random_numbers() -> None:
    runner = MachineRunner(DEFINITION)
    payload = DEFINITION.methods["draw"].encode_call((), {})
    runner.begin_queries(Viewstamp(View(1), Seqno(1)), LogTime(5))
    kind, encoded = runner.run(DEFINITION.decode("query", payload))
    runner.end_queries()
    assert kind == FAILED
    assert "a query has no random numbers" in msgspec.msgpack.decode(encoded)[1]


def test_the_old_host_is_as_it_was_when_a_snapshot_cannot_be_restored() -> None:
    runner = MachineRunner(DEFINITION)
    _do(runner, "fine")
    with pytest.raises(ConfigurationError, match=r"Odd\.restore"):
        runner.restored(b"\xc1")
    assert runner.machine.count == 1  # type: ignore[attr-defined]
