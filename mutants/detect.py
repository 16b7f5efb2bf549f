"""The detectors, let loose on one mutated copy in processes of their own."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic
from typing import Final, Literal

import msgspec

from mutants.catalogue import Planted, plant

TIMEOUT_S: Final = 300.0
_FAILED: Final = re.compile(r"^FAILED (\S+)", re.MULTILINE)
_TESTS_FAILED: Final = 1

Fate = Literal["killed", "survived", "crashed", "timed out"]


class Death(msgspec.Struct, frozen=True):
    """What became of one mutant."""

    name: str
    fate: Fate
    """`crashed` and `timed out`: something noticed, but no check with a name. They do not count as killed."""
    killer: str
    """The invariant or the test; otherwise what is known."""
    seed: int | None
    """The seed that killed it; None: a scripted test did, or nothing."""
    seconds: float


def put_to_the_test(planted: Planted, *, scripted: bool = True) -> Death:
    """Plant the mutant in a temporary copy and run its detectors in order until one kills it.

    Raises:
        CatalogueError: the anchor does not match exactly once.
    """
    started = monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        plant(planted, copy)
        fate, killer, seed = _judge(planted, copy, scripted=scripted)
    return Death(planted.name, fate, killer, seed, round(monotonic() - started, 1))


def _judge(planted: Planted, copy: Path, *, scripted: bool) -> tuple[Fate, str, int | None]:
    mutant = planted.mutant
    fate: Fate = "survived"
    killer = ""
    if mutant.tests and scripted:
        fate, killer = _run_tests(mutant.tests, copy)
        if fate == "killed":
            return fate, killer, None
    if mutant.seeds:
        found = _run_seeds(planted, copy)
        if found[0] != "survived":
            return found
    return fate, killer, None


def _run_tests(tests: list[str], copy: Path) -> tuple[Fate, str]:
    command = [
        "-m",
        "pytest",
        "-x",
        "-q",
        "--tb=no",
        "-rf",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        *tests,
    ]
    done = _python(command, copy)
    if done is None:
        return "timed out", "scripted tests"
    failed = _FAILED.search(done.stdout)
    if done.returncode == _TESTS_FAILED and failed is not None:
        return "killed", failed[1]
    if done.returncode == 0:
        return "survived", ""
    return "crashed", f"pytest: {_last_line(done)}"


def _run_seeds(planted: Planted, copy: Path) -> tuple[Fate, str, int | None]:
    mutant = planted.mutant
    protocol = "raft" if mutant.protocol == "all" else mutant.protocol
    done = _python(["-m", "mutants.probe", protocol, str(mutant.seeds), mutant.workload or ""], copy)
    if done is None:
        return "timed out", "simulator", None
    if done.returncode != 0:
        return "crashed", f"simulator: {_last_line(done)}", None
    report = json.loads(done.stdout)
    if report["name"] is not None:
        return "killed", report["name"], report["seed"]
    if report["unnamed"]:
        return "crashed", report["unnamed"][0], None
    return "survived", "", None


def _python(arguments: list[str], copy: Path) -> subprocess.CompletedProcess[str] | None:
    """Run Python on the copy; None: it took too long."""
    environment = os.environ | {"PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}"}
    try:
        return subprocess.run(  # noqa: S603  our own interpreter, our own arguments
            [sys.executable, *arguments],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
