"""The page that tells where to begin names what exists."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import viewstamp.link
import viewstamp.runtime

PACKAGES = [viewstamp.runtime, viewstamp.link]
NAMED = re.findall(r"`([a-z_]+(?:\.\w+)+)`", viewstamp.runtime.__doc__ or "")


def modules(package: object) -> set[str]:
    folder = Path(str(package.__file__)).parent  # type: ignore[attr-defined]
    return {path.stem for path in folder.glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_in_the_reading_order(package: object) -> None:
    text = str(package.__doc__)
    assert {name for name in modules(package) if f"`{name}" not in text} == set()


@pytest.mark.parametrize("name", [name for name in NAMED if not name.startswith("viewstamp")])
def test_function_exists_when_the_way_of_a_write_names_it(name: str) -> None:
    module, *path = name.split(".")
    found = import_module(f"viewstamp.runtime.{module}")
    for part in path:
        found = getattr(found, part)
    assert callable(found)


def test_way_of_a_write_names_functions_of_both_sides() -> None:
    assert len(NAMED) > 15
