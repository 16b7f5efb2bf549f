"""A thread that watches what the user's class executes, names what is slow, and can end a node that is stuck.

It reads what the loop's thread is doing from outside: a command costs nothing for it. A loop in Python gives
way to other threads every few milliseconds, so the watchdog runs while the loop does not. It cannot run while
one call into C holds the interpreter, such as a single `pow` of huge numbers.

Only time in which this process ran is counted: one that was stopped or starved is not late by that.
"""

import logging
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from viewstamp.core.ids import NodeId
from viewstamp.machine import runner as machine_runner
from viewstamp.machine.runner import MachineRunner
from viewstamp.runtime.process import OWN_PROCESS, Process

LOG: Final = logging.getLogger("viewstamp.runtime")

SLOW_S: Final = 1.0
"""What runs longer is named in the log, once."""
SAMPLE_S: Final = 0.1
EXIT_STUCK: Final = 75
"""A command or a query ran longer than `command_limit_ms` (EX_TEMPFAIL)."""


class Watchdog:
    """Watches one replica's machine from a thread of its own, from `start` to `stop`."""

    def __init__(
        self,
        node: NodeId,
        runner: Callable[[], MachineRunner],
        *,
        limit_ms: int,
        end: Callable[[int], Any] | None,
        process: Process = OWN_PROCESS,
    ) -> None:
        """Watch what `runner` returns. `end` is called with the exit code at the limit; None or 0: never."""
        self._node = node
        self._runner = runner
        self._limit_s = limit_ms / 1000 if limit_ms and end is not None else None
        self._end = end
        self._process = process
        self._stop: Callable[[], None] | None = None
        self._watched = threading.get_ident()
        self._token: object = None
        """What ran at the last sample."""
        self._ran_s = 0.0
        """For how long it has been seen."""
        self._named = False

    def start(self) -> None:
        """Begin. The calling thread is the one that is watched."""
        self._watched = threading.get_ident()
        self._stop = self._process.sample(f"viewstamp-watchdog-{self._node}", SAMPLE_S, self.sample)

    def stop(self) -> None:
        """Watch no longer."""
        if self._stop is not None:
            self._stop()

    def sample(self, passed_s: float) -> None:
        """Look once; `passed_s` seconds have passed since the last time."""
        runner = self._runner()
        found = None
        if runner.context.running:
            found = _executing(sys._current_frames().get(self._watched))  # noqa: SLF001  the documented way
        if found is None or found[1] is not self._token:
            self._token = None if found is None else found[1]
            self._ran_s, self._named = 0.0, False
            return
        self._ran_s += passed_s
        if self._ran_s >= SLOW_S and not self._named:
            self._named = True
            LOG.warning("node %d: %s", self._node, self._describe(runner, found[0]))
        if self._limit_s is not None and self._ran_s >= self._limit_s and self._end is not None:
            LOG.critical(
                "node %d stops, nothing acknowledged is lost: %s, longer than command_limit_ms allows. %s",
                self._node,
                self._describe(runner, found[0]),
                _advice(runner),
            )
            logging.shutdown()
            self._end(EXIT_STUCK)

    def _describe(self, runner: MachineRunner, method: str) -> str:
        context = runner.context
        kind = "query" if context.reading else "command"
        where = "at" if context.reading else "in the entry"
        return f"the {kind} {method} has run for {self._ran_s:.1f} s, {where} viewstamp {context.viewstamp}"


def _advice(runner: MachineRunner) -> str:
    if runner.context.reading:
        return "Nothing was changed: start the node again, and limit what this query looks at"
    return (
        "It runs again when the node starts, and on every member. Raise command_limit_ms if it comes to an "
        "end; else stop all members and give the entry up with "
        f"`viewstamp journal skip DIR... --at {runner.context.viewstamp}`"
    )


def _executing(frame: FrameType | None) -> tuple[str, object] | None:
    """Return the name of the method that this thread runs, and an object that stands for this run of it."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename == machine_runner.__file__:
            if code.co_name == "run" and "arguments" in frame.f_locals:
                arguments = frame.f_locals["arguments"]
                return str(type(arguments).__struct_config__.tag), arguments
            if code.co_name in {"end_session", "pending_notifications"}:
                return f"{code.co_name} of the class", frame
        frame = frame.f_back
    return None
