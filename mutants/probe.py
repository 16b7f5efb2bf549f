"""Run in the mutated copy: simulator seeds from 1 on, until a named invariant fails. Prints one JSON object.

A run that fails without a name (a crash, a bare assertion) is remembered and the search goes on: such a
death does not count, but is reported apart.
"""

import json
import sys
from typing import Final

from viewstamp.sim.plan import RunPlan
from viewstamp.sim.run import execute

UNNAMED: Final = frozenset({"Assertion", "Crash"})
UNNAMED_MAX: Final = 5


def probe(protocol: str, seeds: int, workload: str | None) -> dict[str, object]:
    """Return what was found: the name of the invariant, the seed, and the first death without a name."""
    unnamed: list[str] = []
    for seed in range(1, seeds + 1):
        violation = execute(RunPlan(protocol, seed, workload=workload)).violation
        if violation is None:
            continue
        if violation.name not in UNNAMED:
            return {"name": violation.name, "seed": seed, "text": violation.explanation, "unnamed": unnamed}
        unnamed.append(f"seed {seed}: {violation.name}: {violation.explanation}")
        if len(unnamed) >= UNNAMED_MAX:
            break
    return {"name": None, "seed": seeds, "text": "", "unnamed": unnamed}


def main() -> None:
    """Take protocol, number of seeds and workload from the command line."""
    protocol, seeds, workload = sys.argv[1:4]
    json.dump(probe(protocol, int(seeds), workload or None), sys.stdout)


if __name__ == "__main__":
    main()
