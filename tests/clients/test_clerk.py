"""The clerk of 6.5840: each row of its table, and what a lost answer does (docs/faults.md#k23, #k24)."""

from collections.abc import Callable
from typing import Literal

import msgspec
import pytest

from viewstamp.clients.clerk import Clerk, Maybe, PutProgress, Verdict
from viewstamp.core.errors import CommandFailed, NotExecuted, OutcomeUnknown
from viewstamp.core.messages import RESULT
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.runner import MachineRunner
from viewstamp.replica.events import Failed, Outcome, Raised, Returned
from viewstamp.services.kv import InvalidKey, KeyValueStore, NoKey, VersionMismatch

OK = Returned(b"\x01", 0)
NO_KEY = Raised("NoKey", "")
MISMATCH = Raised("VersionMismatch", "")
LOST = Failed("unknown", "no answer")
TURNED_AWAY = Failed("not_executed", "another node leads")

Fate = Literal["answered", "answer lost", "turned away", "never sent"]


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([OK], "ok"),
        ([NO_KEY], "no_key"),
        ([MISMATCH], "version_mismatch"),
        ([TURNED_AWAY, MISMATCH], "version_mismatch"),
        ([LOST, OK], "ok"),
        ([LOST, MISMATCH], "maybe"),
        ([LOST, NO_KEY], "no_key"),
        ([LOST, TURNED_AWAY, MISMATCH], "maybe"),
        ([TURNED_AWAY, LOST, TURNED_AWAY, MISMATCH], "maybe"),
        ([Raised("InvalidKey", "")], "invalid"),
        ([Failed("invalid", "")], "invalid"),
        ([Failed("session_expired", ""), MISMATCH], "version_mismatch"),
    ],
)
def test_a_put_ends_as_the_table_says(outcomes: list[Outcome], verdict: Verdict) -> None:
    progress = PutProgress()
    *earlier, last = outcomes
    assert [progress.conclude(outcome) for outcome in earlier] == [None] * len(earlier)
    assert progress.conclude(last) == verdict
    assert progress.attempts == len(outcomes)


class Network:
    """A store at the far end, and a fate for each attempt; without one, attempts are answered."""

    def __init__(self, *fates: Fate) -> None:
        self.host = MachineRunner(MachineDefinition.of(KeyValueStore))
        self.fates: list[Fate] = list(fates)
        self.pauses: list[float] = []
        self.attempts = 0

    async def attempt(self, kind: Literal["command", "linearizable"], payload: bytes) -> bytes:
        self.attempts += 1
        fate = self.fates.pop(0) if self.fates else "answered"
        if fate == "turned away":
            raise NotExecuted("not executed: another node leads")
        if fate == "never sent":
            raise OutcomeUnknown("outcome unknown: the request was lost")
        answer = self._execute(kind, payload)
        if fate == "answer lost":
            raise OutcomeUnknown("outcome unknown: the answer was lost")
        return answer()

    def _execute(self, kind: Literal["command", "linearizable"], payload: bytes) -> Callable[[], bytes]:
        definition = self.host.definition
        arguments = definition.decode("command" if kind == "command" else "query", payload)
        ended, encoded = self.host.run(arguments)

        def answer() -> bytes:
            if ended != RESULT:
                raise CommandFailed(*msgspec.msgpack.decode(encoded, type=tuple[str, str]))
            return encoded

        return answer

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def clerk(self, attempts_max: int | None = None) -> Clerk:
        return Clerk(self.attempt, attempts_max=attempts_max, pause=self.pause)


async def test_a_clerk_puts_and_gets_when_nothing_is_lost() -> None:
    network = Network()
    clerk = network.clerk()
    await clerk.put("k", b"one", 0)
    await clerk.put("k", b"two", 1)
    assert await clerk.get("k") == (b"two", 2)
    with pytest.raises(VersionMismatch):
        await clerk.put("k", b"x", 1)
    with pytest.raises(NoKey):
        await clerk.put("other", b"x", 1)
    with pytest.raises(NoKey):
        await clerk.get("other")
    assert network.attempts == 6
    assert network.pauses == []


async def test_a_put_is_maybe_when_its_own_lost_attempt_may_have_written() -> None:
    network = Network("answered", "answer lost")
    clerk = network.clerk()
    await clerk.put("k", b"one", 0)
    with pytest.raises(Maybe):
        await clerk.put("k", b"two", 1)
    assert await clerk.get("k") == (b"two", 2), "with one client, maybe on a right version means it happened"
    with pytest.raises(VersionMismatch):
        await clerk.put("k", b"x", 1)


async def test_a_put_succeeds_when_only_the_request_was_lost() -> None:
    network = Network("never sent", "turned away", "never sent")
    await network.clerk().put("k", b"one", 0)
    assert network.attempts == 4


async def test_a_mismatch_is_certain_when_every_earlier_attempt_was_turned_away() -> None:
    network = Network("answered", "turned away", "turned away")
    clerk = network.clerk()
    await clerk.put("k", b"one", 0)
    with pytest.raises(VersionMismatch):
        await clerk.put("k", b"x", 7)


async def test_a_get_is_repeated_until_it_is_answered() -> None:
    network = Network("answered", "never sent", "answer lost", "turned away")
    clerk = network.clerk()
    await clerk.put("k", b"one", 0)
    assert await clerk.get("k") == (b"one", 1)
    assert network.attempts == 5


async def test_a_clerk_waits_longer_and_longer_and_gives_up_when_told_to() -> None:
    fates: list[Fate] = ["turned away"] * 30
    network = Network(*fates)
    with pytest.raises(NotExecuted, match="none of which was executed"):
        await network.clerk(attempts_max=12).put("k", b"x", 0)
    assert network.pauses == sorted(network.pauses)
    assert network.pauses[-1] == 1.0
    with pytest.raises(NotExecuted, match="no answer in 3 attempts"):
        await network.clerk(attempts_max=3).get("k")


async def test_giving_up_is_maybe_when_an_attempt_may_have_been_executed() -> None:
    network = Network("answer lost", "turned away")
    with pytest.raises(Maybe):
        await network.clerk(attempts_max=2).put("k", b"x", 0)


async def test_a_refused_key_is_not_tried_again() -> None:
    network = Network()
    with pytest.raises(CommandFailed, match="InvalidKey") as caught:
        await network.clerk().put("", b"x", 0)
    assert caught.value.kind == InvalidKey.__name__
    assert network.attempts == 1


@pytest.mark.parametrize("errors", [(NoKey("x"), NoKey), (VersionMismatch("x"), VersionMismatch)])
async def test_the_stores_own_exceptions_are_understood_too(
    errors: tuple[Exception, type[Exception]],
) -> None:
    raised, expected = errors

    async def attempt(kind: Literal["command", "linearizable"], payload: bytes) -> bytes:
        raise raised

    with pytest.raises(expected):
        await Clerk(attempt).put("k", b"x", 3)


async def test_a_call_that_no_server_understands_is_not_tried_again() -> None:
    async def attempt(kind: Literal["command", "linearizable"], payload: bytes) -> bytes:
        raise CommandFailed("UnencodableResult", "x")

    with pytest.raises(CommandFailed):
        await Clerk(attempt).get("k")
