"""A queue for tasks: items are put, taken under a lease, and acknowledged with the token of the grant."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

from viewstamp.clients.claim_driver import ClaimDriver
from viewstamp.clients.held_claim import ClaimLost, Guard, HeldClaim, OnLoss
from viewstamp.core.durations import LEASE_MS_MIN, milliseconds
from viewstamp.core.errors import ConfigurationError, NotExecuted, OutcomeUnknown
from viewstamp.services.recipes.keeper_events import Request
from viewstamp.services.recipes.names import SEQUENCE_MAX
from viewstamp.services.recipes.queue_messages import (
    ItemPage,
    NotTaken,
    Put,
    QueueState,
    TakeAnswer,
    TakenItem,
)
from viewstamp.services.recipes.queues import QueueService

LOG: Final = logging.getLogger("viewstamp.recipes")


class HeldItem(HeldClaim):
    """An item that this process has taken: `ack` it when it is done."""

    @property
    def item(self) -> TakenItem:
        """The item."""
        answer: TakeAnswer = self.answer
        assert answer.item is not None, "it was granted"
        return answer.item

    @property
    def body(self) -> bytes:
        """What was put."""
        return self.item.body

    async def ack(self) -> None:
        """Remove the item: it is done.

        Raises:
            NotTaken: it is not taken under this token any longer; another may do it again.
        """
        proxy = self._driver.proxy("queues", QueueService)
        await proxy.ack(self.name, int(self.claim), self.token)
        self._done()

    async def fail(self, reason: str = "", *, delay_s: float | None = None, bury: bool = False) -> bool:
        """Give the item back because it could not be done; return whether it is a dead letter now.

        Raises:
            NotTaken: it is not taken under this token any longer.
        """
        proxy = self._driver.proxy("queues", QueueService)
        delay_ms = None if delay_s is None else milliseconds(delay_s, "delay_s")
        dead = await proxy.fail(self.name, int(self.claim), self.token, reason, delay_ms, bury)
        self._done()
        return dead

    async def extend(self) -> None:
        """Let the lease begin again.

        Raises:
            NotExecuted: it is over already.
        """
        await self._driver.renew(self, self.request)

    def _parting(self) -> tuple[bool, ...]:
        """Count the attempt of a taker that was too slow, or cut off; not of one that gives it back."""
        return () if self.standing == "held" else (True,)

    def _done(self) -> None:
        self._driver.forget(self)
        self.release()


class Taking(Guard[HeldItem]):
    """An item that is wanted. Inside a block it is acknowledged at the end, or given back with the error."""

    async def _leave(self, held: HeldItem, error: BaseException | None) -> None:
        try:
            if held.standing == "released" or self._lost_as is not None:
                pass
            elif error is None:
                await held.ack()
            elif isinstance(error, Exception):
                with suppress(NotTaken, NotExecuted, OutcomeUnknown):
                    await held.fail(f"{type(error).__name__}: {error}")
        finally:
            await super()._leave(held, error)


class Queue:
    """One queue."""

    def __init__(self, driver: ClaimDriver, name: str, label: str) -> None:
        self._driver = driver
        self.service = driver.proxy("queues", QueueService)
        """For all else that the service offers, such as `await queue.service.peek(name, number)`."""
        self._label = label
        self.name = name

    async def put(self, body: bytes, *, id: str = "", key: str = "", delay_s: float = 0.0) -> Put:  # noqa: A002
        """Put an item. With an id it is put once, however often that is tried.

        Items of one key are worked on one after the other, in this order.

        Raises:
            QueueFull: there is no room.
            TooLarge: the item is too long.
            ConfigurationError: `delay_s` is negative, or above ten years.
        """
        return await self.service.put(self.name, body, id, key, milliseconds(delay_s, "delay_s"))

    def take(
        self, *, lease_s: float | None = None, timeout_s: float | None = None, on_loss: OnLoss = "cancel"
    ) -> Taking:
        """Take the next item. `async with queue.take() as item:` acknowledges it at the end of the block.

        An error inside the block gives it back, to be tried again or set aside. With `lease_s` it comes back
        after that time unless it is extended; without when this client's session ends.

        Raises:
            ConfigurationError: `lease_s` is below 0.1 s or above ten years, or `on_loss` is another word.
                Nothing was taken.
        """
        lease_ms = 0 if lease_s is None else milliseconds(lease_s, "lease_s", least_ms=LEASE_MS_MIN)
        request = Request(
            "queues", "take", "release", self.name, (lease_ms, self._label), lease_us=lease_ms * 1_000
        )
        return Taking(
            partial(self._driver.acquire, "item of", request, HeldItem, timeout_s=timeout_s), on_loss
        )

    async def work(self, do: Callable[[HeldItem], Awaitable[None]], *, lease_s: float | None = None) -> None:
        """Take one item after the other, until cancelled. What raises is logged and given back."""
        while True:
            try:
                async with self.take(lease_s=lease_s) as item:
                    await do(item)
            except (ClaimLost, NotTaken) as error:
                LOG.warning("an item of %r: %s", self.name, error)
            except (NotExecuted, OutcomeUnknown):
                if self._driver.closed:
                    raise
                LOG.warning("an item of %r: nobody confirmed it in time", self.name)
            except Exception:
                LOG.exception("an item of %r was not done: it is given back", self.name)
                await asyncio.sleep(0)

    async def configure(
        self,
        *,
        attempts_max: int = 5,
        backoff_s: float = 0.0,
        items_max: int = 100_000,
        dedupe_s: float = 3_600.0,
    ) -> QueueState:
        """Set what holds for this queue (`services.recipes.queue_state.QueueSettings`)."""
        backoff_ms, dedupe_ms = milliseconds(backoff_s, "backoff_s"), milliseconds(dedupe_s, "dedupe_s")
        return await self.service.configure(self.name, attempts_max, backoff_ms, items_max, dedupe_ms)

    async def state(self) -> QueueState:
        """Return how many items are where."""
        return await self.service.stat(self.name)

    async def items(self, after: int = 0, limit: int = 100) -> ItemPage:
        """Return items without their bodies, page by page.

        Raises:
            ConfigurationError: `limit` is below 1: the pages would never end.
        """
        if limit < 1:
            raise ConfigurationError(f"limit is {limit}: give 1 or more; nothing was sent")
        return await self.service.items(self.name, min(after, SEQUENCE_MAX), limit)
