"""Fuzz every target for its share of the time, and add to the ledger: `python -m fuzz --minutes 30`.

What is found stays in `build/fuzz`. A crash ends with exit code 1 and the name of the file that repeats it.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fuzz.ledger import Ledger
from fuzz.targets import TARGETS

ROOT: Final = Path(__file__).resolve().parent.parent
CORPUS: Final = ROOT / "fuzz" / "corpus"
WORK: Final = ROOT / "build" / "fuzz"
INPUT_BYTES_MAX: Final = 1 << 13
CORPUS_BYTES_MAX: Final = 1 << 11
_EXECUTED: Final = re.compile(r"number_of_executed_units:\s*(\d+)|^Done (\d+) runs|^#(\d+)\s", re.MULTILINE)
_CRASH: Final = re.compile(r"Test unit written to (\S+)")


def fuzz(name: str, seconds: int) -> tuple[int, list[str]]:
    """Fuzz one target; return how many inputs it was run on, and the files of what was found."""
    work, corpus = WORK / name, CORPUS / name
    for folder in (work, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.run(
        [
            *(sys.executable, "-m", "fuzz.run", name, f"-max_total_time={seconds}", "-print_final_stats=1"),
            *(f"-max_len={INPUT_BYTES_MAX}", "-timeout=20", "-rss_limit_mb=2048", "-len_control=20"),
            *(f"-artifact_prefix={work}-", "-verbosity=1", str(work), str(corpus)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    report = process.stderr + process.stdout
    (WORK / f"{name}.log").write_text(report[-100_000:], encoding="utf-8")
    counts = [int(number) for found in _EXECUTED.findall(report) for number in found if number]
    return max(counts, default=0), _CRASH.findall(report)


def minimise(name: str) -> None:
    """Put the smallest inputs that reach what all reach into the corpus of the repository."""
    merged = WORK / f"{name}.merged"
    merged.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "fuzz.run", name, "-merge=1", f"-max_len={CORPUS_BYTES_MAX}"),
            *(str(merged), str(CORPUS / name), str(WORK / name)),
        ],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    for old in (CORPUS / name).iterdir():
        old.unlink()
    for kept in sorted(merged.iterdir()):
        kept.rename(CORPUS / name / kept.name[:16])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="fuzz every target for its share of the time")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--ledger", type=Path, default=ROOT / "docs" / "fuzz-ledger.md")
    parser.add_argument("--minimise", action="store_true", help="then keep in fuzz/corpus what reached more")
    parser.add_argument("targets", nargs="*", default=[], help="all, unless named")
    chosen = parser.parse_args(arguments)
    names = chosen.targets or list(TARGETS)
    failed = False
    for name in names:
        executed, crashes = fuzz(name, max(1, round(60 * chosen.minutes / len(names))))
        Ledger(chosen.ledger).add(name, executed, len(crashes))
        print(f"{name}: {executed:,} inputs, {len(crashes)} findings", *crashes, flush=True)
        failed = failed or bool(crashes)
        if chosen.minimise:
            minimise(name)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
