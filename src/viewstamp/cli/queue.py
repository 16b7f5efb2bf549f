"""`viewstamp queue`: put items, work on them with a command, list them."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from viewstamp.cli import failures
from viewstamp.cli.claim_command import (
    REFUSALS,
    Command,
    TimeToLive,
    Wanted,
    Where,
    ask,
    check_wait,
    opening,
    require_command,
    run,
)
from viewstamp.cli.lock import ClusterFile, Servers
from viewstamp.cli.output import quoted, show_json, show_table
from viewstamp.cli.target import CLUSTER_FILE, check_timeout
from viewstamp.cli.under_claim import CANNOT_RUN, NOT_FOUND, Holding, UnderClaim, Wanting
from viewstamp.clients.held_claim import ClaimTimeout
from viewstamp.clients.queues import HeldItem
from viewstamp.clients.recipes import Recipes
from viewstamp.core.errors import NotExecuted, OutcomeUnknown
from viewstamp.services.recipes.queue_messages import ItemState, NotTaken
from viewstamp.services.recipes.queues import BODY_BYTES_MAX

QUEUE_VARIABLE: Final = "VIEWSTAMP_QUEUE"
ITEM_VARIABLE: Final = "VIEWSTAMP_ITEM"
ID_VARIABLE: Final = "VIEWSTAMP_ITEM_ID"
KEY_VARIABLE: Final = "VIEWSTAMP_ITEM_KEY"
ATTEMPT_VARIABLE: Final = "VIEWSTAMP_ITEM_ATTEMPT"
"""What the command finds in its environment beside the token."""
_PAGE: Final = 1_000
_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Name = Annotated[str, Parameter(help="The queue's name.")]
Seconds = Annotated[float, Parameter(help="Seconds until a call is given up.")]


def put(
    name: Name,
    body: Annotated[str | None, Parameter(help="The item; else standard input is read.")] = None,
    /,
    *,
    id: Annotated[str, Parameter(help="Put nothing where an item of this id was put before.")] = "",  # noqa: A002
    key: Annotated[str, Parameter(help="Items of one key are worked on one after the other.")] = "",
    delay: Annotated[float, Parameter(help="Seconds until it can be taken.")] = 0.0,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Seconds = 10.0,
) -> int:
    """Put an item into a queue, and print its number: viewstamp queue put NAME BODY."""
    # Not all of standard input, which may have no end.
    given = None if body is None else body.encode("utf-8", "surrogateescape")
    data = sys.stdin.buffer.read(BODY_BYTES_MAX + 1) if given is None else given
    if len(data) > BODY_BYTES_MAX:
        failures.complain(f"an item has up to {BODY_BYTES_MAX} bytes, and this one has more: nothing was put")
        return failures.REFUSED
    try:
        done = ask(
            Where(cluster, servers),
            lambda recipes: recipes.queue(name).put(data, id=id, key=key, delay_s=delay),
            check_timeout(timeout),
        )
    except REFUSALS as error:
        failures.complain(str(error))
        return failures.REFUSED
    if not done.is_new:
        failures.complain(f"an item of the id {quoted(id)} was put before: nothing was put now")
    print(done.number)
    return failures.DONE


def work(
    name: Name,
    /,
    *command: Command,
    lease: Annotated[
        float | None,
        Parameter(help="Seconds after which an item is another's; else when this machine is gone."),
    ] = None,
    once: Annotated[
        bool, Parameter(negative="", help="Work on one item, and end with its exit code.")
    ] = False,
    timeout: Annotated[float | None, Parameter(help="Seconds without an item after which to end.")] = None,
    ttl: TimeToLive = None,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
) -> int:
    """Run a command for each item: viewstamp queue work NAME -- COMMAND...

    The item is on the command's standard input. Exit code 0: the item is done. Any other: it is given back,
    to be tried again or set aside. A command whose item may be another's by now is ended.
    """
    require_command("queue work", command)
    return run(_Working(Where(cluster, servers), name, command, lease, ttl, check_wait(timeout), once=once))


def list_items(
    name: Name,
    /,
    *,
    dead: Annotated[bool, Parameter(negative="", help="Only dead letters.")] = False,
    revive: Annotated[bool, Parameter(negative="", help="Put all dead letters at the end again.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print JSON, one object a line.")] = False,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Seconds = 10.0,
) -> int:
    """Show the items of a queue: number, state, attempts, why the last one failed."""
    try:
        items: list[ItemState] = ask(
            Where(cluster, servers),
            lambda recipes: _all(recipes, name, revive=revive),
            check_timeout(timeout),
        )
    except REFUSALS as error:
        failures.complain(str(error))
        return failures.REFUSED
    shown = [item for item in items if item.state == "dead" or not dead]
    if json:
        for item in shown:
            show_json(_document(item))
        return failures.DONE
    rows = [
        [item.number, item.state, item.attempts, item.bytes, quoted(item.id), quoted(item.key), _last(item)]
        for item in shown
    ]
    show_table(["item", "state", "attempts", "bytes", "id", "key", "taken by, or why it failed"], rows)
    return failures.DONE


async def _all(recipes: Recipes, name: str, *, revive: bool) -> list[ItemState]:
    queue = recipes.queue(name)
    items: list[ItemState] = []
    more = True
    while more:
        page = await queue.items(items[-1].number if items else 0, _PAGE)
        items += page.items
        more = page.more
    if not revive:
        return items
    for item in items:
        if item.state == "dead":
            await queue.service.revive(name, item.number)
    return await _all(recipes, name, revive=False)


def _document(item: ItemState) -> dict[str, Any]:
    return {field: getattr(item, field) for field in item.__struct_fields__}


def _last(item: ItemState) -> str:
    return quoted(item.taker if item.state == "taken" else item.reason)


class _Working(UnderClaim):
    """One command for each item."""

    def __init__(
        self,
        where: Where,
        name: str,
        command: Sequence[str],
        lease_s: float | None,
        session_s: float | None,
        patience_s: float | None,
        *,
        once: bool,
    ) -> None:
        async def claim(recipes: Recipes, timeout_s: float | None) -> Holding:
            return await recipes.queue(name).take(lease_s=lease_s, timeout_s=timeout_s)

        async def holder(recipes: Recipes) -> str:
            state = await recipes.queue(name).state()
            return f"{state.waiting} items wait, {state.taken} are taken, {state.delayed} are delayed"

        super().__init__(
            f"item of {name!r}",
            opening(where, session_s, claim, holder),
            command,
            environment={QUEUE_VARIABLE: name},
            timeout_s=patience_s,
            on_loss="stop",
        )
        self._once = once

    async def run_with(self, wanting: Wanting) -> int:
        """Work on one item after the other, until a signal comes or no item does."""
        assert isinstance(wanting, Wanted)
        while True:
            try:
                held = await wanting.acquire(self.timeout_s)
            except ClaimTimeout:
                return failures.NOT_EXECUTED if self._once else failures.DONE
            assert isinstance(held, HeldItem)
            code = await self._work_on(held)
            if self._once or code in {NOT_FOUND, CANNOT_RUN}:
                return code
            if self.signal in _ENDING:
                return failures.DONE
            self.forget_process()

    async def _work_on(self, held: HeldItem) -> int:
        item = held.item
        self.environment |= {
            ITEM_VARIABLE: str(item.number),
            ID_VARIABLE: item.id,
            KEY_VARIABLE: item.key,
            ATTEMPT_VARIABLE: str(item.attempts),
        }
        code = await self.run_command(held, item.body)
        try:
            await self._settle(held, code)
        except (NotTaken, NotExecuted, OutcomeUnknown) as error:
            failures.complain(f"item {item.number} was worked on (exit code {code}), but: {error}")
            code = code or failures.LOCK_LOST
        finally:
            held.release()
        return code

    async def _settle(self, held: HeldItem, code: int) -> None:
        if code == failures.DONE:
            await held.ack()
        elif held.certain and code not in {NOT_FOUND, CANNOT_RUN} and self.signal not in _ENDING:
            number = held.item.number
            if await held.fail(f"exit code {code}"):
                failures.complain(f"item {number} is a dead letter now: exit code {code}")
        await asyncio.sleep(0)
