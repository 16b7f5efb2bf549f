"""`viewstamp lock`: run a command under a lock of the stock server. `viewstamp locks`: who holds which."""

import asyncio
import ctypes
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from viewstamp.cli import failures
from viewstamp.cli.output import quoted, show_json, show_table
from viewstamp.cli.target import CLUSTER_FILE, check_timeout, client_tls, client_token, locate
from viewstamp.clients.lock_driver import HeldLock, LockTimeout
from viewstamp.clients.locks import LockClient
from viewstamp.core.errors import ConfigurationError, ViewstampError
from viewstamp.runtime.blocking import BlockingClient
from viewstamp.runtime.discovery import Where
from viewstamp.runtime.proxies import make_proxy
from viewstamp.services.lock_events import is_text
from viewstamp.services.lock_wire import STOCK_PART
from viewstamp.services.locks import LABEL_BYTES_MAX, Holder, LockService, LockState

_PR_SET_PDEATHSIG: Final = 1
"""Of `linux/prctl.h`."""
TOKEN_VARIABLE: Final = "VIEWSTAMP_FENCING_TOKEN"  # noqa: S105  a number for all to see
NAME_VARIABLE: Final = "VIEWSTAMP_LOCK_NAME"
"""What the command finds in its environment."""

CANNOT_RUN: Final = 126
NOT_FOUND: Final = 127
"""What shells return for such a command."""
_SIGNAL_BASE: Final = 128

_FORWARDED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_FROM_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)
_FIND_S: Final = 10.0
_NOTE_AFTER_S: Final = 2.0
_LOOK_S: Final = 0.2
_END_WITHIN_S: Final = 5.0
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
        Literal["stop", "warn"],
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
    run = _Run(where, name, command, timeout_s=timeout, on_loss=on_loss, session_s=session)
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


class _Run:
    """One command under one lock."""

    def __init__(
        self,
        where: Where,
        name: str,
        command: Sequence[str],
        *,
        timeout_s: float | None,
        on_loss: Literal["stop", "warn"],
        session_s: float | None,
    ) -> None:
        self._session_s = session_s
        self._where = where
        self._name = name
        self._command = command
        self._timeout_s = timeout_s
        self._stops = on_loss == "stop"
        self._task: asyncio.Task[int] | None = None
        self._process: Process | None = None
        self._signal = 0
        """The last signal that came before the command ran."""

    async def run(self) -> int:
        """Return the exit code."""
        loop = asyncio.get_running_loop()
        for number in _FORWARDED:
            loop.add_signal_handler(number, self._on_signal, number)
        self._task = asyncio.create_task(self._under_lock())
        try:
            return await self._task
        except asyncio.CancelledError:
            assert self._signal, "nothing but a signal cancels it"
            return _SIGNAL_BASE + self._signal

    async def _under_lock(self) -> int:
        label = f"{socket.gethostname()} pid {os.getpid()}"
        find_s = _FIND_S if self._timeout_s is None else min(_FIND_S, self._timeout_s)
        label = label[: LABEL_BYTES_MAX // 4]
        session_s = self._session_s
        async with LockClient(
            self._where, label=label, timeout_s=find_s, session_s=session_s, token=client_token()
        ) as locks:
            held = await self._acquire(locks)
            try:
                return await self._run_command(held)
            finally:
                held.release()

    async def _acquire(self, locks: LockClient) -> HeldLock:
        noting = asyncio.create_task(self._note_waiting(locks))
        try:
            return await locks.acquire(self._name, timeout_s=self._timeout_s)
        except LockTimeout as error:
            raise LockTimeout(f"{error}: {await self._holder(locks)}; nothing was run") from None
        finally:
            noting.cancel()

    async def _note_waiting(self, locks: LockClient) -> None:
        await asyncio.sleep(_NOTE_AFTER_S)
        failures.complain(f"waiting for the lock {self._name!r}: {await self._holder(locks)}")

    async def _holder(self, locks: LockClient) -> str:
        try:
            async with asyncio.timeout(_NOTE_AFTER_S):
                holder = (await locks.service.stat(self._name)).holder
        except TimeoutError:
            return "no server says who holds it"
        except ViewstampError as error:
            return str(error)
        return "nobody holds it now" if holder is None else f"held by {_who(holder)} (token {holder.token})"

    async def _run_command(self, held: HeldLock) -> int:
        environment = {**os.environ, TOKEN_VARIABLE: str(held.token), NAME_VARIABLE: held.name}
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=environment, preexec_fn=end_with_parent()
            )
        except FileNotFoundError:
            failures.complain(f"no such command: {self._command[0]}; nothing was run")
            return NOT_FOUND
        except (OSError, ValueError) as error:
            failures.complain(f"cannot run {self._command[0]}: {error}; nothing was run")
            return CANNOT_RUN
        return await self._watch(held, self._process)

    async def _watch(self, held: HeldLock, process: Process) -> int:
        """Wait for the command, and say what happens to the lock meanwhile."""
        ended = asyncio.ensure_future(process.wait())
        standing = "held"
        while not ended.done():
            await asyncio.wait({ended}, timeout=_LOOK_S)
            if held.standing != standing:
                standing = held.standing
                self._say(standing)
            if standing != "held" and self._stops and not ended.done():
                await self._end(process, ended)
                return failures.LOCK_LOST
        code = ended.result()
        return _SIGNAL_BASE - code if code < 0 else code

    def _say(self, standing: str) -> None:
        fate = "ending the command" if self._stops else "the command goes on"
        if standing == "held":
            failures.complain(f"the cluster answers again: the lock {self._name!r} is still held")
        elif standing == "doubtful":
            failures.complain(f"the lock {self._name!r} is not confirmed: another may hold it; {fate}")
        else:
            failures.complain(f"the lock {self._name!r} is lost, and another may hold it; {fate}")

    async def _end(self, process: Process, ended: "asyncio.Future[int]") -> None:
        process.terminate()
        await asyncio.wait({ended}, timeout=_END_WITHIN_S)
        if not ended.done():
            process.kill()
            await ended

    def _on_signal(self, number: int) -> None:
        """Pass a signal on to the command; before there is one, stop waiting for the lock."""
        if self._process is None:
            self._signal = number
            assert self._task is not None
            self._task.cancel()
        elif self._process.returncode is None and not (number in _FROM_TERMINAL and _in_foreground()):
            self._process.send_signal(number)


def _in_foreground() -> bool:
    """Return whether the terminal sends its signals to this process group, and so to the command itself."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


def end_with_parent() -> Callable[[], None] | None:
    """Return what a child has to call before it executes a command, so that the command dies with its parent.

    The kernel sends SIGKILL to the command when this thread ends, however that happens. It reaches neither
    the command's own children nor a program with other rights (set-user-ID). None: only Linux can do it.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # found before the fork: a child must not import
    parent = os.getpid()
    wanted = int(signal.SIGKILL)

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, wanted, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(128 + wanted)  # the parent ended before it was asked for

    return prepare
