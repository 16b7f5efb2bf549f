"""Coordinators of tooz on a cluster in this process."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from oslo_utils import netutils

from tests.adapters.conftest import Stock
from viewstamp.adapters.tooz.driver import ViewstampDriver
from viewstamp.clients.coordination_blocking import BlockingCoordination
from viewstamp.runtime.addresses import format_address

Make = Callable[..., ViewstampDriver]


@pytest.fixture
def made(stock: Stock, store: BlockingCoordination) -> Iterator[Make]:
    """Make a coordinator that is started, and stopped at the end."""
    del store  # it has deleted all keys
    where = ",".join(format_address(address) for address in stock.config.addresses.values())
    running: list[ViewstampDriver] = []

    def make(name: str | bytes = b"one", **options: Any) -> ViewstampDriver:
        given = {option: [str(each)] for option, each in {"request_timeout": 30, **options}.items()}
        driver = ViewstampDriver(name, netutils.urlsplit(f"viewstamp://{where}"), given)
        driver.start()
        running.append(driver)
        return driver

    yield make
    for each in running:
        if each.is_started:
            each.stop()
