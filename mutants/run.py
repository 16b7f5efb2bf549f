# ruff: noqa: T201  a command that prints
"""`python -m mutants.run [NAME...]`: plant the mutants, run the detectors, write the table.

Exit codes: 0 the score is reached and every sentinel behaves; 1 not; 2 a mutant's file or anchor is wrong.
With names (parts of names) only those are run, and no table is written.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from mutants.catalogue import ROOT, CatalogueError, Planted, copy_tree, load_all, sabotage
from mutants.detect import NOTHING_FAILS, Control, Death, run_control, run_detectors
from mutants.table import score, table

OK: Final = 0
TOO_LOW: Final = 1
BAD_INPUT: Final = 2
SCORE_MIN: Final = 0.95
TABLE: Final = ROOT / "docs" / "mutation-score.md"


def main(arguments: list[str]) -> int:
    """Run the suite and return the exit code."""
    wanted, thorough = _read(arguments)
    try:
        chosen = _choose(wanted)
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            # One copy for all: later edits do not change the run.
            copy_tree(Path(folder))
            control, deaths = _run_all(chosen, Path(folder), thorough=thorough)
    except (CatalogueError, OSError) as error:
        print(f"mutants: {error}", file=sys.stderr)
        return BAD_INPUT
    if not wanted:
        TABLE.write_text(table(chosen, deaths), encoding="utf-8")
    total, critical, sentinels_behave = score(chosen, deaths)
    print(f"killed {total:.1%} of all, {critical:.1%} of the safety-critical")
    reached = total >= SCORE_MIN and critical == 1.0 and sentinels_behave and control == NOTHING_FAILS
    return OK if reached else TOO_LOW


def _read(arguments: list[str]) -> tuple[list[str], bool]:
    parser = argparse.ArgumentParser(prog="mutants.run", description=__doc__)
    parser.add_argument("wanted", nargs="*", metavar="PART", help="only mutants with this in their names")
    parser.add_argument("--thorough", action="store_true", help="the simulator too where a script kills")
    read = parser.parse_args(arguments)
    return read.wanted, read.thorough or not read.wanted


def _run_all(chosen: list[Planted], source: Path, *, thorough: bool) -> tuple[Control, list[Death]]:
    """Run the control, then every mutant, two at a time."""
    control = run_control(chosen, source)
    for protocol, seeds in control.seeds.items():
        for seed, text in seeds.items():
            print(
                f"{protocol} seed {seed} fails without any mutant and proves nothing: {text}", file=sys.stderr
            )
    for test in control.tests:
        print(f"{test} fails without any mutant and proves nothing", file=sys.stderr)
    run_one = partial(_report, source=source, thorough=thorough, control=control)
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        return control, list(pool.map(run_one, chosen))


def _choose(wanted: list[str]) -> list[Planted]:
    """Return the mutants whose names contain one of these. Raises `CatalogueError` for a rotten anchor."""
    chosen = [planted for planted in load_all() if not wanted or any(part in planted.name for part in wanted)]
    if not chosen:
        raise CatalogueError(f"no mutant has a name that contains {', '.join(wanted)}")
    for planted in chosen:
        sabotage((ROOT / planted.mutant.file).read_text(encoding="utf-8"), planted)
    return chosen


def _report(planted: Planted, *, source: Path, thorough: bool, control: Control) -> Death:
    death = run_detectors(planted, source, thorough=thorough, control=control)
    by = f" by {death.killer}" if death.killer else ""
    seed = f" on seed {death.seed}" if death.seed is not None else ""
    alone = f" (simulator: {death.simulator})" if death.simulator else ""
    print(f"{death.name:<40} {death.fate}{by}{seed} in {death.seconds} s{alone}", flush=True)
    return death


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
