"""A rate limit for tasks."""

import asyncio

from viewstamp.clients.claim_driver import ClaimDriver
from viewstamp.clients.held_claim import not_in_time
from viewstamp.core.durations import milliseconds, wait_s
from viewstamp.services.recipes.rates import RateService, Taken


class Rate:
    """How often something may happen, over all processes."""

    def __init__(self, driver: ClaimDriver, name: str, rate: int, per_s: float, burst: int) -> None:
        """`rate` in `per_s` seconds; `burst` at once.

        Raises:
            ConfigurationError: the period is below a millisecond, or above ten years.
        """
        self._period_ms = milliseconds(per_s, "per_s", least_ms=1)
        self._proxy = driver.proxy("rates", RateService)
        self.name = name
        self.rate = rate
        self.burst = burst

    async def try_take(self, cost: int = 1) -> float:
        """Take, and return 0; or take nothing, and return how many seconds to wait.

        Raises:
            TooLarge: the cost is above the burst.
        """
        return (await self._take(cost)).wait_us / 1e6

    async def take(self, cost: int = 1, *, timeout_s: float | None = None) -> int:
        """Wait until it is taken, and return the token of that moment.

        Raises:
            ClaimTimeout: it was not allowed in time; nothing was taken.
            TooLarge: the cost is above the burst.
        """
        try:
            async with asyncio.timeout(wait_s(timeout_s)):
                taken = await self._take(cost)
                while taken.wait_us:
                    await asyncio.sleep(taken.wait_us / 1e6)
                    taken = await self._take(cost)
        except TimeoutError:
            raise not_in_time("rate", self.name, timeout_s) from None
        return taken.token

    async def _take(self, cost: int) -> Taken:
        return await self._proxy.try_take(self.name, cost, self.rate, self._period_ms, self.burst)
