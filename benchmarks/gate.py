"""Has the path of a write become slower? Processor time beside committed figures, in less than a minute.

    python -m benchmarks.gate              exit code 1: some part takes more than a tenth longer than it did
    python -m benchmarks.gate --write      keep these figures as those to compare with

Rates depend on the machine and on what else it does, so none is measured here. Each part of the path is run
in slices of two milliseconds, in turns with some work of the standard library, and the least of each counts:
noise only ever adds. The figure is the quotient. That work is pure Python and wide enough to suffer from a
crowded cache as the parts do: beside a tight loop they seem a quarter slower when other programs run. What
seems slower is measured again in another process, for where a process lies in memory is noise as well.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import process_time
from typing import Final

from benchmarks.micro import Action, calls, sessions, steps, timed_s
from benchmarks.tables import markdown

FIGURES: Final = Path(__file__).parent / "results" / "gate.json"
TOLERANCE: Final = 0.10
ROUNDS: Final = 120
SLICE_S: Final = 0.002
PROCESSES: Final = 5
"""At most: the least of them counts."""
DOCUMENT: Final = {f"k{number}": [(number, str(number), {"x": number})] for number in range(20)}

Figures = dict[str, float]


def reference() -> None:
    """What the parts are compared with."""
    "".join(json.JSONEncoder(indent=1).iterencode(DOCUMENT))  # in Python, on all versions


def cases() -> Iterator[tuple[str, int, Action]]:
    """Yield the parts of the path: (name, operations in one call, call)."""
    yield from calls()
    yield from sessions()
    yield from steps()


def cost(action: Action, operations: int, rounds: int = ROUNDS) -> float:
    """Return what an operation takes, in runs of `reference`."""
    counts = [_count(reference), _count(action)]
    least = [float("inf"), float("inf")]
    for _ in range(rounds):
        for place, each in enumerate((reference, action)):
            least[place] = min(least[place], timed_s(each, counts[place]) / counts[place])
    return least[1] / operations / least[0]


def _count(action: Action) -> int:
    """Return how many calls make a slice."""
    began, count = process_time(), 0
    while process_time() - began < SLICE_S:
        action()
        count += 1
    return count


def measured() -> Figures:
    """Return what each part takes, measured in this process."""
    return {name: round(cost(action, operations), 5) for name, operations, action in cases()}


def elsewhere() -> Figures:
    """Return the same, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gate", "--measure"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: Figures = json.loads(ran.stdout)
    return figures


def least_of(measure: Callable[[], Figures], before: Mapping[str, float]) -> Figures:
    """Measure until nothing seems slower than before, or often enough; return the least of each."""
    found = measure()
    for _ in range(PROCESSES - 1):
        if not slower(found, before):
            break
        found = {name: min(taken, found[name]) for name, taken in measure().items()}
    return found


def slower(found: Mapping[str, float], before: Mapping[str, float]) -> list[str]:
    """Return a line for each part that takes longer than it did, or that has no figure."""
    limit = 1 + TOLERANCE
    return [
        f"{name}: {taken / before[name]:.2f} times what it was" if name in before else f"{name}: no figure"
        for name, taken in found.items()
        if taken > before.get(name, 0.0) * limit
    ]


def table(found: Mapping[str, float], before: Mapping[str, float]) -> str:
    """Return the figures as Markdown."""
    lines = [
        [name, f"{taken:.4f}", f"{taken / before[name]:.2f}" if name in before else "new"]
        for name, taken in found.items()
    ]
    return markdown(["part", "in runs of the reference", "of what it was"], lines)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="keep the figures")
    parser.add_argument("--measure", action="store_true", help="measure once and print the figures as JSON")
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured()))
        return 0
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    kept: dict[str, Figures] = json.loads(FIGURES.read_text(encoding="utf-8"))
    before = {} if given.write else kept.get(python, {})
    found = least_of(elsewhere, before)
    print(table(found, before))
    if given.write:
        figures = json.dumps({**kept, python: found}, indent=1, sort_keys=True)
        FIGURES.write_text(figures + "\n", encoding="utf-8")
        return 0
    if not before:
        print(f"no figures of {python}, so nothing is compared: python -m benchmarks.gate --write")
        return 0
    worse = slower(found, before)
    print(*worse, sep="\n")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
