"""What a task holds: its token, what is known of it, and a guard that cancels the task when in doubt."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Final, Generic, Literal, Protocol, TypeAlias, TypeVar, get_args

from viewstamp.core.errors import ConfigurationError, InvalidCall, NotExecuted, ViewstampError
from viewstamp.machine.state_machine import StateMachine
from viewstamp.services.recipes.keeper_events import ClaimId, Request

LOG: Final = logging.getLogger("viewstamp.recipes")

Standing: TypeAlias = Literal["held", "doubtful", "lost", "released"]
OnLoss: TypeAlias = Literal["cancel", "ignore"]
"""cancel: the guarded task is cancelled when what it holds is doubtful or lost. ignore: it goes on."""


S = TypeVar("S", bound=StateMachine)


class Driver(Protocol):
    """What a claim needs of its client (`claim_driver.ClaimDriver`)."""

    def standing_of(self, claim: ClaimId) -> Standing:
        """Return what is known of a claim that was granted. In any thread."""
        ...

    def leave(self, claim: ClaimId, arguments: tuple[Any, ...] = ()) -> None:
        """Give a claim back."""
        ...

    def forget(self, held: "HeldClaim") -> None:
        """The service has confirmed that it no longer has this claim."""
        ...

    async def left(self, claim: ClaimId) -> None:
        """Wait until the cluster has confirmed that a claim is given back."""
        ...

    async def renew(self, held: "HeldClaim", request: Request) -> Any:
        """Ask for what is held again, with this request."""
        ...

    def proxy(self, part: str, service: type[S]) -> type[S]:
        """Return a proxy of a recipe's service."""
        ...


class ClaimTimeout(NotExecuted, TimeoutError):
    """It was not granted in time. This client waits no longer, and tells the cluster until that confirms."""


def not_in_time(what: str, name: str, timeout_s: float | None) -> ClaimTimeout:
    """Return the error for a claim that was given up."""
    return ClaimTimeout(f"the {what} {name!r} was not granted within {timeout_s:g} s: it is withdrawn")


class ClaimLost(ViewstampError):
    """What was held is doubtful or lost: another may hold it. What was done under it may have happened."""

    def __init__(self, what: str, name: str, token: int, standing: Standing) -> None:
        super().__init__(
            f"the {what} {name!r} (token {token}) is {standing}: another may hold it; "
            "what was done under it may have taken effect"
        )
        self.name = name
        self.token = token
        self.standing: Standing = standing


class HeldClaim:
    """Something that was granted. Leave its block, or `release` it.

    All of it belongs to the loop of its client, but for `standing`, `certain` and `raise_if_lost`.
    """

    def __init__(self, driver: Driver, what: str, claim: ClaimId, request: Request, answer: Any) -> None:
        self._driver = driver
        self.what: Final = what
        """The recipe, in a word."""
        self.claim: Final = claim
        self.request = request
        self.answer = answer
        """The service's last answer."""
        self._why_lost = ""
        self.lost_as = ""
        """The service's exception with which it was lost, by name; empty where there was none."""
        self._released = False
        self._callbacks: list[Callable[[Standing], None]] = []
        self._waiters: list[tuple[tuple[Standing, ...], asyncio.Future[Standing]]] = []

    def __repr__(self) -> str:
        return f"<{self.what} {self.name!r}, token {self.token}, {self.standing}>"

    @property
    def name(self) -> str:
        """What is held."""
        return self.request.name

    @property
    def token(self) -> int:
        """The fencing token: send it along with every change of what this protects (`clients.fencing`)."""
        return int(self.answer.token)

    @property
    def standing(self) -> Standing:
        """What is known of it now.

        held: nobody else has it. doubtful: the cluster has not confirmed it within nine tenths of the
        session's life (or of the lease), and another may have it. lost: another may have it, and this one
        does not come back. released: this process gave it back.
        """
        if self._released:
            return "released"
        return "lost" if self._why_lost else self._driver.standing_of(self.claim)

    @property
    def certain(self) -> bool:
        """Whether nobody else has it, as far as a clock can tell at this moment."""
        return self.standing == "held"

    @property
    def why_lost(self) -> str:
        """Why it was lost; empty where it was not."""
        return self._why_lost

    def raise_if_lost(self) -> None:
        """Raise `ClaimLost` unless it is held for certain. Call it before what cannot be undone."""
        standing = self.standing
        if standing != "held":
            raise ClaimLost(self.what, self.name, self.token, standing)

    def on_change(self, callback: Callable[[Standing], None]) -> None:
        """Call this, on the client's loop, whenever the standing changes. What it raises is logged."""
        self._callbacks.append(callback)

    async def until(self, *standings: Standing) -> Standing:
        """Wait until it stands like one of these, and return which."""
        if self.standing in standings:
            return self.standing
        future: asyncio.Future[Standing] = asyncio.get_running_loop().create_future()
        entry = standings, future
        self._waiters.append(entry)
        try:
            return await future
        finally:
            if entry in self._waiters:
                self._waiters.remove(entry)

    def release(self) -> None:
        """Give it back. May be repeated. The cluster is told until it confirms."""
        if not self._released:
            arguments = self._parting()
            self._released = True
            self._driver.leave(self.claim, arguments)
            self.stands("released")

    def _parting(self) -> tuple[Any, ...]:
        """Return what the service is told beside that it is given back."""
        return ()

    async def given_back(self) -> None:
        """Release it, and wait until the cluster has confirmed that."""
        self.release()
        await self._driver.left(self.claim)

    # For the driver

    def stands(self, standing: Standing, why: str = "") -> None:
        """The standing changed. For the driver."""
        if standing == "lost":
            self._why_lost = why or "it is lost"
        for standings, future in [*self._waiters]:
            if standing in standings and not future.done():
                future.set_result(standing)
        for callback in [*self._callbacks]:
            try:
                callback(standing)
            except Exception:  # the other callbacks, and the client's other claims, must hear of theirs
                LOG.exception(
                    "a callback of the %s %r failed: it had been told %s", self.what, self.name, standing
                )


