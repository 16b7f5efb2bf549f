"""What is held, and its guard, against a driver that is asked by hand."""

import asyncio
import logging
from typing import Any

import pytest

from viewstamp.clients.held_claim import ClaimLost, Guard, HeldClaim, Standing
from viewstamp.core.errors import ConfigurationError, InvalidCall
from viewstamp.machine.state_machine import StateMachine
from viewstamp.services.recipes.keeper_events import ClaimId, Request


class Answer:
    """What a service grants."""

    token = 7


class Driver:
    """Holds what a test says, and nothing else."""

    def __init__(self) -> None:
        self.standings: dict[ClaimId, Standing] = {}

    def standing_of(self, claim: ClaimId) -> Standing:
        return self.standings.get(claim, "held")

    def leave(self, claim: ClaimId, arguments: tuple[Any, ...] = ()) -> None:
        self.standings[claim] = "released"

    def forget(self, held: HeldClaim) -> None:
        raise AssertionError("nothing asks for it")

    async def left(self, claim: ClaimId) -> None:
        """Everything is given back at once."""

    async def renew(self, held: HeldClaim, request: Request) -> Any:
        raise AssertionError("nothing asks for it")

    def proxy(self, part: str, service: type[StateMachine]) -> Any:
        raise AssertionError("nothing asks for it")


class Town:
    """Grants claims one after the other."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.granted: list[HeldClaim] = []

    def grant(self) -> HeldClaim:
        request = Request("locks", "acquire", "release", "a", ())
        claim = ClaimId(len(self.granted) + 1)
        held = HeldClaim(self.driver, "lock", claim, request, Answer())
        self.granted.append(held)
        return held

    async def acquire(self) -> HeldClaim:
        await asyncio.sleep(0)
        return self.grant()

    @property
    def out(self) -> int:
        """How many are granted and not given back."""
        return sum(held.standing != "released" for held in self.granted)


def test_a_callback_that_fails_keeps_nobody_else_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    held = Town().grant()
    heard: list[Standing] = []

    def fail(standing: Standing) -> None:
        raise ValueError(standing)

    held.on_change(fail)
    held.on_change(heard.append)
    with caplog.at_level(logging.ERROR):
        held.stands("doubtful")
        held.release()
    assert heard == ["doubtful", "released"]
    assert [record.getMessage() for record in caplog.records] == [
        "a callback of the lock 'a' failed: it had been told doubtful",
        "a callback of the lock 'a' failed: it had been told released",
    ]


async def test_a_guard_serves_one_block_at_a_time() -> None:
    town = Town()
    guard = Guard(town.acquire)
    inside = asyncio.Event()

    async def first() -> None:
        async with guard:
            await inside.wait()

    async def entered() -> None:
        async with guard:
            pass

    running = asyncio.ensure_future(first())
    for _ in range(3):  # while it waits, and while it is held
        await asyncio.sleep(0)
        with pytest.raises(InvalidCall, match="in use: make one for each block; nothing was claimed"):
            await entered()
    inside.set()
    await running
    assert len(town.granted) == 1
    await entered()  # one block after the other
    assert len(town.granted) == 2
    assert town.out == 0


async def test_a_guard_that_got_nothing_may_be_entered_again() -> None:
    town = Town()
    refusals = [TimeoutError()]

    async def acquire() -> HeldClaim:
        if refusals:
            raise refusals.pop()
        return await town.acquire()

    guard = Guard(acquire)
    with pytest.raises(TimeoutError):
        await guard.__aenter__()
    async with guard as held:
        assert held.certain
    assert town.out == 0


async def test_a_loss_in_one_block_is_not_that_of_the_next() -> None:
    town = Town()
    guard = Guard(town.acquire)

    async def lose() -> None:
        async with guard as held:
            held.stands("lost", "for a test")
            await asyncio.Event().wait()

    for _ in range(2):
        with pytest.raises(ClaimLost):
            await lose()
    async with guard:
        await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("word", ["stop", "Cancel", "", None, 1])
def test_a_guard_refuses_what_would_disarm_it(word: Any) -> None:
    with pytest.raises(ConfigurationError, match="give 'cancel' or 'ignore'; nothing was claimed"):
        Guard(Town().acquire, word)
