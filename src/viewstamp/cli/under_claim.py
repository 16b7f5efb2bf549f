"""Run a command while this process holds something of the cluster: what `lock`, `elect` and others share."""

import asyncio
import ctypes
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final, Literal, Protocol

from viewstamp.cli import failures
from viewstamp.clients.held_claim import ClaimTimeout
from viewstamp.clients.lock_driver import LockTimeout
from viewstamp.core.errors import ViewstampError

_PR_SET_PDEATHSIG: Final = 1
"""Of `linux/prctl.h`."""
TOKEN_VARIABLE: Final = "VIEWSTAMP_FENCING_TOKEN"  # noqa: S105  a number for all to see
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
FIND_S: Final = 10.0
_NOTE_AFTER_S: Final = 2.0
_LOOK_S: Final = 0.2
_END_WITHIN_S: Final = 5.0

OnLoss = Literal["stop", "warn"]


class Holding(Protocol):
    """Something that was granted."""

    @property
    def token(self) -> int:
        """The fencing token."""
        ...

    @property
    def standing(self) -> str:
        """held, doubtful, lost or released."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class Wanting(Protocol):
    """What a command is to be run under, on a client that is open."""

    async def acquire(self, timeout_s: float | None) -> Holding:
        """Wait for it; raises `LockTimeout`, `ClaimTimeout`, or what the service refuses with."""
        ...

    async def holder(self) -> str:
        """Return who has it, in a few words; it may raise a `ViewstampError`."""
        ...


class UnderClaim:
    """One command under something that is held."""

    def __init__(
        self,
        what: str,
        opening: Callable[[float], AbstractAsyncContextManager[Wanting]],
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        timeout_s: float | None,
        on_loss: OnLoss,
    ) -> None:
        """`what` is its name in messages, such as "lock 'x'".

        `opening` opens the client; it is told for how many seconds to look for the cluster.
        """
        self._what = what
        self._opening = opening
        self._command = command
        self.environment = dict(environment)
        """What the command finds there beside its token."""
        self.timeout_s = timeout_s
        self._stops = on_loss == "stop"
        self._task: asyncio.Task[int] | None = None
        self._process: Process | None = None
        self.signal = 0
        """The last signal that came."""

    async def run(self) -> int:
        """Return the exit code."""
        loop = asyncio.get_running_loop()
        for number in _FORWARDED:
            loop.add_signal_handler(number, self._on_signal, number)
        self._task = asyncio.create_task(self._under_claim())
        try:
            return await self._task
        except asyncio.CancelledError:
            assert self.signal, "nothing but a signal cancels it"
            return _SIGNAL_BASE + self.signal

    async def _under_claim(self) -> int:
        find_s = FIND_S if self.timeout_s is None else min(FIND_S, self.timeout_s)
        async with self._opening(find_s) as wanting:
            return await self.run_with(wanting)

    async def run_with(self, wanting: Wanting) -> int:
        """Acquire it, run the command, give it back, and return the exit code."""
        held = await self.acquire(wanting)
        try:
            return await self.run_command(held)
        finally:
            held.release()

    def forget_process(self) -> None:
        """A command has ended: from now on a signal ends the wait for what the next one needs."""
        self._process = None

    async def acquire(self, wanting: Wanting) -> Holding:
        """Wait for it, and say on standard error who has it."""
        noting = asyncio.create_task(self._note_waiting(wanting))
        try:
            return await wanting.acquire(self.timeout_s)
        except (LockTimeout, ClaimTimeout) as error:
            raise type(error)(f"{error}: {await _holder(wanting)}; nothing was run") from None
        finally:
            noting.cancel()

    async def _note_waiting(self, wanting: Wanting) -> None:
        await asyncio.sleep(_NOTE_AFTER_S)
        failures.complain(f"waiting for the {self._what}: {await _holder(wanting)}")

    async def run_command(self, held: Holding, body: bytes | None = None) -> int:
        """Run the command, with this on its standard input, and return its exit code."""
        environment = {**os.environ, TOKEN_VARIABLE: str(held.token), **self.environment}
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=environment,
                stdin=None if body is None else asyncio.subprocess.PIPE,
                preexec_fn=end_with_parent(),
            )
        except FileNotFoundError:
            failures.complain(f"no such command: {self._command[0]}; nothing was run")
            return NOT_FOUND
        except (OSError, ValueError) as error:
            failures.complain(f"cannot run {self._command[0]}: {error}; nothing was run")
            return CANNOT_RUN
        if body is None:
            return await self._watch(held, self._process)
        feeding = asyncio.create_task(_feed(self._process, body))
        try:
            return await self._watch(held, self._process)
        finally:
            await feeding

    async def _watch(self, held: Holding, process: Process) -> int:
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
            failures.complain(f"the cluster answers again: the {self._what} is still held")
        elif standing == "doubtful":
            failures.complain(f"the {self._what} is not confirmed: another may hold it; {fate}")
        else:
            failures.complain(f"the {self._what} is lost, and another may hold it; {fate}")

    async def _end(self, process: Process, ended: "asyncio.Future[int]") -> None:
        process.terminate()
        await asyncio.wait({ended}, timeout=_END_WITHIN_S)
        if not ended.done():
            process.kill()
            await ended

    def _on_signal(self, number: int) -> None:
        """Pass a signal on to the command; before there is one, stop waiting for the lock."""
        self.signal = number
        if self._process is None:
            assert self._task is not None
            self._task.cancel()
        elif self._process.returncode is None and not (number in _FROM_TERMINAL and _in_foreground()):
            self._process.send_signal(number)


async def _feed(process: Process, body: bytes) -> None:
    """Write what the command reads. It may end without reading all of it."""
    assert process.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(body)
        await process.stdin.drain()
    process.stdin.close()


async def _holder(wanting: Wanting) -> str:
    try:
        async with asyncio.timeout(_NOTE_AFTER_S):
            return await wanting.holder()
    except TimeoutError:
        return "no server says who holds it"
    except ViewstampError as error:
        return str(error)


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
