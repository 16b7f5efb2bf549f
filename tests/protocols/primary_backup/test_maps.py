"""The maps in the packages' docstrings and the tables of the design page say what the code does."""

import re
from collections.abc import Mapping
from enum import Enum
from importlib import import_module
from pathlib import Path

import pytest

from viewstamp.protocols.primary_backup.course.peers import TRANSITIONS
from viewstamp.protocols.primary_backup.state import ROLE_TRANSITIONS

PACKAGES = ("viewstamp.protocols.primary_backup", "viewstamp.protocols.primary_backup.course")
DESIGN = Path(__file__).parents[3] / "docs" / "design" / "primary-backup.md"


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


@pytest.mark.parametrize("transitions", [ROLE_TRANSITIONS, TRANSITIONS])
def test_the_design_page_shows_the_transitions_as_they_are(
    transitions: Mapping[Enum, tuple[Enum, ...]],
) -> None:
    words = {kind.value: [each.value for each in after] for kind, after in transitions.items()}
    shown = {}
    for line in DESIGN.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in words:
            shown[cells[0]] = cells[1].split(", ")
    assert shown == words
