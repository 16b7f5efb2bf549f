"""Real servers and testers of labs 6 and 7 in a folder of their own, and what their logs say.

Servers are called by their place among the ports, 0 the lowest. Leaving the `with` block ends
every process by its id. The programs are started as the course's tester starts them: by their names in the
working directory, where they are symbolic links.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Final, Self

from viewstamp_labs.lab6824.exclusion import breaches, holds_of, read_history
from viewstamp_labs.lab6824.lock_tester import READY
from viewstamp_labs.lab6824.paxos_log import LoggedView, read_log
from viewstamp_labs.lab6824.waiting import Failed, wait_until, watch

PROGRAMS: Final = ("lock_server", "lock_tester", "rsm_tester")
LAUNCHERS: Final = Path(__file__).parents[4] / "labs" / "6.824"
SERVERS: Final = 5
WAIT_S: Final = 60.0
"""For a view. The course's tester waits 20 s and sleeps before; here the machine may be overloaded."""
TESTER_WAIT_S: Final = 300.0
ENDS_WITHIN_S: Final = 5.0
PASSED: Final = "passed all tests successfully"
EXIT_AT_BREAKPOINT: Final = 1
_LOWEST_PORT: Final = 10_000
_HIGHEST_PORT: Final = 32_000
"""Below the ports that the system gives to those who ask for none."""

View = tuple[int, ...]
"""The members of a view, by their places, in the order of joining."""


