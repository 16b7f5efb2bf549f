"""The format of a mutant, where the files are, and how one is planted."""

import shutil
from pathlib import Path
from typing import Final, Literal

import msgspec

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDERS: Final = (
    "adapters",
    "border",
    "files",
    "testkit",
    "locks",
    "primary_backup",
    "raft",
    "recipes",
    "replica",
    "runtime",
    "storage",
    "store",
    "versions",
    "viewstamped",
)
_COPIED: Final = ("src", "tests", "mutants", "fuzz")


class CatalogueError(Exception):
    """A mutant cannot be used as it stands: its file is wrong, or its anchor does not match exactly once."""


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One deliberate bug, as its TOML file describes it."""

    row: str
    """The row of the fault catalogue that it plants; `S` and a number for sentinels."""
    title: str
    """What it sabotages, in a few words."""
    file: str
    """The file that it touches."""
    anchor: str
    """Text that must occur in the file exactly once."""
    replacement: str
    protocol: Literal["raft", "viewstamped", "primary_backup", "all"]
    """The protocol whose seeds are run on it; `all`: shared code, and raft's seeds suffice."""
    safety_critical: bool
    expected: list[str]
    """Names of invariants, and scripted tests, that are expected to kill it."""
    tests: list[str] = []
    """Scripted tests to run first, as pytest ids."""
    seeds: int = 30
    """Simulator seeds allowed, from 1; 0: only the scripted tests run."""
    runtime: int = 0
    """Seeds of the simulation of the whole runtime, from 1. Where there are some, `seeds` are not run."""
    workload: str | None = None
    """The simulator's workload, where one alone can see it."""
    quick: bool = False
    """Part of the selection in `make test`."""
    must: Literal["die", "survive"] = "die"
    why: str = ""
    """Of one that survives: why it is equivalent. Otherwise a remark."""

    @property
    def simulated(self) -> str:
        """The protocol whose simulator seeds are run on it."""
        return "raft" if self.protocol == "all" else self.protocol

    @property
    def simulation(self) -> tuple[str, int]:
        """Which simulator seeds are run on it, as `probe` takes it, and how many."""
        return (f"{self.simulated} runtime", self.runtime) if self.runtime else (self.simulated, self.seeds)


class Planted(msgspec.Struct, frozen=True):
    """A mutant with the name of its file."""

    name: str
    """Folder and stem, such as `raft/r15-truncate-always`."""
    mutant: Mutant


def load(path: Path) -> Planted:
    """Return the mutant that a file describes.

    Raises:
        CatalogueError: the file is not of the format.
    """
    name = f"{path.parent.name}/{path.stem}"
    try:
        mutant = msgspec.toml.decode(path.read_bytes(), type=Mutant)
    except msgspec.DecodeError as error:
        raise CatalogueError(f"{name}: {error}") from error
    if mutant.must == "survive" and not mutant.why:
        raise CatalogueError(f"{name}: it must survive, but `why` does not say why it is equivalent")
    return Planted(name, mutant)


def load_all() -> list[Planted]:
    """Return all mutants, by name."""
    files = (path for folder in FOLDERS for path in sorted((ROOT / "mutants" / folder).glob("*.toml")))
    return [load(path) for path in files]


def sabotage(source: str, planted: Planted) -> str:
    """Return the source with the mutant in it.

    Raises:
        CatalogueError: the anchor does not match exactly once, or the replacement changes nothing.
    """
    mutant = planted.mutant
    count = source.count(mutant.anchor)
    if count != 1:
        raise CatalogueError(f"{planted.name}: the anchor matches {count} times in {mutant.file}, not once")
    if mutant.anchor == mutant.replacement:
        raise CatalogueError(f"{planted.name}: the replacement is the anchor")
    return source.replace(mutant.anchor, mutant.replacement)


def copy_tree(target: Path, source: Path = ROOT) -> None:
    """Copy what detectors need of the tree `source` into the directory `target`."""
    for folder in _COPIED:
        shutil.copytree(source / folder, target / folder)
    shutil.copy2(source / "pyproject.toml", target)


def plant(planted: Planted, target: Path, source: Path = ROOT) -> None:
    """Copy the tree `source` into the empty directory `target`, with the mutant in it.

    Raises:
        CatalogueError: the anchor does not match exactly once.
    """
    changed = sabotage((source / planted.mutant.file).read_text(encoding="utf-8"), planted)
    copy_tree(target, source)
    (target / planted.mutant.file).write_text(changed, encoding="utf-8")
