"""All that users wait for beside the work itself: measured, compared with what it may be, kept as JSON.

    python -m benchmarks.wait --json benchmarks/results/wait.json
    python -m benchmarks.wait --only idle startup

Each part is a module of `benchmarks.waiting` and can be run alone. Exit code 1: something takes too long.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import keep, machine
from benchmarks.limits import limits_table, verdicts
from benchmarks.waiting import failover, flood, idle, memory, restart, snapshots, startup, tls
from viewstamp.protocols.registry import PROTOCOL_NAMES, protocol_definition

Measure = Callable[[Path | None], dict[str, Any]]


ELECTING = [name for name in PROTOCOL_NAMES if protocol_definition(name).decided_by == "election"]
"""Those that replace a leader by themselves."""


def each_of(protocols: Sequence[str], measure: Callable[..., dict[str, Any]]) -> Measure:
    """Return a measurement of some protocols."""
    return lambda directory: {name: measure(directory, protocol=name) for name in protocols}


PARTS: dict[str, Measure] = {
    "startup": startup.measure,
    "idle": each_of(PROTOCOL_NAMES, idle.measure),
    "memory": memory.measure,
    "flood": flood.measure,
    "failover": each_of(ELECTING, failover.measure),
    "snapshots": snapshots.measure,
    "restart": restart.measure_both,
    "tls": tls.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument(
        "--json", type=Path, help="write every figure there; what it has of other parts stays"
    )
    parser.add_argument("--directory", type=Path, help="where the data goes: a real disk")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    if given.json is not None and given.json.exists():
        found = json.loads(given.json.read_text(encoding="utf-8"))
    found["machine"] = machine.describe()
    failed = []
    for name in given.only:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        try:
            found[name] = PARTS[name](given.directory)
        except Exception as error:  # noqa: BLE001  whatever it was, the other parts can be measured
            failed.append(f"{name} could not be measured: {error}")
        if given.json is not None:
            keep.write(given.json, found)
    print(limits_table(found), *failed, sep="\n")
    return 0 if not failed and all(verdict.met for verdict in verdicts(found)) else 1


if __name__ == "__main__":
    sys.exit(main())
