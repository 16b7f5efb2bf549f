"""The driver of a lock cache where no cluster is needed; with one: test_lock_client."""

import asyncio
import logging
from typing import Any

import pytest

from viewstamp.clients.lock_driver import LockTimeout, _error_of
from viewstamp.clients.locks import LockClient
from viewstamp.clients.outcomes import outcome_of
from viewstamp.core.errors import (
    CommandFailed,
    ConfigurationError,
    NotExecuted,
    OutcomeUnknown,
    SessionExpired,
)
from viewstamp.runtime.addresses import LOOPBACK
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.services.lock_events import Ask, AskId, Failure
from viewstamp.services.lock_wire import answered
from viewstamp.services.locks import TooManyWaiters

NOBODY = ClusterConfig(cluster_id="nobody", members=(Member(1, LOOPBACK, 1),))
"""A cluster whose one member does not answer."""
ASK = Ask(AskId(1), "acquire", "a", 1)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (CommandFailed("InvalidName", "long"), Failure("raised", "InvalidName", "long")),
        (SessionExpired("gone"), Failure("session_expired", "", "gone")),
        (OutcomeUnknown("lost"), Failure("unknown", "", "lost")),
        (NotExecuted("closed"), Failure("not_executed", "", "closed")),
    ],
)
async def test_an_exception_of_a_call_is_what_it_says(error: Exception, failure: Failure) -> None:
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    assert answered(ASK, outcome_of(future)).answer == failure


async def test_a_cancelled_call_was_not_executed() -> None:
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    future.cancel()
    answer = answered(ASK, outcome_of(future)).answer
    assert isinstance(answer, Failure)
    assert answer.outcome == "not_executed"


def test_a_refusal_is_the_services_own_exception() -> None:
    assert isinstance(_error_of(Failure("raised", "TooManyWaiters", "full")), TooManyWaiters)
    assert isinstance(_error_of(Failure("raised", "Strange", "?")), CommandFailed)
    assert isinstance(_error_of(Failure("not_executed", "", "closed")), NotExecuted)


async def test_waiting_ends_in_time_when_no_server_answers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "viewstamp.locks"):
        async with LockClient(NOBODY) as locks:
            with pytest.raises(LockTimeout) as caught:
                await locks.acquire("a", timeout_s=0.05)
            assert isinstance(caught.value, NotExecuted)
    assert "not all locks went back within 0.5 s" in caplog.text


@pytest.mark.parametrize(
    "setting", [{"retry_s": 0}, {"retry_s": float("nan")}, {"retry_s": float("inf")}, {"label": "\ud800"}]
)
def test_a_setting_is_refused_when_it_makes_no_sense(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        LockClient(NOBODY, **setting)
