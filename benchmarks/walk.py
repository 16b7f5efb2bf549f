"""The walk of one request through the sources: which functions and files it enters, in which order.

    python -m benchmarks.walk                         a write and a read on three replicas, a write on one
    python -m benchmarks.walk --protocol viewstamped --table

Client and replicas run in one process, warm, each replica with a data directory. Counted is what was entered
between the call and its result: calls, functions, files, and changes of file (a function of another file than
the one entered before it). Heartbeats fall into some walks, so the shortest of many is shown.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import msgspec

import viewstamp
from benchmarks.tables import markdown
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.runtime.config import NodeConfig
from viewstamp.runtime.local import local_cluster
from viewstamp.services.kv import KeyValueStore

ROOT: Final = f"{Path(viewstamp.__file__).parent}/"
WARM_UP: Final = 50
REPEATS: Final = 40
CLUSTERS: Final = 4
"""The order in which sockets become ready differs from cluster to cluster, and with it the walk."""
SETTLE_S: Final = 0.002
"""Pause before each walk, in which the turns of the one before end."""


class Walk(msgspec.Struct, frozen=True):
    """The functions that one request entered, in order."""

    entered: tuple[CodeType, ...]

    @property
    def files(self) -> list[str]:
        """The file of each call, below the package."""
        return [code.co_filename.removeprefix(ROOT) for code in self.entered]

    @property
    def functions(self) -> list[tuple[str, str]]:
        """The file and the name of each call. Two code objects may be equal without being of one file."""
        return [(file, code.co_qualname) for file, code in zip(self.files, self.entered, strict=True)]

    def figures(self) -> tuple[int, int, int, int]:
        """Return the numbers of calls, functions, files and changes of file."""
        files = self.files
        changes = sum(one != next_ for one, next_ in pairwise(files))
        return len(files), len(set(self.functions)), len(set(files)), changes


async def walk_of(call: Callable[[], Awaitable[Any]]) -> Walk:
    """Return what `call` enters until its result is there."""
    entered: list[CodeType] = []

    def profile(frame: FrameType, event: str, _argument: Any) -> None:
        # A comprehension is a function of its own up to Python 3.11, and none later.
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(ROOT) and not code.co_name.endswith("comp>"):
            entered.append(code)

    sys.setprofile(profile)
    try:
        await call()
    finally:
        sys.setprofile(None)
    return Walk(tuple(entered))


async def least(call: Callable[[], Awaitable[Any]]) -> Walk:
    """Return the shortest of many walks."""
    for _ in range(WARM_UP):
        await call()
    walks: list[Walk] = []
    for _ in range(REPEATS):
        await asyncio.sleep(SETTLE_S)
        walks.append(await walk_of(call))
    return min(walks, key=lambda walk: len(walk.entered))


async def measure(protocol: str, replicas: int, directory: str) -> dict[str, Walk]:
    """Return the walks of a write and of a read on that many replicas."""
    config = NodeConfig(snapshot_placement="inline", sync_placement="inline")
    async with (
        local_cluster(
            KeyValueStore, replicas, protocol=protocol, directory=directory, node_config=config
        ) as cluster,
        cluster.connect() as store,
    ):
        await cluster.leader()
        return {
            f"write, {replicas} replicas": await least(lambda: store.set("key", b"value")),
            f"read, {replicas} replicas": await least(lambda: store.get("key")),
        }


def table(walk: Walk) -> str:
    """Return how many calls and functions of each file a walk entered, in the order of first entry."""
    calls = Counter(walk.files)
    functions = Counter(file for file, _ in set(walk.functions))
    rows = [[file, str(count), str(functions[file])] for file, count in calls.items()]
    return markdown(["file", "calls", "functions"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--protocol", choices=PROTOCOL_NAMES, default="raft")
    parser.add_argument("--table", action="store_true", help="list the files of the first walk")
    parser.add_argument("--order", action="store_true", help="list the functions of the first walk, in order")
    given = parser.parse_args()
    walks: dict[str, Walk] = {}
    for replicas in (3, 1) * CLUSTERS:
        with tempfile.TemporaryDirectory() as directory:
            for name, walk in asyncio.run(measure(given.protocol, replicas, directory)).items():
                walks[name] = min(walks.get(name, walk), walk, key=lambda walk: len(walk.entered))
    rows = [[name, *map(str, walk.figures())] for name, walk in walks.items()]
    print(markdown(["walk", "calls", "functions", "files", "changes of file"], rows))
    first = next(iter(walks.values()))
    if given.table:
        print(table(first))
    if given.order:
        print("\n".join(map(" ".join, first.functions)))


if __name__ == "__main__":
    main()
