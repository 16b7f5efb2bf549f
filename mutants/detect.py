"""The detectors, run on one mutated copy in processes of their own."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Final, Literal

import msgspec

from mutants.catalogue import ROOT, CatalogueError, Planted, plant

TIMEOUT_S: Final = 300.0
_FAILED: Final = re.compile(r"^FAILED (\S+)", re.MULTILINE)
_TESTS_FAILED: Final = 1
_PYTEST: Final = ("-m", "pytest", "-q", "--tb=no", "-rf", "-p", "no:cacheprovider", "-p", "no:xdist")

Fate = Literal["killed", "survived", "crashed", "timed out"]


class Death(msgspec.Struct, frozen=True):
    """How one mutant ended."""

    name: str
    fate: Fate
    """`crashed` and `timed out`: something noticed, but no check with a name. They do not count as killed."""
    killer: str
    """The invariant or the test; otherwise what is known of its end."""
    seed: int | None
    """The seed that killed it; None: a scripted test did, or nothing."""
    seconds: float
    simulator: str = ""
    """What the seeds alone found; empty: they were not tried."""


class Finding(msgspec.Struct, frozen=True):
    """What one detector found."""

    fate: Fate
    killer: str = ""
    seed: int | None = None

    def __str__(self) -> str:
        return self.fate if self.seed is None else f"{self.killer}, seed {self.seed}"


class Control(msgspec.Struct, frozen=True):
    """What fails on the source as it is, and therefore proves nothing. There should be none."""

    seeds: dict[str, dict[int, str]] = {}
    """For each protocol (with ` runtime`: of the whole runtime) the seeds, and how they fail."""
    tests: tuple[str, ...] = ()


NOTHING_FAILS: Final = Control()


def run_detectors(
    planted: Planted, source: Path = ROOT, *, thorough: bool = False, control: Control = NOTHING_FAILS
) -> Death:
    """Plant the mutant in a temporary copy and run its detectors in order until one kills it.

    Args:
        planted: the mutant.
        source: the tree to plant it in a copy of.
        thorough: run the simulator's seeds even if a scripted test has killed it.
        control: what fails without the mutant; it is left out.

    Raises:
        CatalogueError: the anchor does not match exactly once.
    """
    mutant = planted.mutant
    started = monotonic()
    first = Finding("survived")
    by_seeds: Finding | None = None
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        plant(planted, copy, source)
        if mutant.tests:
            first = _run_tests(mutant.tests, copy, control.tests)
        seconds = monotonic() - started
        simulation, seeds = mutant.simulation
        if seeds and (thorough or first.fate != "killed"):
            by_seeds = _run_seeds(planted, copy, tuple(control.seeds.get(simulation, ())))
            if first.fate != "killed":
                first = first if by_seeds.fate == "survived" else by_seeds
                seconds = monotonic() - started
    return Death(
        planted.name,
        first.fate,
        first.killer,
        first.seed,
        round(seconds, 1),
        "" if by_seeds is None else str(by_seeds),
    )


def run_control(mutants: Sequence[Planted], source: Path) -> Control:
    """Run all detectors on the tree `source`, as it is.

    Raises:
        CatalogueError: the simulator or the tests cannot be run at all.
    """
    tests = sorted({test for planted in mutants for test in planted.mutant.tests})
    seeds: dict[str, int] = {}
    for mutant in (planted.mutant for planted in mutants):
        simulation, count = mutant.simulation
        seeds[simulation] = max(count, seeds.get(simulation, 0))
    failing = {
        protocol: found
        for protocol, count in sorted(seeds.items())
        if count and (found := _failing_seeds(protocol, count, source))
    }
    return Control(failing, _failing_tests(tests, source) if tests else ())


def _failing_tests(tests: list[str], source: Path) -> tuple[str, ...]:
    done = _python([*_PYTEST, *tests], source, timeout_s=None)
    assert done is not None
    if done.returncode not in {0, _TESTS_FAILED}:
        raise CatalogueError(f"the tests do not run on the source as it is: {_last_line(done)}")
    return tuple(_FAILED.findall(done.stdout))


def _failing_seeds(protocol: str, seeds: int, source: Path) -> dict[int, str]:
    """Return the seeds that fail on the source as it is, and how."""
    done = _python(["-m", "mutants.probe", "control", protocol, str(seeds), "", ""], source, timeout_s=None)
    assert done is not None
    if done.returncode != 0:
        raise CatalogueError(f"the simulator does not run on the source as it is: {_last_line(done)}")
    return {int(seed): text for seed, text in json.loads(done.stdout)["failing"].items()}


def _run_tests(tests: list[str], copy: Path, failing: Sequence[str]) -> Finding:
    left_out = [argument for test in failing for argument in ("--deselect", test)]
    command = [*_PYTEST, "-x", *left_out, *tests]
    done = _python(command, copy)
    if done is None:
        return Finding("timed out", "scripted tests")
    failed = _FAILED.search(done.stdout)
    if done.returncode == _TESTS_FAILED and failed is not None:
        return Finding("killed", failed[1])
    if done.returncode == 0:
        return Finding("survived")
    return Finding("crashed", f"pytest: {_last_line(done)}")


def _run_seeds(planted: Planted, copy: Path, skipped: Sequence[int]) -> Finding:
    mutant = planted.mutant
    simulation, seeds = mutant.simulation
    left_out = ",".join(map(str, skipped))
    done = _python(
        [
            "-m",
            "mutants.probe",
            "probe",
            simulation,
            str(seeds),
            mutant.workload or "",
            left_out,
        ],
        copy,
    )
    if done is None:
        return Finding("timed out", "simulator")
    if done.returncode != 0:
        return Finding("crashed", f"simulator: {_last_line(done)}")
    report = json.loads(done.stdout)
    if report["name"] is not None:
        return Finding("killed", report["name"], report["seed"])
    return Finding("crashed", report["unnamed"][0]) if report["unnamed"] else Finding("survived")


def _python(
    arguments: list[str], copy: Path, *, timeout_s: float | None = TIMEOUT_S
) -> subprocess.CompletedProcess[str] | None:
    """Run Python on the copy; None: it took too long."""
    environment = os.environ | {"PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}"}
    try:
        return subprocess.run(  # noqa: S603  our own interpreter, our own arguments
            [sys.executable, *arguments],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
