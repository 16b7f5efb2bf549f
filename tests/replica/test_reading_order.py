"""The maps in the packages' docstrings name functions that exist, and the reading orders every module."""

import re
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

import pytest

from viewstamp import machine, replica
from viewstamp.replica import client

PACKAGES = (machine, replica, client)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_function_that_a_map_names_exists(package: ModuleType) -> None:
    names = re.findall(r"`([a-z_]+\.[\w.]+)`", package.__doc__ or "")
    assert len(names) > 10, "the map has been lost"
    for name in names:
        module, *path = name.split(".")
        found: object = import_module(f"{package.__name__}.{module}")
        for part in path:
            slots = getattr(found, "__slots__", ())
            assert hasattr(found, part) or part in slots, name
            found = getattr(found, part, None)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reading_order_names_every_module(package: ModuleType) -> None:
    named = set(re.findall(r"`([a-z_]+)`", package.__doc__ or ""))
    assert {module.name for module in iter_modules(package.__path__)} <= named
