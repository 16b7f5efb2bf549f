"""`viewstamp lock`: run a command under a lock of the stock server. `viewstamp locks`: who holds which."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from viewstamp.cli import failures
from viewstamp.cli.output import quoted, show_json, show_table
from viewstamp.cli.target import CLUSTER_FILE, check_timeout, client_tls, client_token, locate
from viewstamp.cli.under_claim import OnLoss, UnderClaim
from viewstamp.clients.lock_driver import HeldLock
from viewstamp.clients.locks import LockClient
from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.blocking import BlockingClient
from viewstamp.runtime.discovery import Where
from viewstamp.runtime.proxies import make_proxy
from viewstamp.services.lock_events import is_text
from viewstamp.services.lock_wire import STOCK_PART
from viewstamp.services.locks import LABEL_BYTES_MAX, Holder, LockService, LockState

NAME_VARIABLE: Final = "VIEWSTAMP_LOCK_NAME"
"""What the command finds in its environment beside the token."""
_PAGE: Final = 1_000

ClusterFile = Annotated[Path, Parameter(help="Cluster file.")]
Servers = Annotated[str | None, Parameter(help="HOST:PORT,... of members, instead of a file.")]


def lock(
    name: Annotated[str, Parameter(help="The lock's name.")],
    /,
    *command: Annotated[
        str, Parameter(help="What to run, after --. Its token is in VIEWSTAMP_FENCING_TOKEN.")
    ],
    timeout: Annotated[float | None, Parameter(help="Seconds to wait for it; no limit if not given.")] = None,
    on_loss: Annotated[
        OnLoss,
        Parameter(help="When another may hold the lock: end the command, or say so and let it go on."),
    ] = "stop",
    session: Annotated[
        float | None,
        Parameter(help="Seconds after which the lock is free when this machine is gone; else the cluster's."),
    ] = None,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
) -> int:
    """Run a command under a lock: viewstamp lock NAME -- COMMAND...

    The command finds its fencing token in VIEWSTAMP_FENCING_TOKEN. Its exit code is passed on.
    Exit code 3: the lock was not acquired, and nothing was run. 5: another may hold the lock, and the command
    was ended.
    """
    if not command:
        raise ConfigurationError("no command: write it after --, as in `viewstamp lock NAME -- COMMAND`")
    if timeout is not None:
        check_timeout(timeout)
    where = locate(cluster, servers)
    run = UnderClaim(
        f"lock {name!r}",
        partial(_open, where, name, session),
        command,
        environment={NAME_VARIABLE: name},
        timeout_s=timeout,
        on_loss=on_loss,
    )
    try:
        return asyncio.run(run.run())
    except LockService.raises as error:
        failures.complain(f"{error}; nothing was run")
        return failures.REFUSED


def list_locks(
    prefix: Annotated[str, Parameter(help="Locks whose names begin with this; all if empty.")] = "",
    /,
    *,
    json: Annotated[bool, Parameter(negative="", help="Print JSON, one object a line.")] = False,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Annotated[float, Parameter(help="Seconds until a call is given up.")] = 10.0,
) -> None:
    """Show which locks are held, by whom, and how many wait."""
    if not is_text(prefix):
        raise ConfigurationError(f"the prefix {quoted(prefix)} is not UTF-8 text")
    client = BlockingClient(
        locate(cluster, servers),
        timeout_s=check_timeout(timeout),
        token=client_token(),
        tls=None if servers is None else client_tls(),
    )
    try:
        service: LockService = make_proxy(LockService, client, part=STOCK_PART)
        states = _all_held(service, prefix)
    finally:
        client.close()
    if json:
        for state in states:
            show_json(_document(state))
        return
    rows = [
        [quoted(s.name), s.holder.token, s.waiters, _who(s.holder)] for s in states if s.holder is not None
    ]
    show_table(["lock", "token", "waiting", "held by"], rows)


def _all_held(service: LockService, prefix: str) -> list[LockState]:
    states: list[LockState] = []
    more = True
    while more:
        page = service.held(prefix, states[-1].name if states else "", _PAGE)
        states += page.locks
        more = page.more
    return states


def _document(state: LockState) -> dict[str, object]:
    holder = state.holder
    assert holder is not None
    return {
        "lock": state.name,
        "token": holder.token,
        "client": holder.client,
        "label": holder.label,
        "waiting": state.waiters,
    }


def _who(holder: Holder) -> str:
    return quoted(holder.label) if holder.label else f"client {holder.client}"


class _WantedLock:
    """A lock that a command is to be run under."""

    def __init__(self, locks: LockClient, name: str) -> None:
        self._locks = locks
        self._name = name

    async def acquire(self, timeout_s: float | None) -> HeldLock:
        return await self._locks.acquire(self._name, timeout_s=timeout_s)

    async def holder(self) -> str:
        holder = (await self._locks.service.stat(self._name)).holder
        return "nobody holds it now" if holder is None else f"held by {_who(holder)} (token {holder.token})"


@asynccontextmanager
async def _open(
    where: Where, name: str, session_s: float | None, find_s: float
) -> AsyncIterator[_WantedLock]:
    async with LockClient(
        where, label=own_label(), timeout_s=find_s, session_s=session_s, token=client_token()
    ) as locks:
        yield _WantedLock(locks, name)


def own_label() -> str:
    """Return what this process calls itself in lists of holders."""
    return f"{socket.gethostname()} pid {os.getpid()}"[: LABEL_BYTES_MAX // 4]
