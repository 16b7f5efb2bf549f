"""Run in the mutated copy: simulator seeds from 1 on, until a named invariant fails. Prints one JSON object.

A run that fails without a name (a crash, a bare assertion) is remembered and the search goes on: such a
death does not count, but is reported apart.
"""

import json
import sys
from typing import Final

from viewstamp.sim.run.plan import RunPlan, RunReport
from viewstamp.sim.run.run import execute
from viewstamp.simruntime.run import execute as execute_runtime

UNNAMED: Final = frozenset({"Assertion", "Crash"})
UNNAMED_MAX: Final = 5


def run(simulation: str, seed: int, workload: str | None) -> RunReport:
    """Run a seed of a protocol, or of the whole runtime (`raft runtime`)."""
    protocol, _, whole = simulation.partition(" ")
    plan = RunPlan(protocol, seed, workload=workload, runtime=bool(whole))
    return execute_runtime(plan) if whole else execute(plan)


def probe(protocol: str, seeds: int, workload: str | None, skipped: frozenset[int]) -> dict[str, object]:
    """Return what was found: the name of the invariant, the seed, and the first death without a name."""
    unnamed: list[str] = []
    for seed in range(1, seeds + 1):
        if seed in skipped:
            continue
        violation = run(protocol, seed, workload).violation
        if violation is None:
            continue
        if violation.name not in UNNAMED:
            return {"name": violation.name, "seed": seed, "text": violation.explanation, "unnamed": unnamed}
        unnamed.append(f"seed {seed}: {violation.name}: {violation.explanation}")
        if len(unnamed) >= UNNAMED_MAX:
            break
    return {"name": None, "seed": seeds, "text": "", "unnamed": unnamed}


def control(protocol: str, seeds: int) -> dict[str, object]:
    """Return the seeds that fail without any mutant, and how. There should be none."""
    failing = {}
    for seed in range(1, seeds + 1):
        violation = run(protocol, seed, None).violation
        if violation is not None:
            failing[seed] = f"{violation.name}: {violation.explanation}"
    return {"failing": failing}


def main() -> None:
    """Take what to do, protocol, number of seeds, workload and seeds to leave out from the command line."""
    what, protocol, seeds, workload, skipped = sys.argv[1:6]
    if what == "control":
        json.dump(control(protocol, int(seeds)), sys.stdout)
        return
    left_out = frozenset(map(int, filter(None, skipped.split(","))))
    json.dump(probe(protocol, int(seeds), workload or None, left_out), sys.stdout)


if __name__ == "__main__":
    main()
