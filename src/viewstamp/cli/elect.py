"""`viewstamp elect` and `viewstamp semaphore`: run a command as the elected, or while permits last."""

from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from viewstamp.cli import failures
from viewstamp.cli.claim_command import (
    REFUSALS,
    Command,
    Loss,
    Timeout,
    TimeToLive,
    Where,
    ask,
    check_wait,
    opening,
    require_command,
    run,
)
from viewstamp.cli.lock import ClusterFile, Servers
from viewstamp.cli.output import quoted
from viewstamp.cli.target import CLUSTER_FILE
from viewstamp.cli.under_claim import Holding, UnderClaim
from viewstamp.clients.recipes import Recipes
from viewstamp.core.errors import ConfigurationError
from viewstamp.services.recipes.semaphores import SemaphoreService

ELECTION_VARIABLE: Final = "VIEWSTAMP_ELECTION"
SEMAPHORE_VARIABLE: Final = "VIEWSTAMP_SEMAPHORE"
"""What the command finds in its environment beside the token."""
_ASK_S: Final = 10.0


def elect(
    name: Annotated[str, Parameter(help="The election's name.")],
    /,
    *command: Command,
    ttl: TimeToLive = None,
    value: Annotated[str, Parameter(help="What to publish as the elected, such as an address.")] = "",
    priority: Annotated[int, Parameter(help="The highest of those that wait is elected next.")] = 0,
    timeout: Timeout = None,
    on_loss: Loss = "stop",
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
) -> int:
    """Run a command once elected: viewstamp elect NAME -- COMMAND...

    Of all that call this with the same name one runs its command; when that ends, or its machine is gone,
    another is elected. Exit codes are those of `viewstamp lock`.
    """
    require_command("elect", command)
    published = value.encode("utf-8", "surrogateescape")

    async def claim(recipes: Recipes, timeout_s: float | None) -> Holding:
        return await recipes.election(name, value=published, priority=priority, timeout_s=timeout_s)

    async def holder(recipes: Recipes) -> str:
        leader = (await recipes.leader(name)).leader
        if leader is None:
            return "nobody is elected now"
        return f"{_who(leader.label, leader.client)} is elected (token {leader.token})"

    under = UnderClaim(
        f"election {name!r}",
        opening(Where(cluster, servers), ttl, claim, holder),
        command,
        environment={ELECTION_VARIABLE: name},
        timeout_s=check_wait(timeout),
        on_loss=on_loss,
    )
    return run(under)


def semaphore(
    name: Annotated[str, Parameter(help="The semaphore's name.")],
    /,
    *command: Command,
    permits: Annotated[
        int | None, Parameter(help="How many permits it has; not needed where it exists.")
    ] = None,
    weight: Annotated[int, Parameter(help="How many of them this command needs.")] = 1,
    resize: Annotated[
        int | None, Parameter(help="Set how many permits it has from now on, and run nothing.")
    ] = None,
    ttl: TimeToLive = None,
    timeout: Timeout = None,
    on_loss: Loss = "stop",
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
) -> int:
    """Run a command while permits last: viewstamp semaphore NAME --permits N -- COMMAND...

    At most N commands run at once, on all machines together; the others wait their turn. Exit codes are
    those of `viewstamp lock`.
    """
    where, within = Where(cluster, servers), check_wait(timeout)
    if resize is not None:
        if command:
            raise ConfigurationError("--resize runs nothing: leave the command out; nothing was changed")
        return _resize(where, name, resize, within or _ASK_S)
    require_command("semaphore", command)

    async def claim(recipes: Recipes, timeout_s: float | None) -> Holding:
        return await recipes.semaphore(name, permits, weight=weight, timeout_s=timeout_s)

    async def holder(recipes: Recipes) -> str:
        state = await recipes.driver.proxy("semaphores", SemaphoreService).stat(name)
        having = ", ".join(_who(one.label, one.client) for one in state.held[:3])
        out = f"{state.used} of {state.size} permits are out"
        return f"{out}, {state.waiting} claims wait; held by {having or 'nobody'}"

    under = UnderClaim(
        f"semaphore {name!r}",
        opening(where, ttl, claim, holder),
        command,
        environment={SEMAPHORE_VARIABLE: name},
        timeout_s=within,
        on_loss=on_loss,
    )
    return run(under)


def _resize(where: Where, name: str, permits: int, timeout_s: float) -> int:
    try:
        ask(where, lambda recipes: recipes.resize(name, permits), timeout_s)
    except REFUSALS as error:
        failures.complain(str(error))
        return failures.REFUSED
    return failures.DONE


def _who(label: str, client: int) -> str:
    return quoted(label) if label else f"client {client}"
