"""Commands that run another command under a claim of a recipe."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from viewstamp.cli import failures
from viewstamp.cli.lock import own_label
from viewstamp.cli.target import CLUSTER_FILE, check_timeout, client_tls, client_token, locate
from viewstamp.cli.under_claim import Holding, OnLoss, UnderClaim
from viewstamp.clients.recipes import Recipes
from viewstamp.core.errors import ConfigurationError
from viewstamp.services.locks import InvalidName, NoSession
from viewstamp.services.recipes.names import Mismatch, TooLarge, TooMany
from viewstamp.services.recipes.queue_messages import NotTaken, QueueFull

REFUSALS = (InvalidName, NoSession, Mismatch, TooLarge, TooMany, QueueFull, NotTaken)
"""What the services say no with."""

Command = Annotated[str, Parameter(help="What to run, after --. Its token is in VIEWSTAMP_FENCING_TOKEN.")]
Timeout = Annotated[float | None, Parameter(help="Seconds to wait for it; no limit if not given.")]
TimeToLive = Annotated[
    float | None,
    Parameter(name="--ttl", help="Seconds after which it passes on when this machine is gone."),
]
Loss = Annotated[
    OnLoss, Parameter(help="When another may hold it: end the command, or say so and let it go on.")
]


class Where:
    """Where the cluster is, and how to speak to it."""

    def __init__(self, cluster: Path = Path(CLUSTER_FILE), servers: str | None = None) -> None:
        self.where = locate(cluster, servers)
        self._tls = None if servers is None else client_tls()

    def recipes(self, *, session_s: float | None = None, timeout_s: float = 10.0) -> Recipes:
        """Return a client that is not yet open."""
        return Recipes(
            self.where,
            session_s=session_s,
            label=own_label(),
            timeout_s=timeout_s,
            token=client_token(),
            tls=self._tls,
        )


class Wanted:
    """A claim that a command is to be run under (`under_claim.Wanting`)."""

    def __init__(
        self,
        recipes: Recipes,
        claim: Callable[[Recipes, float | None], Awaitable[Holding]],
        holder: Callable[[Recipes], Awaitable[str]],
    ) -> None:
        self.recipes = recipes
        self._claim = claim
        self._holder = holder

    async def acquire(self, timeout_s: float | None) -> Holding:
        """Wait for it."""
        return await self._claim(self.recipes, timeout_s)

    async def holder(self) -> str:
        """Return who has it."""
        return await self._holder(self.recipes)


def opening(
    where: Where,
    session_s: float | None,
    claim: Callable[[Recipes, float | None], Awaitable[Holding]],
    holder: Callable[[Recipes], Awaitable[str]],
) -> Callable[[float], Any]:
    """Return what opens the client for an `UnderClaim`."""
    return partial(_open, where, session_s, claim, holder)


@asynccontextmanager
async def _open(
    where: Where,
    session_s: float | None,
    claim: Callable[[Recipes, float | None], Awaitable[Holding]],
    holder: Callable[[Recipes], Awaitable[str]],
    find_s: float,
) -> AsyncIterator[Wanted]:
    async with where.recipes(session_s=session_s, timeout_s=find_s) as recipes:
        yield Wanted(recipes, claim, holder)


def require_command(verb: str, command: Sequence[str]) -> None:
    """Refuse a call without a command."""
    if not command:
        raise ConfigurationError(f"no command: write it after --, as in `viewstamp {verb} NAME -- COMMAND`")


def run(under: UnderClaim) -> int:
    """Run it to its end, and return the exit code."""
    try:
        return asyncio.run(under.run())
    except REFUSALS as error:
        failures.complain(f"{error}; nothing was run")
        return failures.REFUSED


def check_wait(timeout: float | None) -> float | None:
    """Return the seconds; refuse what is not a time."""
    return None if timeout is None else check_timeout(timeout)


def ask(where: Where, question: Callable[[Recipes], Awaitable[Any]], timeout_s: float) -> Any:
    """Return what a question to the recipes is answered with; raises `Refusal` where a service says no."""

    async def asking() -> Any:
        async with where.recipes(timeout_s=timeout_s) as recipes:
            return await question(recipes)

    return asyncio.run(asking())
