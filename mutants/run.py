"""`python -m mutants.run [NAME...]`: plant the mutants, let the detectors loose, write the table.

Exit codes: 0 the score is reached and every sentinel behaves; 1 not; 2 a mutant's file or anchor is wrong.
With names (parts of names) only those are run, and no table is written.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mutants.catalogue import ROOT, CatalogueError, Planted, load_all, sabotage
from mutants.detect import Death, put_to_the_test
from mutants.table import score, table

OK: Final = 0
TOO_LOW: Final = 1
BAD_INPUT: Final = 2
SCORE_MIN: Final = 0.95
TABLE: Final = ROOT / "docs" / "mutation-score.md"


def main(arguments: list[str]) -> int:
    """Run the suite and return the exit code."""
    scripted = "--simulator-only" not in arguments
    wanted = [argument for argument in arguments if not argument.startswith("--")]
    try:
        chosen = [
            planted for planted in load_all() if not wanted or any(part in planted.name for part in wanted)
        ]
        for planted in chosen:
            sabotage((ROOT / planted.mutant.file).read_text(encoding="utf-8"), planted)
    except (CatalogueError, OSError) as error:
        print(f"mutants: {error}", file=sys.stderr)  # noqa: T201
        return BAD_INPUT
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        deaths = list(pool.map(lambda planted: _tell(planted, scripted=scripted), chosen))
    if not wanted and scripted:
        TABLE.write_text(table(chosen, deaths), encoding="utf-8")
    total, critical, sentinels_behave = score(chosen, deaths)
    print(f"killed {total:.1%} of all, {critical:.1%} of the safety-critical")  # noqa: T201
    return OK if total >= SCORE_MIN and critical == 1.0 and sentinels_behave else TOO_LOW


def _tell(planted: Planted, *, scripted: bool) -> Death:
    death = put_to_the_test(planted, scripted=scripted)
    by = f" by {death.killer}" if death.killer else ""
    seed = f" on seed {death.seed}" if death.seed is not None else ""
    print(f"{death.name:<44} {death.fate}{by}{seed} in {death.seconds} s", flush=True)  # noqa: T201
    return death


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
