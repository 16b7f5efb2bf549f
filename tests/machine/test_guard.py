"""The guard: what a command calls, also by way of a library."""

import copy
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import Random
from types import ModuleType
from typing import Any

import pytest

import viewstamp
from viewstamp.core.ids import LogTime, Seqno, View, Viewstamp
from viewstamp.core.judge import InvariantViolated
from viewstamp.core.messages import FAILED, RESULT
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.guard import ForbiddenCall, Guard
from viewstamp.machine.runner import MachineRunner
from viewstamp.machine.state_machine import StateMachine, command

LOG = logging.getLogger("tests.guard")


def module(name: str) -> ModuleType:
    """Hide a module from the refusal, which reads names."""
    return {one.__name__: one for one in _modules()}[name]


def _modules() -> list[ModuleType]:
    import os
    import random
    import socket
    import subprocess
    import threading
    import time

    return [os, random, socket, subprocess, threading, time]


@dataclass(frozen=True)
class Key:
    name: str


class Careless(StateMachine):
    last: str = ""

    @command
    def do(self, what: str) -> str:
        self.last = str(DOINGS[what](self))
        return self.last


def draws_well(machine: StateMachine) -> float:
    return Random(3).random() + machine.context.random.random()


def logs(_machine: StateMachine) -> None:
    LOG.warning("a line")


def imports(_machine: StateMachine) -> Any:
    import colorsys

    return colorsys.rgb_to_hls(0, 0, 0)


DOINGS: dict[str, Callable[[Any], Any]] = {
    "VS001 time.time": lambda _: module("time").time(),
    "VS001 datetime.now": lambda _: datetime.now(),  # noqa: DTZ005, TID251
    "VS002 random.random": lambda _: module("random").random(),
    "VS002 randint": lambda _: module("random").randint(1, 6),
    "VS002 uuid4": lambda _: uuid.uuid4(),  # noqa: TID251
    "VS002 unseeded": lambda _: Random().random(),
    "VS004 id": lambda machine: id(machine),  # noqa: PLW0108
    "VS004 hash": lambda machine: hash(machine.last),
    "VS010 thread": lambda _: module("threading").Thread(target=print),
    "VS011 open": lambda _: open(__file__),  # noqa: PTH123, SIM115
    "VS011 socket": lambda _: module("socket").create_connection(("127.0.0.1", 1)),
    "VS011 process": lambda _: module("subprocess").run(["true"], check=False),
    "VS012 environment": lambda _: module("os").getenv("HOME"),
    "right draws": draws_well,
    "right logs": logs,
    "right imports": imports,
    "right copies": lambda _: copy.deepcopy([[1], {2: [3]}]),
    "right keys": lambda _: {Key("a"): 1}[Key("a")],
    "right numbers": lambda machine: hash(machine.context.now),
    "right paths": lambda _: module("os").path.join("a", "b"),
}


def run(what: str, *, is_fatal: bool = False) -> tuple[int, bytes, Guard]:
    definition = MachineDefinition.of(Careless)
    guard = Guard(Careless, is_fatal=is_fatal)
    runner = MachineRunner(definition, guard=guard)
    arguments = definition.decode("command", definition.methods["do"].encode_call((what,), {}))
    runner.begin_entry(Viewstamp(View(1), Seqno(1)), LogTime(5))
    try:
        kind, payload = runner.run(arguments)
    finally:
        runner.end_entry()
    return kind, payload, guard


@pytest.mark.parametrize("what", [name for name in DOINGS if name.startswith("VS")])
def test_rule_and_line_are_named_when_a_command_calls_what_differs(what: str) -> None:
    kind, payload, guard = run(what)
    assert kind == FAILED
    assert b"ForbiddenCall" in payload
    assert [finding.rule.code for finding in guard.findings] == [what.split(maxsplit=1)[0]]
    assert guard.findings[0].file == __file__
    assert what in line_of(guard.findings[0].line)


def line_of(number: int) -> str:
    with open(__file__) as source:  # noqa: PTH123
        return source.read().splitlines()[number - 1]


@pytest.mark.parametrize("what", [name for name in DOINGS if name.startswith("right")])
def test_nothing_is_found_when_a_command_is_right(what: str) -> None:
    kind, _, guard = run(what)
    assert guard.findings == []
    assert kind == RESULT


def test_run_ends_when_the_guard_is_of_the_simulator() -> None:
    with pytest.raises(InvariantViolated, match=r"time\.time") as violated:
        run("VS001 time.time", is_fatal=True)
    assert violated.value.name == "VS001 clock"


def test_client_gets_the_line_when_a_guarded_cluster_runs_its_command() -> None:
    with viewstamp.local_cluster(Careless, replicas=1, guard=True) as cluster, cluster.connect() as careless:
        with pytest.raises(viewstamp.CommandFailed, match="VS002 entropy") as failed:
            careless.do("VS002 randint")
        assert failed.value.kind == "ForbiddenCall"
        assert careless.do("right draws")


def test_lock_is_free_again_when_its_use_was_forbidden() -> None:
    guard, lock = Guard(Careless), module("threading").Lock()

    def use(_: Any) -> tuple[int, bytes]:
        with lock:
            pass
        return RESULT, b""

    with pytest.raises(ForbiddenCall, match="VS010"):
        guard.watched(use)(None)
    assert lock.acquire(blocking=False)
