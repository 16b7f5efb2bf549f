"""An app of Celery, and what it leaves in memory."""

from collections.abc import Iterator

import pytest
from celery import Celery, signals

from tests.adapters.celery.beats import Clock, make_app
from tests.adapters.conftest import Stock
from viewstamp.adapters.celery.settings import Settings


def _leave_logging(**_said: object) -> None:
    """Celery configures no logging where somebody takes this signal."""


@pytest.fixture(autouse=True)
def logging_stays() -> Iterator[None]:
    """Keep a worker from replacing the loggers of this process: other tests read what they hear."""
    signals.setup_logging.connect(_leave_logging)
    yield
    signals.setup_logging.disconnect(_leave_logging)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(stock: Stock, clock: Clock) -> Iterator[Celery]:
    app = make_app(stock, clock)
    yield app
    Settings(app.conf).close()
