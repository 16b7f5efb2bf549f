"""The implementations that the conformance suite is run on."""

import itertools
from collections.abc import Callable
from pathlib import Path
from random import Random

from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.sim.world.content import DiskFaults
from viewstamp.sim.world.disk import SimFileSystem
from viewstamp.storage.directory import DataDirectory, open_data_directory
from viewstamp.storage.files import FileSystem, OsFileSystem
from viewstamp.storage.memory import MemoryMedium, open_memory_directory

CLUSTER = "tests"
NODE = NodeId(3)
SEGMENT_BYTES = 4096
PATH = "/data"


def open_on(files: FileSystem, path: str = PATH, *, incarnation: int = 7) -> DataDirectory:
    return open_data_directory(
        files,
        path,
        cluster_id=CLUSTER,
        node=NODE,
        incarnation=Incarnation(incarnation),
        segment_bytes=SEGMENT_BYTES,
    )


class RealBed:
    """The real file system. A crash ends the process only: the files are dropped without being closed."""

    def __init__(self, path: Path) -> None:
        self._path = str(path / "data")
        self._lives = itertools.count(1)
        self._open: list[DataDirectory] = []

    def open(self) -> DataDirectory:
        directory = open_on(OsFileSystem(), self._path, incarnation=next(self._lives))
        self._open.append(directory)
        return directory

    def crash(self) -> None:
        self._open[-1]._lock.close()  # type: ignore[union-attr]


class SimBed:
    def __init__(self, rng: Random, faults: DiskFaults) -> None:
        self.files = SimFileSystem(rng, faults=faults)
        self._lives = itertools.count(1)

    def open(self) -> DataDirectory:
        return open_on(self.files, incarnation=next(self._lives))

    def crash(self) -> None:
        self.files.crash()


class MemoryBed:
    def __init__(self) -> None:
        self._medium = MemoryMedium()
        self._lives = itertools.count(1)

    def open(self) -> DataDirectory:
        return open_memory_directory(
            self._medium, cluster_id=CLUSTER, node=NODE, incarnation=Incarnation(next(self._lives))
        )

    def crash(self) -> None:
        """Keep the medium, drop the journal."""


BEDS: dict[str, Callable[[Path], RealBed | SimBed | MemoryBed]] = {
    "real": RealBed,
    "sim": lambda _: SimBed(Random(1), DiskFaults(torn=1.0)),
    "sim-short-writes": lambda _: SimBed(Random(2), DiskFaults(short_write=0.5)),
    "memory": lambda _: MemoryBed(),
}
