"""The maps in the docstrings of packages name what exists."""

import re
from importlib import import_module
from pathlib import Path

import pytest

SHARED = "viewstamp.protocols.replication"
PACKAGES = ("viewstamp.protocols.raft", SHARED)


def exists(package: str, name: str) -> bool:
    """Return whether a module of the package has what a map names, such as `leader.Leader.count`.

    What the protocols share is named with its package: `replication.rounds.CatchUpRounds`.
    """
    if name.startswith("replication."):
        package, name = SHARED, name.removeprefix("replication.")
    module, *attributes = name.split(".")
    found: object = import_module(f"{package}.{module}")
    *path, last = attributes
    for attribute in path:
        found = getattr(found, attribute)
    return hasattr(found, last) or last in getattr(found, "__slots__", ())


@pytest.mark.parametrize("package", PACKAGES)
def test_every_function_that_the_map_names_exists(package: str) -> None:
    text = import_module(package).__doc__ or ""
    rows = [line for line in text.splitlines() if line.startswith("- ")]
    names = [name for row in rows for name in re.findall(r"`([\w.]+\.[\w.]+)`", row)]
    assert len(names) >= 10, "the map has been lost"
    assert [name for name in names if not exists(package, name)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reading_order_names_every_module(package: str) -> None:
    imported = import_module(package)
    text = imported.__doc__ or ""
    (folder,) = imported.__path__
    modules = {path.stem for path in Path(folder).glob("*.py")} - {"__init__"}
    assert {name for name in modules if f"`{name}`" not in text} == set()
