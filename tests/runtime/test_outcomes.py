import copy
from typing import Any, ClassVar

import msgspec
import pytest

from viewstamp.core.errors import (
    CallError,
    CommandFailed,
    InvalidCall,
    NotExecuted,
    OutcomeUnknown,
    PermissionDenied,
    SessionExpired,
)
from viewstamp.core.ids import NodeId
from viewstamp.machine.access import Denial
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine, command, compose
from viewstamp.replica.events import Failed, Raised, Returned
from viewstamp.runtime.client_base import NO_ERRORS, Errors, failure_of, result_of


class Empty(Exception):
    pass


class Picky(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(one, two)


class Box(StateMachine):
    raises: ClassVar[tuple[type[Exception], ...]] = (Empty, Picky)
    size: int = 0

    @command
    def put(self) -> int:
        return self.size


METHOD = MachineDefinition.of(Box).methods["put"]


def test_result_is_decoded_by_its_type_when_there_is_one() -> None:
    assert result_of(Returned(msgspec.msgpack.encode(5), 0), METHOD) == 5
    assert result_of(Returned(b"\x05", 0), None) == b"\x05"


@pytest.mark.parametrize("payload", [b"\xa1x", b"\xc1", b""])
def test_outcome_is_unknown_when_the_result_is_of_another_type(payload: bytes) -> None:
    with pytest.raises(OutcomeUnknown, match="not of the declared type"):
        result_of(Returned(payload, 0), METHOD)


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        ("not_executed", NotExecuted),
        ("invalid", InvalidCall),
        ("denied", PermissionDenied),
        ("session_expired", SessionExpired),
        ("unknown", OutcomeUnknown),
    ],
)
def test_failure_is_the_exception_that_says_whether_it_happened(outcome: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="why") as caught:
        result_of(Failed(outcome, "why"), METHOD)
    assert type(caught.value) is error


@pytest.mark.parametrize("machine", [Box, compose(box=Box)])
def test_declared_exception_is_raised_when_the_machine_raised_it(machine: type[StateMachine]) -> None:
    with pytest.raises(Empty, match="nothing here"):
        result_of(Raised("Empty", "nothing here"), METHOD, Errors(machine))


@pytest.mark.parametrize("kind", ["KeyError", "SystemExit", "Picky", "__class__"])
def test_command_failed_is_raised_when_the_exception_is_not_one_that_can_be_made(kind: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        result_of(Raised(kind, "text"), METHOD, Errors(Box))
    assert (caught.value.kind, caught.value.explanation) == (kind, "text")


def test_command_failed_is_raised_when_nothing_was_declared() -> None:
    with pytest.raises(CommandFailed):
        result_of(Raised("Empty", ""), METHOD, NO_ERRORS)


@pytest.mark.parametrize(
    ("outcome", "executed", "retry"),
    [
        ("not_executed", False, True),
        ("invalid", False, False),
        ("session_expired", False, True),
        ("unknown", None, False),
    ],
)
def test_what_to_do_is_data_when_a_call_has_no_result(
    outcome: Any, executed: bool | None, retry: bool
) -> None:
    failed = Failed(outcome, "why", (NodeId(2),), (NodeId(3),))
    with pytest.raises(CallError) as caught:
        result_of(failed, METHOD)
    error = caught.value
    assert (error.executed, error.retry) == (executed, retry)
    assert (error.unreachable, error.silent, error.method) == ((2,), (3,), "put")
    again = copy.copy(error)
    assert (type(again), vars(again), str(again)) == (type(error), vars(error), str(error))


def test_a_command_that_failed_was_executed() -> None:
    with pytest.raises(CommandFailed) as caught:
        result_of(Raised("KeyError", "x"), METHOD)
    assert (caught.value.executed, caught.value.retry, caught.value.method) == (True, False, "put")
    assert vars(copy.copy(caught.value)) == vars(caught.value)


def test_a_wrong_call_is_not_caught_as_an_outage() -> None:
    assert not issubclass(InvalidCall, NotExecuted)
    assert issubclass(InvalidCall, TypeError)


def test_a_denial_is_data_for_its_caller() -> None:
    denial = Denial("client/a", "set", "key", "other")
    error = failure_of(Failed("denied", denial.text, denial=denial), NO_ERRORS, "set")
    assert isinstance(error, PermissionDenied)
    assert (error.executed, error.retry) == (False, False)
    assert (error.principal, error.method, error.missing, error.key) == ("client/a", "set", "key", "other")
    assert str(error) == denial.text
