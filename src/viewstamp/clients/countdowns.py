"""A countdown for tasks."""

from viewstamp.clients.claim_driver import ClaimDriver
from viewstamp.clients.held_claim import HeldClaim
from viewstamp.services.recipes.countdowns import CountdownService, CountdownState
from viewstamp.services.recipes.keeper_events import Request


class Countdown:
    """A number that arrivals take down; those that wait go on at zero."""

    def __init__(self, driver: ClaimDriver, name: str, label: str) -> None:
        self._driver = driver
        self._proxy = driver.proxy("countdowns", CountdownService)
        self._label = label
        self.name = name

    async def start(self, count: int, *, replace: bool = False) -> CountdownState:
        """Begin it; where one of this count is under way, that is it, unless it is to be replaced.

        Raises:
            Mismatch: one of another count is under way.
        """
        return await self._proxy.start(self.name, count, replace)

    async def arrive(self, times: int = 1, *, generation: int = 0) -> CountdownState:
        """Take it down; with a generation only if that is the present one.

        Raises:
            NoCountdown: there is none, or it is of another generation.
        """
        return await self._proxy.arrive(self.name, generation, times)

    async def wait(self, *, generation: int = 0, timeout_s: float | None = None) -> int:
        """Wait for zero, and return the token of that moment.

        Raises:
            NoCountdown: there is none, or it was started again before zero.
            ClaimTimeout: it did not come to zero in time.
        """
        request = Request("countdowns", "wait", "leave", self.name, (generation, self._label))
        held = await self._driver.acquire("countdown", request, HeldClaim, timeout_s=timeout_s)
        held.release()
        return held.token

    async def state(self) -> CountdownState:
        """Return how far it is."""
        return await self._proxy.stat(self.name)
