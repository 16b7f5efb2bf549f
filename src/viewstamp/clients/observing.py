"""Follow something that changes: told by notices, and looking from time to time, since those may be lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from viewstamp.clients.claim_driver import ClaimDriver
from viewstamp.core.errors import NotExecuted, OutcomeUnknown

T = TypeVar("T")

_AGAIN_S: Final = 3.0
"""How often it is looked at where the client never asks twice."""
_PAUSE_S: Final = 0.2
"""After a look that no server answered."""


async def observed(
    driver: ClaimDriver,
    recipe: str,
    name: str,
    observe: Callable[[str], Awaitable[T]],
    ignore: Callable[[str], Awaitable[Any]],
) -> AsyncIterator[T]:
    """Yield what `observe` returns, now and whenever it changes; go on while no server answers."""
    changed = driver.watch(recipe, name)
    last: T | None = None
    try:
        while True:
            changed.clear()
            state = await _looked(driver, name, observe)
            if state != last:
                last = state
                yield state
            with suppress(TimeoutError):
                async with asyncio.timeout(driver.retry_s or _AGAIN_S):
                    await changed.wait()
    finally:
        if driver.unwatch(recipe, name, changed):
            with suppress(NotExecuted, OutcomeUnknown):
                await ignore(name)


async def _looked(driver: ClaimDriver, name: str, observe: Callable[[str], Awaitable[T]]) -> T:
    while True:
        try:
            return await observe(name)
        except (NotExecuted, OutcomeUnknown):
            if driver.closed:
                raise
            await asyncio.sleep(_PAUSE_S)