H = TypeVar("H", bound=HeldClaim)


class Guard(Generic[H]):
    """Something that is wanted: await it, or enter it so that it goes back at the end of the block.

    Inside the block the task is cancelled when what it holds is doubtful or lost, and the block ends in
    `ClaimLost`. An awaited one cancels nothing: ask `standing`, or wait with `until`.
    It serves one block at a time.
    """

    def __init__(self, acquire: Callable[[], Awaitable[H]], on_loss: OnLoss = "cancel") -> None:
        """`acquire` claims it.

        Raises:
            ConfigurationError: `on_loss` is another word. Nothing was claimed.
        """
        if on_loss not in get_args(OnLoss):
            raise ConfigurationError(
                f"on_loss is {on_loss!r}: give 'cancel' or 'ignore'; nothing was claimed"
            )
        self._acquire = acquire
        self._on_loss: OnLoss = on_loss
        self._in_use = False
        self._held: H | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._lost_as: Standing | None = None

    def __await__(self) -> Generator[Any, None, H]:
        return self._acquire().__await__()

    async def __aenter__(self) -> H:
        """Claim it.

        Raises:
            InvalidCall: a block runs under this guard: make one for each block. Nothing was claimed.
        """
        if self._in_use:
            raise InvalidCall("this guard is in use: make one for each block; nothing was claimed")
        self._in_use = True
        self._lost_as = None
        try:
            held = self._held = await self._acquire()
        except BaseException:
            self._in_use = False
            raise
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        held.on_change(self._changed)
        if not held.certain:  # it changed before anybody listened
            self._changed(held.standing)
        return held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, task = self._held, self._task
        assert held is not None
        assert task is not None
        lost_as, self._task = self._lost_as, None
        try:
            await self._leave(held, error)
        except asyncio.CancelledError:
            if lost_as is None:
                raise
        finally:
            self._in_use = False
        if lost_as is None:
            return
        if task.uncancel() > self._cancelling:
            raise asyncio.CancelledError  # somebody else cancelled it as well
        if error is None or isinstance(error, asyncio.CancelledError):
            raise ClaimLost(held.what, held.name, held.token, lost_as) from None

    async def _leave(self, held: H, error: BaseException | None) -> None:
        """Give it back; where the task was cancelled without noticing, let it notice here."""
        held.release()
        if self._lost_as is not None and error is None:
            await asyncio.sleep(0)

    def _changed(self, standing: Standing) -> None:
        if standing in {"held", "released"} or self._on_loss == "ignore":
            return
        if self._task is not None and self._lost_as is None:
            self._lost_as = standing
            self._task.cancel()
