"""The maps from a paper or an assignment to functions, which stand in the packages' docstrings, are true."""

import re
from importlib import import_module

import pytest

PACKAGES = ("viewstamp.protocols.primary_backup", "viewstamp.protocols.primary_backup.course")


def resolve(package: str, name: str) -> object:
    """Return what a map names, such as `core.CourseCore._append`."""
    module, *attributes = name.split(".")
    found: object = import_module(f"{package}.{module}")
    for attribute in attributes:
        found = getattr(found, attribute)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_function_that_the_map_names_exists(package: str) -> None:
    text = import_module(package).__doc__ or ""
    rows = [line for line in text.splitlines() if line.startswith("- ")]
    names = [name for row in rows for name in re.findall(r"`([\w.]+\.[\w.]+)`", row)]
    assert len(names) >= 10, "the map has been lost"
    for name in names:
        assert resolve(package, name) is not None, name
