"""What a peer must be able to do, and processes that end when they should."""

import json
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import IO, Any, Final, Protocol

import msgspec

from benchmarks.loads.lines import Plan

ROOT: Final = Path(__file__).parents[2]
LOADS: Final = ROOT / "benchmarks" / "loads"
BUILD: Final = ROOT / "build" / "bench"
"""What is compiled once: not part of the project."""
HOST: Final = "127.0.0.1"
_STARTS_WITHIN_S: Final = 60.0
_ENDS_WITHIN_S: Final = 20.0
_ANSWERS_WITHIN_S: Final = 60.0
"""Beyond the seconds of the plan."""


class PeerFailed(RuntimeError):
    """A peer did not start or did not answer; the text names its log."""


class Running(msgspec.Struct):
    """A cluster that runs, with its load generator connected."""

    server_pids: list[int]
    load_pids: list[int]
    ask: Callable[[Plan], dict[str, Any]]
    """Carry out a plan and return its figures."""


class Peer(Protocol):
    """Something that is compared."""

    name: str
    workloads: tuple[str, ...]
    """Those that it can do."""
    keeps_running: bool
    """It is best left running, idle, from round to round, for it takes minutes to warm up."""
    connects: bool
    """Its clients share connections, so that the number of those matters."""

    def missing(self) -> list[str]:
        """Return the Debian packages that must be installed first; empty: it can run."""
        ...

    def prepare(self) -> None:
        """Compile what must be compiled. Called once."""
        ...

    def version(self) -> str:
        """Return what stands in the table of versions."""
        ...

    def start(self, stack: ExitStack, folder: Path) -> Running:
        """Start a fresh cluster whose data is in `folder`. Everything ends with the stack."""
        ...


class Process:
    """A process of a peer. It ends with the stack, asked first and then forced."""

    def __init__(
        self, stack: ExitStack, command: Sequence[object], log: Path, *, talks: bool = False
    ) -> None:
        self._log = log
        pipe = subprocess.PIPE if talks else subprocess.DEVNULL
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                cwd=ROOT, stdin=pipe, stdout=pipe if talks else errors, stderr=errors,
            )  # fmt: skip
        self.pid = self._process.pid
        stack.callback(self._end)

    def say(self, line: str) -> None:
        """Write a line to its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()

    def hear(self, within_s: float = _STARTS_WITHIN_S) -> str:
        """Return the next line of its output; raise `PeerFailed` where none comes in time."""
        output = self._process.stdout
        assert output is not None
        ready, _, _ = select.select([output], [], [], within_s)
        line = output.readline() if ready else b""
        if not line:
            raise PeerFailed(f"no answer; see {self._log}: {self._last_words()}")
        return line.decode()

    def ask(self, plan: Plan) -> dict[str, Any]:
        """Have a load generator carry out a plan."""
        self.say(plan.line())
        document: dict[str, Any] = json.loads(self.hear(plan.warm_s + plan.seconds + _ANSWERS_WITHIN_S))
        return document

    def _last_words(self) -> str:
        return " / ".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            close(pipe)
        self._process.terminate()
        try:
            self._process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def close(pipe: IO[bytes] | None) -> None:
    """Close one end of a pipe, whatever happened to the other."""
    if pipe is not None:
        try:
            pipe.close()
        except BrokenPipeError:
            return


def python(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of this folder."""
    return [sys.executable, "-m", f"benchmarks.loads.{module}", *(str(argument) for argument in arguments)]


def wait_for_port(port: int, within_s: float = _STARTS_WITHIN_S) -> None:
    """Return once somebody listens there."""
    deadline = monotonic() + within_s
    while True:
        with socket.socket() as probe:
            probe.settimeout(0.1)
            if probe.connect_ex((HOST, port)) == 0:
                return
        if monotonic() > deadline:
            raise PeerFailed(f"nobody listens on port {port} after {within_s:g} s")


def missing_packages(needed: dict[str, str]) -> list[str]:
    """Return the packages of those programs (or files) that are not there. `needed`: program to package."""
    absent = {
        package
        for name, package in needed.items()
        if not (Path(name).exists() if name.startswith("/") else shutil.which(name))
    }
    return sorted(absent)


def run(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> str:
    """Run to the end and return the output; raise `PeerFailed` with it where that fails."""
    ran = subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise PeerFailed(f"{command[0]} failed: {ran.stderr or ran.stdout}")
    return ran.stdout + ran.stderr
