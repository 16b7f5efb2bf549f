"""The map from the labs' pseudocode to code, in the package's docstring, names functions that exist."""

import importlib
import pkgutil
import re

import pytest

from viewstamp.protocols import viewstamped

DOCUMENT = viewstamped.__doc__ or ""
NAMED = sorted(set(re.findall(r"`([a-z_]+\.[A-Z]\w+(?:\.\w+)?)`", DOCUMENT)))


def test_the_map_names_enough_of_the_labs() -> None:
    assert len(NAMED) > 30


@pytest.mark.parametrize("name", NAMED)
def test_a_function_of_the_map_exists(name: str) -> None:
    module, *path = name.split(".")
    found = importlib.import_module(f"{viewstamped.__name__}.{module}")
    for part in path:
        found = getattr(found, part)


def test_the_reading_order_names_every_module() -> None:
    order = DOCUMENT[: DOCUMENT.index("Lab 6")]
    modules = {module.name for module in pkgutil.iter_modules(viewstamped.__path__)}
    assert modules - set(re.findall(r"`(\w+)`", order)) == {"state"}
