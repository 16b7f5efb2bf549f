"""A query cannot change the state: refused where it assigns, found where it changes a container."""

from typing import Any

import msgspec
import pytest

from viewstamp.core.ids import LogTime, Seqno, View, Viewstamp
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.messages import FAILED, RESULT
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.runner import MachineRunner
from viewstamp.machine.state_machine import StateMachine, command, compose, query

AT = Viewstamp(View(1), Seqno(1))


class Shelf(StateMachine):
    count: int = 0
    items: dict[str, int] = {}  # noqa: RUF012  copied for each instance

    @command
    def put(self, name: str) -> int:
        self.count += 1
        self.items[name] = self.count
        return self.count

    @query
    def size(self) -> int:
        return len(self.items)

    @query
    def assigns(self) -> int:
        self.count += 1
        return self.count

    @query
    def deletes(self) -> int:
        del self.count
        return 0

    @query
    def reaches_in(self) -> int:
        self.items["x"] = 1
        return len(self.items)


class SavesItself(StateMachine):
    def __init__(self) -> None:
        self.seen: list[int] = []

    @command
    def add(self, number: int) -> None:
        self.seen.append(number)

    @query
    def pops(self) -> int:
        self.seen.append(0)
        return len(self.seen)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.seen)

    def restore(self, snapshot: bytes) -> None:
        self.seen = msgspec.msgpack.decode(snapshot, type=list[int])


def runner_of(machine: type[StateMachine], *, strict: bool = True) -> MachineRunner:
    return MachineRunner(MachineDefinition.of(machine), strict=strict)


def ask(runner: MachineRunner, method: str) -> tuple[int, Any]:
    runner.begin_queries(AT, LogTime(5))
    kind, payload = runner.run(runner.definition.methods[method].arguments())
    runner.end_queries()
    return kind, msgspec.msgpack.decode(payload)


def put(runner: MachineRunner, method: str, argument: Any) -> int:
    runner.begin_entry(AT, LogTime(5))
    kind, _ = runner.run(runner.definition.methods[method].arguments(argument))
    runner.end_entry()
    return kind


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("method", ["assigns", "deletes"])
def test_a_query_fails_when_it_assigns_an_attribute(method: str, strict: bool) -> None:
    runner = runner_of(Shelf, strict=strict)
    put(runner, "put", "a")
    before = b"".join(runner.pieces())
    kind, (name, text) = ask(runner, method)
    assert (kind, name) == (FAILED, "AttributeError")
    assert "a query may not change Shelf.count: make it a command" in text
    assert b"".join(runner.pieces()) == before
    assert put(runner, "put", "b") == RESULT, "commands may, before and after"


def test_a_query_of_a_part_fails_when_it_assigns_an_attribute() -> None:
    runner = runner_of(compose(left=Shelf, right=Shelf))
    assert ask(runner, "left.assigns")[0] == FAILED
    assert put(runner, "right.put", "a") == RESULT


@pytest.mark.parametrize(("machine", "method"), [(Shelf, "reaches_in"), (SavesItself, "pops")])
def test_a_strict_runner_finds_a_query_that_changes_a_container(
    machine: type[StateMachine], method: str
) -> None:
    with pytest.raises(InvariantViolated, match=f"the query {method} changes the state"):
        ask(runner_of(machine), method)


def test_a_strict_runner_stays_strict_when_it_is_restored() -> None:
    runner = runner_of(Shelf)
    restored = runner.restored(b"".join(runner.pieces()))
    assert ask(restored, "size") == (RESULT, 0)
    with pytest.raises(InvariantViolated, match="reaches_in"):
        ask(restored, "reaches_in")
