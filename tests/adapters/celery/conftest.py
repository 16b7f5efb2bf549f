"""An app of Celery, and what it leaves in memory."""

from collections.abc import Iterator

import pytest
from celery import Celery

from tests.adapters.celery.beats import Clock, make_app
from tests.adapters.conftest import Stock
from viewstamp.adapters.celery.settings import Settings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(stock: Stock, clock: Clock) -> Iterator[Celery]:
    app = make_app(stock, clock)
    yield app
    Settings(app.conf).close()