def draw_ports(rng: Random, count: int = SERVERS) -> list[int]:
    """Return free ports in ascending order; the port above each is free too, and none of the others."""
    ports: set[int] = set()
    while len(ports) < count:
        port = rng.randrange(_LOWEST_PORT, _HIGHEST_PORT)
        taken = any(abs(port - other) < 2 for other in ports)
        if not taken and _is_free(port) and _is_free(port + 1):
            ports.add(port)
    return sorted(ports)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Group:
    """The processes of one test."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self.folder = folder
        self.ports = list(ports)
        self.views: list[View] = []
        """The views that are expected, from view 1."""
        self._servers: dict[int, subprocess.Popen[bytes]] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._testers: list[subprocess.Popen[bytes]] = []
        self._ended: set[int] = set()
        """Servers that were ended, or may die at a breakpoint."""
        folder.mkdir(exist_ok=True)
        for name in PROGRAMS:
            (folder / name).symlink_to(LAUNCHERS / name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    @property
    def processes(self) -> Sequence[subprocess.Popen[bytes]]:
        """Everything that was started. Read-only for callers."""
        return self._processes

    # Processes

    def start(self, count: int) -> None:
        """Start the lowest servers one after the other, each after the view with the one before."""
        for index in range(count):
            self.serve(index)
            self.expect(tuple(range(index + 1)))

    def serve(self, index: int, master: int = 0) -> None:
        """Start a server that shall join through another, or found."""
        old = self._servers.get(index)
        assert old is None or old.poll() is not None, f"server {index} runs"
        arguments = [str(self.ports[master]), str(self.ports[index])]
        self._ended.discard(index)
        self._servers[index] = self._spawn("lock_server", arguments, "-".join(arguments))

    def term(self, index: int) -> None:
        """End a server with SIGTERM; it must not take longer than a moment."""
        self.signal(index, signal.SIGTERM)

    def kill(self, *indices: int) -> None:
        """End servers with SIGKILL, all at once."""
        for index in indices:
            self._servers[index].send_signal(signal.SIGKILL)
        for index in indices:
            self._servers[index].wait(ENDS_WITHIN_S)
            self._ended.add(index)

    def signal(self, index: int, number: signal.Signals) -> None:
        """Send a deadly signal to a server and wait for its end."""
        process = self._servers[index]
        if process.poll() is not None:
            raise Failed(f"server {index} ended by itself with code {process.returncode}")
        process.send_signal(number)
        process.wait(ENDS_WITHIN_S)
        self._ended.add(index)

    def runs(self, index: int) -> bool:
        """Return whether a server runs."""
        process = self._servers.get(index)
        return process is not None and process.poll() is None

    def died_at_breakpoint(self, index: int, within_s: float = WAIT_S) -> None:
        """Wait until a server has ended itself at a breakpoint."""
        wait_until(f"server {index} dies at its breakpoint", lambda: not self.runs(index), within_s)
        code = self._servers[index].returncode
        if code != EXIT_AT_BREAKPOINT or "dying at breakpoint" not in self.output(index):
            raise Failed(f"server {index} ended with code {code}, but not at a breakpoint")

    def arm(self, index: int, command: str, number: int) -> None:
        """Arm a breakpoint or a partition, or heal, by the program that the course has for it."""
        port = str(self.ports[index] + 1)
        process = self._spawn("rsm_tester", [port, command, str(number)], f"{port}-{command}-{number}")
        if process.wait(ENDS_WITHIN_S) != 0:
            raise Failed(f"rsm_tester {port} {command} {number} ended with code {process.returncode}")
        if command == "breakpoint":
            self._ended.add(index)

    def start_tester(self, *numbers: int) -> None:
        """Start a lock tester against the lowest server, and wait until it has found all of them."""
        name = f"{self.ports[0]}" + "".join(f"-{number}" for number in numbers) + "-" * len(self._testers)
        arguments = [str(self.ports[0]), *map(str, numbers)]
        self._testers.append(self._spawn("lock_tester", arguments, name))
        log = self.folder / f"lock_tester-{name}.log"
        self._wait("lock_tester has found the servers", lambda: READY in log.read_text(), WAIT_S)

    def await_testers(self) -> None:
        """Wait until the lock testers have passed."""
        for process in self._testers:
            self._wait("lock_tester ends", lambda: process.poll() is not None, TESTER_WAIT_S)  # noqa: B023
        logs = sorted(self.folder.glob("lock_tester-*.log"))
        assert len(logs) == len(self._testers)
        for log in logs:
            text = log.read_text(encoding="utf-8", errors="replace")
            if PASSED not in text:
                raise Failed(f"{log.name} does not say that it passed: {text.splitlines()[-1:]}")
        self._judge_locks()

    def _judge_locks(self) -> None:
        holds = holds_of(read_history(self.history))
        found = next(breaches(holds), None)
        if found is not None:
            raise Failed(found)
        if any(hold.left_ns is None for hold in holds) or not holds:
            raise Failed("the history of the locks is not complete")

    @property
    def history(self) -> Path:
        """Where the lock testers write what they held."""
        return self.folder / "locks.history"

    def _spawn(self, program: str, arguments: Sequence[str], name: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{program}-{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  our own program, no shell
                [f"./{program}", *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LOCK_HISTORY": str(self.history)},
            )
        self._processes.append(process)
        return process

    # Logs

    def output(self, index: int) -> str:
        """Return all that the lives of a server printed."""
        logs = sorted(self.folder.glob(f"lock_server-*-{self.ports[index]}.log"))
        return "".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)

    def logged(self, index: int) -> list[View]:
        """Return the views in the log of a server, by places."""
        return [self._places(view) for view in read_log(self.log_path(index)).views]

    def log_path(self, index: int) -> Path:
        """Return where a server keeps the log of its Paxos."""
        return self.folder / f"paxos-{self.ports[index]}.log"

    def _places(self, view: LoggedView) -> View:
        return tuple(self.ports.index(port) for port in view.members)

    def expect(self, view: View, at: Iterable[int] | None = None, within_s: float = WAIT_S) -> None:
        """Wait until this is the next view at all its members, or at those named, after all before it."""
        self.views.append(view)
        for index in view if at is None else at:
            self._await_views(index, len(self.views), within_s)

    def _await_views(self, index: int, count: int, within_s: float) -> None:
        try:
            self._wait(f"view {count}", lambda: len(self.logged(index)) >= count, within_s)
        except Failed as failure:
            raise Failed(f"{failure} at server {index}, whose log has {self.logged(index)}") from None
        if self.logged(index)[:count] != self.views[:count]:
            raise Failed(f"server {index} logged {self.logged(index)[:count]}, expected {self.views}")

    def _wait(self, what: str, condition: Callable[[], bool], within_s: float) -> None:
        """Wait for a condition, and no longer once a server has ended that must not."""

        def met() -> bool:
            self._refuse_deaths()
            return condition()

        wait_until(what, met, within_s)

    def settle(self, members: set[int], within_s: float = WAIT_S) -> None:
        """Wait for a view of exactly these members, whatever views come before it, at all of them."""

        def settled() -> bool:
            logs = [self.logged(index) for index in members]
            return all(log == logs[0] and log and set(log[-1]) == members for log in logs)

        try:
            self._wait(f"a view of {sorted(members)}", settled, within_s)
        except Failed as failure:
            last = {index: self.logged(index)[-2:] for index in members}
            raise Failed(f"{failure}; the last views are {last}") from None

    def has_accepted(self, view: View, at: Iterable[int]) -> None:
        """Wait until these servers have accepted a view that is not decided."""
        members = " ".join(str(self.ports[place]) for place in view)
        for index in at:
            wait_until(
                f"server {index} accepts {view}",
                lambda: any(
                    line.startswith("accepted ") and line.rstrip().endswith(members)
                    for line in read_log(self.log_path(index)).since  # noqa: B023
                ),
                WAIT_S,
            )

    def says_that_it_waits(self, index: int) -> None:
        """See that a server says what keeps it from serving."""
        wait_until(
            f"server {index} says that it waits for a majority",
            lambda: "waiting for a majority" in self.output(index),
            WAIT_S,
        )

    def finish(self) -> None:
        """Compare what is left with what must be: one sequence of views, and nobody died unasked."""
        self.agree()
        self._refuse_deaths()

    def _refuse_deaths(self) -> None:
        for index, process in self._servers.items():
            if process.poll() is not None and index not in self._ended:
                raise Failed(f"server {index} ended with code {process.returncode}: {self._last_line(index)}")

    def _last_line(self, index: int) -> str:
        return (self.output(index).splitlines() or ["it printed nothing"])[-1]

    def stay(self, indices: Iterable[int], for_s: float) -> None:
        """See that nothing is decided: these logs hold the expected views and no others."""
        chosen = list(indices)
        watch(
            f"no view after {self.views}",
            lambda: all(self.logged(index) == self.views[: len(self.logged(index))] for index in chosen),
            for_s,
        )

    def agree(self) -> None:
        """See that all logs are beginnings of one sequence of views, each by one member from the last."""
        logs = {
            index: self.logged(index) for index in range(len(self.ports)) if self.log_path(index).exists()
        }
        longest = max(logs.values(), key=len)
        for index, log in logs.items():
            if log != longest[: len(log)]:
                raise Failed(f"server {index} went through other views: {log} and {longest}")
        for before, after in pairwise(longest):
            if len(set(before) ^ set(after)) > 1:
                raise Failed(f"more than one member changed at once: {before}, {after}")
