"""SIGKILL of the leader under load with default settings: how long nothing is acknowledged.

python -m benchmarks.waiting.failover --kills 20
"""

import argparse
import asyncio
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.waiting.lab import cluster
from viewstamp.testkit.load import Load
from viewstamp.testkit.processes import ServerGroup
from viewstamp.testkit.torture import torture_leader

KILLS = 20
WRITERS = 32
WRITES_BETWEEN = 200


async def pauses(group: ServerGroup, kills: int) -> list[float]:
    """Kill the leader again and again; return the longest silence around each kill, in seconds."""
    found = []
    async with Load(group, writers=WRITERS) as load:
        for _ in range(kills):
            load.ledger.begin_pause()
            await torture_leader(group, load, WRITES_BETWEEN)
            found.append(round(load.ledger.longest_pause_s, 3))
        assert not load.ledger.unknown, f"{len(load.ledger.unknown)} calls ended as unknown"
    return found


def measure(directory: Path | None = None, *, kills: int = KILLS, protocol: str = "raft") -> dict[str, Any]:
    """Return every pause, their median and the worst."""
    with cluster(directory, protocol=protocol) as group:
        found = asyncio.run(pauses(group, kills))
    return {"pauses_s": found, "median_s": median(found), "worst_s": max(found)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--protocol", default="raft")
    given = parser.parse_args()
    print(measure(kills=given.kills, protocol=given.protocol))
    return 0


if __name__ == "__main__":
    sys.exit(main())
