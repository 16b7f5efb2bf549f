"""The clerk of 6.5840: at-most-once puts by versions, without sessions; `Maybe` where the fate is unknown.

Each attempt is one call of a client made with `exactly_once=False`: executed at most once, and it says of
itself whether it may have been. `PutProgress` is all of the logic, without input or output; `Clerk` is its
async surface. Source: MIT 6.5840, labs 2 and 4.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal, NoReturn, TypeAlias

from viewstamp.core.errors import CommandFailed, NotExecuted, OutcomeUnknown
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.events import Failed, Outcome, Raised, Returned
from viewstamp.services.kv import KeyValueStore, NoKey, VersionMismatch

Attempt: TypeAlias = Callable[[Literal["command", "linearizable"], bytes], Awaitable[bytes]]
"""Makes a call, bounded in time, and returns its encoded result: such as `AsyncClient.invoke`."""
Pause: TypeAlias = Callable[[float], Awaitable[None]]

Verdict = Literal["ok", "no_key", "version_mismatch", "maybe", "invalid"]

_METHODS: Final = MachineDefinition.of(KeyValueStore).methods
_PAUSE_S: Final = 0.01
_PAUSE_S_MAX: Final = 1.0


class Maybe(OutcomeUnknown):
    """ErrMaybe: the put was or was not performed, by an attempt whose answer was lost."""


class PutProgress:
    """One put over its attempts. Feed it how each ended; it says how the put ended, or nothing yet."""

    __slots__ = ("attempts", "perhaps")

    def __init__(self) -> None:
        self.attempts = 0
        """How many have ended."""
        self.perhaps = False
        """An attempt without a result may have been executed, or may be later."""

    def conclude(self, outcome: Outcome) -> Verdict | None:
        """Take in the end of an attempt and return the verdict; None: make another attempt.

        A mismatch after an attempt that may have been executed may be that attempt's own doing: maybe. A
        missing key cannot be: had the attempt been executed, the key would exist (unless others delete).
        """
        self.attempts += 1
        match outcome:
            case Returned():
                return "ok"
            case Raised(kind="VersionMismatch"):
                return "maybe" if self.perhaps else "version_mismatch"
            case Raised(kind="NoKey"):
                return "no_key"
            case Raised() | Failed(outcome="invalid" | "denied"):
                return "invalid"
            case Failed():
                self.perhaps = self.perhaps or outcome.outcome == "unknown"
                return None


class Clerk:
    """Puts and gets against a replicated `KeyValueStore`, for which a lost answer is a fact of life."""

    __slots__ = ("_attempt", "_attempts_max", "_pause")

    def __init__(
        self, attempt: Attempt, *, attempts_max: int | None = None, pause: Pause = asyncio.sleep
    ) -> None:
        """`attempt` is a call of a client made with `exactly_once=False`; None: it never gives up."""
        self._attempt = attempt
        self._attempts_max = attempts_max
        self._pause = pause

    async def get(self, key: str) -> tuple[bytes, int]:
        """Return value and version, trying for as long as it takes.

        Raises:
            NoKey: the key does not exist.
            NotExecuted: `attempts_max` attempts ended without an answer.
        """
        payload = _METHODS["get"].encode_call((key,), {})
        attempts = 0
        while True:
            outcome = await self._outcome("linearizable", payload)
            if isinstance(outcome, Returned):
                result: tuple[bytes, int] = _METHODS["get"].decode_result(outcome.payload)
                return result
            if isinstance(outcome, Raised):
                _raise(outcome)
            attempts += 1
            if attempts == self._attempts_max:
                raise NotExecuted(f"no answer in {attempts} attempts: {outcome.reason}")
            await self._pause(_pause_s(attempts))

    async def put(self, key: str, value: bytes, version: int) -> None:
        """Write if the key has this version (0: if it does not exist), trying for as long as it takes.

        Raises:
            NoKey: it does not exist, and `version` is not 0.
            VersionMismatch: it has another version, and this put has certainly changed nothing.
            Maybe: it has another version, and this put may or may not have written.
            NotExecuted: `attempts_max` attempts ended, none of which can have been executed.
            CommandFailed: the store refused the key or the value.
        """
        payload = _METHODS["put"].encode_call((key, value, version), {})
        progress = PutProgress()
        while True:
            outcome = await self._outcome("command", payload)
            verdict = progress.conclude(outcome)
            if verdict == "ok":
                return
            if verdict is not None:
                _raise_verdict(verdict, outcome)
            if progress.attempts == self._attempts_max:
                _raise_exhausted(progress)
            await self._pause(_pause_s(progress.attempts))

    async def _outcome(self, kind: Literal["command", "linearizable"], payload: bytes) -> Outcome:
        try:
            return Returned(await self._attempt(kind, payload), 0)
        except (NoKey, VersionMismatch) as error:
            return Raised(type(error).__name__, str(error))
        except CommandFailed as error:
            return Raised(error.kind, error.explanation)
        except OutcomeUnknown as error:
            return Failed("unknown", str(error))
        except NotExecuted as error:
            return Failed("not_executed", str(error))


def _pause_s(attempts: int) -> float:
    return min(_PAUSE_S_MAX, _PAUSE_S * 2.0 ** min(attempts, 10))


def _raise(raised: Raised) -> NoReturn:
    if raised.kind == "NoKey":
        raise NoKey(raised.explanation)
    if raised.kind == "VersionMismatch":
        raise VersionMismatch(raised.explanation)
    raise CommandFailed(raised.kind, raised.explanation)


def _raise_verdict(verdict: Verdict, outcome: Outcome) -> NoReturn:
    if verdict == "maybe":
        raise Maybe("the key has another version, perhaps by an earlier attempt of this very put: read it")
    if isinstance(outcome, Raised):
        _raise(outcome)
    assert isinstance(outcome, Failed), outcome
    raise NotExecuted(outcome.reason)


def _raise_exhausted(progress: PutProgress) -> NoReturn:
    if progress.perhaps:
        raise Maybe(
            f"no answer in {progress.attempts} attempts, some of which may have been executed: read it"
        )
    raise NotExecuted(f"no answer in {progress.attempts} attempts, none of which was executed")
