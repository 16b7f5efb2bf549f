"""Be listed as an instance of a service, for as long as a block runs."""

import asyncio
from contextlib import suppress
from typing import Final, Self

from viewstamp.clients.claim_driver import ClaimDriver
from viewstamp.clients.held_claim import HeldClaim
from viewstamp.core.durations import LEASE_MS_MIN, milliseconds
from viewstamp.core.errors import InvalidCall, ViewstampError
from viewstamp.core.ids import MICROSECONDS_PER_SECOND
from viewstamp.services.recipes.keeper_events import Request
from viewstamp.services.recipes.registry import Replaced

_AGAIN_S: Final = 0.5


class Registration:
    """An instance in the registry. After a loss it is registered again, but not where it was replaced."""

    def __init__(
        self,
        driver: ClaimDriver,
        service: str,
        instance: str,
        value: bytes,
        ttl_s: float | None,
        label: str,
    ) -> None:
        self._driver = driver
        self._service = service
        self._instance = instance
        self._value = value
        self._ttl_ms = 0 if ttl_s is None else milliseconds(ttl_s, "ttl_s", least_ms=LEASE_MS_MIN)
        self._label = label
        self._in_use = False
        self._held: HeldClaim | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def held(self) -> HeldClaim | None:
        """The registration, with its token and standing; None before the block."""
        return self._held

    async def __aenter__(self) -> Self:
        """Be listed from now on.

        Raises:
            InvalidCall: a block runs under it: make one for each block. Nothing was claimed.
        """
        if self._in_use:
            raise InvalidCall("this registration is in use: make one for each block; nothing was claimed")
        self._in_use = True
        try:
            self._held = await self._register()
        except BaseException:
            self._in_use = False
            raise
        self._task = asyncio.get_running_loop().create_task(self._stay())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        assert self._held is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        try:
            await self._held.given_back()
        finally:
            self._in_use = False

    async def publish(self, value: bytes) -> None:
        """Publish something else.

        Raises:
            NotExecuted: it is not registered at this moment; it will be, with this value.
        """
        self._value = value
        assert self._held is not None, "enter it first"
        await self._driver.renew(self._held, self._request())

    def _request(self) -> Request:
        arguments = (self._instance, self._value, self._ttl_ms, self._label)
        lease_us = self._ttl_ms * MICROSECONDS_PER_SECOND // 1_000
        return Request("registry", "register", "deregister", self._service, arguments, lease_us, renews=True)

    async def _register(self) -> HeldClaim:
        return await self._driver.acquire("registration", self._request(), HeldClaim)

    async def _stay(self) -> None:
        """Register again whenever it is lost."""
        while True:
            assert self._held is not None
            await self._held.until("lost")
            if self._held.lost_as == Replaced.__name__:
                return  # two processes of one name would replace each other without end
            try:
                self._held = await self._register()
            except ViewstampError:
                if self._driver.closed:
                    return
                await asyncio.sleep(_AGAIN_S)
