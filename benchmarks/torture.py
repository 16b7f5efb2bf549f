"""Kill leaders under load for as long as one likes (`make torture`).

Prints a line for each kill, and at the end kills all nodes, restarts them and audits every write. Exit code
1: a write that was acknowledged is lost, or one was done twice.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from time import monotonic

from viewstamp.testkit.load import Load, read_all, wait_for_leader
from viewstamp.testkit.processes import ServerGroup
from viewstamp.testkit.torture import torture_leader


async def torture(folder: Path, nodes: int, kills: int, writes: int) -> int:
    began = monotonic()
    with ServerGroup(folder, nodes) as group:
        group.start()
        await wait_for_leader(group)
        async with Load(group, writers=32) as load:
            for number in range(1, kills + 1):
                load.ledger.begin_pause()
                victim = await torture_leader(group, load, writes)
                total, pause = len(load.ledger.acknowledged), load.ledger.longest_pause_s
                print(f"kill {number}: node {victim.node}; {total} writes acknowledged, pause {pause:.2f} s")
        group.kill_all()
        group.start()
        problems = load.ledger.audit(await read_all(group))
    for problem in problems[:20]:
        print(f"FAILED: {problem}")
    ledger = load.ledger
    print(
        f"{nodes} nodes, {kills} kills, {monotonic() - began:.0f} s: {len(ledger.acknowledged)} acknowledged"
    )
    print(f"{len(ledger.unknown)} unknown, {len(ledger.refused)} refused, {len(problems)} contradictions")
    return 1 if problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--writes", type=int, default=500, help="writes between two steps")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="viewstamp-torture-") as folder:
        return asyncio.run(torture(Path(folder), given.nodes, given.kills, given.writes))


if __name__ == "__main__":
    sys.exit(main())
