"""What goes between a lock cache and the service: calls, answers, notifications."""

import msgspec
import pytest

from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.events import Failed, Outcome, Raised, Returned
from viewstamp.services.lock_events import Ask, AskId, Failure
from viewstamp.services.lock_wire import INVALID_CALL, answered, notice_of, payload_of
from viewstamp.services.locks import Acquired, LockService, Released, Retry, Revoke
from viewstamp.services.stock import StockService

ACQUIRE = Ask(AskId(1), "acquire", "a", 7, "me")
RELEASE = Ask(AskId(2), "release", "a", 7)


@pytest.mark.parametrize("ask", [ACQUIRE, RELEASE])
def test_a_call_is_what_the_machine_takes(ask: Ask) -> None:
    for machine, part in ((LockService, ""), (StockService, "locks")):
        definition = MachineDefinition.of(machine)
        arguments = definition.decode("command", payload_of(ask, part))
        assert (arguments.name, arguments.sequence) == ("a", 7)


@pytest.mark.parametrize(
    ("ask", "outcome", "answer"),
    [
        (
            ACQUIRE,
            Returned(msgspec.msgpack.encode(("granted", 9, True)), 0),
            Acquired("granted", 9, wanted=True),
        ),
        (RELEASE, Returned(msgspec.msgpack.encode("withdrawn"), 0), "withdrawn"),
        (ACQUIRE, Raised("InvalidName", "too long"), Failure("raised", "InvalidName", "too long")),
        (ACQUIRE, Failed("invalid", "no such"), Failure("raised", INVALID_CALL, "no such")),
        (ACQUIRE, Failed("unknown", "lost"), Failure("unknown", "", "lost")),
        (RELEASE, Failed("session_expired", "gone"), Failure("session_expired", "", "gone")),
        (RELEASE, Failed("not_executed", "closed"), Failure("not_executed", "", "closed")),
    ],
)
def test_the_end_of_a_call_is_an_answer(
    ask: Ask, outcome: Outcome, answer: Acquired | Released | Failure
) -> None:
    assert answered(ask, outcome).answer == answer


@pytest.mark.parametrize("notice", [Revoke("a", 1, 2), Retry("a", 1, 2, wanted=True)])
def test_a_notification_is_known_again(notice: Revoke | Retry) -> None:
    assert notice_of(msgspec.msgpack.encode(notice)) == notice


@pytest.mark.parametrize("payload", [b"", b"\xc1", msgspec.msgpack.encode(["other", 1]), b"\x91" * 5_000])
def test_a_notification_of_another_machine_is_none(payload: bytes) -> None:
    assert notice_of(payload) is None
