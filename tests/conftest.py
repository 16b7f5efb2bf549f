"""What holds for all tests. Hypothesis draws the same examples in each run, and times none.

`--hypothesis-profile=search` draws new ones. What it finds is planted with `@example` before it is mended.
"""

import logging
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

_TIMED = [HealthCheck.too_slow]
"""A machine that does other work too is not a reason to fail."""

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, suppress_health_check=_TIMED
)
settings.register_profile("search", deadline=None, suppress_health_check=_TIMED)
settings.load_profile("repeatable")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let processes that are started hear SIGINT, even where this one is a shell's background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def state_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the secret of this user's clusters out of the home directory, and those of processes."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    yield
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before


@pytest.fixture(autouse=True)
def log_of_one_test() -> Iterator[None]:
    """Undo what a command that ran in this process did to the log: its stream is gone with its test."""
    logger = logging.getLogger("viewstamp")
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
