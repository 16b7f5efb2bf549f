"""A keeper of claims on an async client: carries out what the keeper asks for. All of it on one loop.

A task that gives up, by a timeout or because it was cancelled, returns at once; its claim is withdrawn behind
it, and that is repeated until the cluster has confirmed it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar, assert_never

from viewstamp.clients.held_claim import HeldClaim, Standing, not_in_time
from viewstamp.clients.outcomes import outcome_of
from viewstamp.core.durations import number, wait_s
from viewstamp.core.errors import ConfigurationError, InvalidCall, NotExecuted, PermissionDenied
from viewstamp.core.events import Woke
from viewstamp.core.ids import MICROSECONDS_PER_SECOND, Instant
from viewstamp.machine.definition import UNSENDABLE, unsendable
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.events import Raised
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.client import AsyncClient, CallFuture
from viewstamp.runtime.client_base import Errors, with_session
from viewstamp.runtime.config import TlsFiles
from viewstamp.runtime.discovery import Where
from viewstamp.runtime.forks import used_after_fork
from viewstamp.runtime.proxies import make_proxy
from viewstamp.runtime.system import Clock, boottime_us
from viewstamp.runtime.tokens import TokenSource
from viewstamp.services.lock_events import Failure
from viewstamp.services.lock_wire import INVALID_CALL, PERMISSION_DENIED
from viewstamp.services.locks import LockService
from viewstamp.services.recipes.claim_wire import answered, notice_of, payload_of
from viewstamp.services.recipes.keeper import ClaimKeeper
from viewstamp.services.recipes.keeper_events import (
    Call,
    CallNumber,
    ClaimId,
    Closing,
    Entered,
    Finished,
    Forget,
    KeeperEffect,
    KeeperEvent,
    Leave,
    Left,
    Lost,
    Observed,
    Refused,
    Renew,
    Renewed,
    Request,
    Stands,
    Told,
    Want,
)
from viewstamp.services.recipes.names import Changed
from viewstamp.services.stock import RECIPES

LOG: Final = logging.getLogger("viewstamp.recipes")

CALL_TIMEOUT_S: Final = 10.0 * 365 * 86_400
"""Calls of a keeper end with their session at the latest."""
WATCH_US: Final = MICROSECONDS_PER_SECOND // 4
"""How often the session is looked at while there are claims: timers stand still while the machine does."""
GRACE_S: Final = 5.0
"""How long closing waits for releases; the end of the session gives back the rest."""
DOUBT_GRACE_S: Final = 0.5
"""The same while the session is in doubt."""

H = TypeVar("H", bound=HeldClaim)
S = TypeVar("S", bound=StateMachine)

_SERVICES: Final[dict[str, type[StateMachine]]] = {"locks": LockService, **RECIPES}
_ERRORS: Final = {part: Errors(service) for part, service in _SERVICES.items()}


class ClaimDriver:
    """The claims of one client of one cluster."""

    def __init__(
        self,
        where: Where,
        *,
        parts: Mapping[str, str] | None,
        retry_s: float | None,
        timeout_s: float,
        options: ClientOptions | None = None,
        session_s: float | None = None,
        token: TokenSource | None = None,
        tls: TlsFiles | None = None,
        clock: Clock = boottime_us,
    ) -> None:
        """Prepare it; `start` it on the loop that it shall run on.

        Raises:
            ConfigurationError: `where` names no cluster, or a setting makes no sense.
        """
        if retry_s is not None and not 0 < number(retry_s, "retry_s") <= CALL_TIMEOUT_S:
            raise ConfigurationError(f"retry_s is {retry_s}: give seconds, more than 0, or None for never")
        unknown = min(set(parts or {}) - set(_SERVICES), default=None)
        if unknown is not None:
            raise ConfigurationError(f"parts names {unknown!r}: there are {', '.join(_SERVICES)}")
        self._keeper = ClaimKeeper(None if retry_s is None else int(retry_s * MICROSECONDS_PER_SECOND))
        self.retry_s = retry_s
        self.client = AsyncClient(
            where,
            timeout_s=timeout_s,
            options=with_session(options, session_s),
            token=token,
            tls=tls,
            notified=self._notified,
            clock=clock,
        )
        self._parts = dict(parts or {})
        self._clock = clock
        self._started = False
        self._last = 0
        self._waiting: dict[ClaimId, tuple[asyncio.Future[Any], Request]] = {}
        self._held: dict[ClaimId, HeldClaim] = {}
        self._leaving: dict[ClaimId, asyncio.Future[None]] = {}
        self._renewing: dict[ClaimId, list[asyncio.Future[Any]]] = {}
        self._watchers: dict[tuple[str, str], list[asyncio.Event]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._seen: tuple[int | None, Instant | None] = (None, None)
        self._finished = asyncio.Event()
        self._closed = False

    async def start(self) -> None:
        """Find the cluster; raise `NotExecuted` if no server answers in time."""
        await self.client.start()
        self._started = True

    async def close(self, grace_s: float = GRACE_S) -> None:
        """Give everything back, what is in use as well, and end the session. May be repeated."""
        if self._closed:
            return
        self._closed = True
        if self._started:
            if not self._keeper.is_sure(self._clock()):
                grace_s = min(grace_s, DOUBT_GRACE_S)  # the cluster has not been heard from for long
            for held in [*self._held.values()]:
                held.stands("lost", "the client is closed")
            self._held.clear()
            self._feed(Closing())
            try:
                async with asyncio.timeout(grace_s):
                    await self._finished.wait()
            except TimeoutError:
                LOG.warning("not all went back within %g s: the end of the session does it", grace_s)
        if self._timer is not None:
            self._timer.cancel()
        await self.client.close()
        for left in self._leaving.values():
            _end(left, None)

    def proxy(self, part: str, service: type[S]) -> type[S]:
        """Return a proxy of a recipe's service."""
        proxy: type[S] = make_proxy(service, self.client, part=self._parts.get(part, part))
        return proxy

    # For tasks

    async def acquire(
        self, what: str, request: Request, make: Callable[..., H], *, timeout_s: float | None = None
    ) -> H:
        """Claim something and wait for it.

        Raises:
            ClaimTimeout: it was not granted in time.
            ConfigurationError: `timeout_s` is not a number of seconds.
            InvalidCall: the request cannot be sent, or the cluster does not offer this recipe.
            NotExecuted: the client is closed or was not started.
        """
        if self.client.is_parents:
            raise used_after_fork()
        if not self._started or self._closed:
            raise NotExecuted("the client is closed or was not started: nothing was claimed")
        within_s = wait_s(timeout_s)
        self._last += 1
        claim = ClaimId(self._last)
        _require_sendable(claim, request)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[claim] = future, request
        self._feed(Want(claim, request))
        try:
            async with asyncio.timeout(within_s):
                answer = await future
        except TimeoutError:
            self._give_up(claim)
            raise not_in_time(what, request.name, timeout_s) from None
        except BaseException:
            self._give_up(claim)
            raise
        held = make(self, what, claim, request, answer)
        if self._keeper.state_of(claim) == "held":
            self._held[claim] = held
        else:
            held.stands("lost", "it was lost before its task could run")
        return held

    async def renew(self, held: HeldClaim, request: Request) -> Any:
        """Ask for what is held again, with this request, and return the answer.

        Raises:
            NotExecuted: it is not held any longer.
        """
        if held.claim not in self._held or self._closed:
            raise NotExecuted(f"the {held.what} {held.name!r} is {held.standing}: nothing was changed")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._renewing.setdefault(held.claim, []).append(future)
        held.request = request
        self._feed(Renew(held.claim, request))
        return await future

    def leave(self, claim: ClaimId, arguments: tuple[Any, ...] = ()) -> None:
        """Give a claim back, with these arguments of its release. It is no longer told of anything."""
        self._held.pop(claim, None)
        if self._keeper.state_of(claim) != "none":
            self._leaving.setdefault(claim, asyncio.get_running_loop().create_future())
            self._feed(Leave(claim, arguments))

    def forget(self, held: HeldClaim) -> None:
        """The service has confirmed that it no longer has this claim."""
        if self._held.pop(held.claim, None) is not None:
            self._feed(Forget(held.claim))

    async def left(self, claim: ClaimId) -> None:
        """Wait until the cluster has confirmed that a claim is given back, or the client is closed."""
        leaving = self._leaving.get(claim)
        if leaving is not None:
            await asyncio.shield(leaving)

    def standing_of(self, claim: ClaimId) -> Standing:
        """Return what is known of a claim that was granted. In any thread."""
        return (
            "lost"
            if self._closed or self.client.is_parents
            else self._keeper.standing_of(claim, self._clock())
        )

    def watch(self, recipe: str, name: str) -> asyncio.Event:
        """Return an event that is set whenever a service says that this name changed."""
        event = asyncio.Event()
        self._watchers.setdefault((recipe, name), []).append(event)
        return event

    def unwatch(self, recipe: str, name: str, event: asyncio.Event) -> bool:
        """Set this event no more; return whether nobody else watches the name."""
        events = self._watchers[recipe, name]
        events.remove(event)
        if not events:
            del self._watchers[recipe, name]
        return not events

    @property
    def closed(self) -> bool:
        """Whether the client is closed: no call will be answered."""
        return self._closed

    @property
    def messages(self) -> int:
        """Calls for claims that this client has made so far."""
        return self._keeper.asked

    def _give_up(self, claim: ClaimId) -> None:
        self._waiting.pop(claim, None)
        self.leave(claim)

    # Steps

    def _feed(self, event: KeeperEvent) -> None:
        for effect in self._keeper.step(event, self._clock()):
            self._do(effect)
        self._arm_timer()

    def _do(self, effect: KeeperEffect) -> None:
        match effect:
            case Call():
                self._call(effect)
            case Entered():
                _end(self._waiting.pop(effect.claim)[0], effect.answer)
            case Renewed():
                self._renewed(effect)
            case Stands():
                self._stands(effect)
            case Refused():
                self._refused(effect)
            case Lost():
                self._lost(effect)
            case Left():
                _end(self._leaving.pop(effect.claim, None), None)
            case Finished():
                self._finished.set()
            case _:
                assert_never(effect)

    def _stands(self, effect: Stands) -> None:
        held = self._held.get(effect.claim)
        if held is not None:
            held.stands(effect.standing)

    def _renewed(self, effect: Renewed) -> None:
        held = self._held.get(effect.claim)
        if held is not None:
            held.answer = effect.answer
        for future in self._renewing.pop(effect.claim, ()):
            _end(future, effect.answer)

    def _refused(self, effect: Refused) -> None:
        waiting = self._waiting.pop(effect.claim, None)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_exception(_error_of(effect.failure, waiting[1].part))

    def _lost(self, effect: Lost) -> None:
        held = self._held.pop(effect.claim, None)
        for future in self._renewing.pop(effect.claim, ()):
            if not future.done():
                future.set_exception(NotExecuted(f"it is lost: {effect.why}"))
        if held is not None:
            LOG.warning("the %s %r is lost, and another may hold it: %s", held.what, held.name, effect.why)
            held.lost_as = effect.kind
            held.stands("lost", effect.why)

    def _call(self, call: Call) -> None:
        part = self._parts.get(call.request.part, call.request.part)
        try:
            future = self.client.invoke(
                "command", payload_of(call, f"{part}." if part else ""), timeout_s=CALL_TIMEOUT_S
            )
        except NotExecuted:
            return  # the client is closed, and the waiting callers have been told
        future.add_done_callback(partial(self._ended, call))

    def _ended(self, call: Call, future: CallFuture | asyncio.Future[bytes]) -> None:
        self._observe()
        self._feed(answered(call, outcome_of(future)))

    def _notified(self, payload: bytes) -> None:
        notice = notice_of(payload)
        if isinstance(notice, Changed):
            for event in self._watchers.get((notice.recipe, notice.name), ()):
                event.set()
        elif notice is not None:
            self._observe()
            self._feed(Told(notice))

    def _observe(self) -> None:
        seen = self.client.session
        if seen != self._seen:
            self._seen = seen
            self._feed(Observed(*seen))

    def _arm_timer(self) -> None:
        if self._timer is not None or self._finished.is_set() or not len(self._keeper):
            return
        deadline = self._keeper.deadline
        pause_us = WATCH_US if deadline is None else max(0, min(WATCH_US, deadline - self._clock()))
        self._timer = self.client.loop.call_later(pause_us / MICROSECONDS_PER_SECOND, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._observe()
        deadline = self._keeper.deadline
        if deadline is not None and deadline <= self._clock():
            self._feed(Woke())
        self._arm_timer()


def _end(future: asyncio.Future[Any] | None, answer: Any) -> None:
    if future is not None and not future.done():
        future.set_result(answer)


def _require_sendable(claim: ClaimId, request: Request) -> None:
    """Raise `InvalidCall` for what no message can carry, such as a lone surrogate in a name."""
    try:
        payload_of(Call(CallNumber(0), "acquire", claim, request, request.arguments))
    except UNSENDABLE as error:
        raise unsendable(request.acquire, error) from error


def _error_of(failure: Failure, part: str) -> Exception:
    if failure.kind == PERMISSION_DENIED:
        return PermissionDenied(failure.explanation)
    if failure.kind == INVALID_CALL:
        return InvalidCall(failure.explanation)
    if failure.outcome == "raised":
        return _ERRORS[part].make(Raised(failure.kind, failure.explanation))
    return NotExecuted(failure.explanation)
