"""The pytest plugin: options, fixtures, and `pytest --viewstamp app:Shop` without any test file.

pytest loads this at its start in every project of an environment that has this library: it imports nothing
else of it before a test asks.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from viewstamp.testing.settings import settings

if TYPE_CHECKING:
    from viewstamp.testing.fixtures import LentMachine, RealCluster
    from viewstamp.testing.simulated import SimulatedCluster


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("viewstamp", "state machines under disasters")
    group.addoption(
        "--viewstamp", metavar="MODULE:CLASS", action="append", default=[], help="Examine this class."
    )
    group.addoption("--viewstamp-seeds", type=int, metavar="N", help="Seeds of each disaster test.")
    group.addoption("--viewstamp-seed", type=int, metavar="SEED", help="Only this seed.")
    group.addoption("--viewstamp-seconds", type=float, metavar="S", help="Begin no more seeds after this.")
    group.addoption(
        "--viewstamp-python", metavar="PATH", action="append", default=[],
        help="Another interpreter, for equal runs.",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Take the options over."""
    chosen = settings()
    chosen.seeds = config.getoption("--viewstamp-seeds")
    chosen.seed = config.getoption("--viewstamp-seed")
    chosen.seconds = config.getoption("--viewstamp-seconds")
    chosen.pythons = tuple(config.getoption("--viewstamp-python"))


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add an item for each class that was named on the command line, and leave the others out."""
    named = config.getoption("--viewstamp")
    if named:
        items[:] = [Examination.from_parent(session, name=name) for name in named]


class Examination(pytest.Item):
    """A class under everything, without a test file."""

    def runtest(self) -> None:
        """Examine it."""
        from viewstamp.testing.disasters import DisasterFailure
        from viewstamp.testing.examination import SEEDS, examine, subject_of

        chosen = settings()
        many = chosen.seeds or (SEEDS if chosen.seconds is None else 1_000_000)
        failure = examine(
            subject_of(named_class(self.name)),
            first_seed=chosen.seed or 0,
            seeds=1 if chosen.seed is not None else many,
            seconds=chosen.seconds,
            pythons=chosen.pythons,
        )
        if failure is not None:
            raise DisasterFailure(failure)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any, **__: Any) -> str:
        """Return the report of a failure; a traceback of anything else."""
        from viewstamp.testing.disasters import DisasterFailure

        if isinstance(excinfo.value, DisasterFailure):
            return str(excinfo.value).strip()
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return what stands above a failure."""
        return self.path, None, f"viewstamp {self.name}"


def named_class(name: str) -> type[Any]:
    """Return the class at MODULE:CLASS; a `UsageError` says what is wrong."""
    import sys

    module, colon, attribute = name.partition(":")
    if not colon:
        raise pytest.UsageError(f"--viewstamp {name}: write MODULE:CLASS, such as app:Shop")
    if "" not in sys.path:
        sys.path.append("")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise pytest.UsageError(f"--viewstamp {name}: {error}") from error
    return found  # type: ignore[no-any-return]


@pytest.fixture
def viewstamp_machine() -> Callable[[type[Any]], "LentMachine[Any]"]:
    """Return a function that makes a machine of a class with a context, without a cluster."""
    from viewstamp.testing.fixtures import LentMachine

    return LentMachine


@pytest.fixture
def viewstamp_replays() -> Callable[..., int]:
    """Return a function that replays streams that were kept: `viewstamp_replays("golden/*.vss", Shop)`."""
    from viewstamp.backup.golden import replays

    return replays


@pytest.fixture
def viewstamp_sim() -> Callable[..., "SimulatedCluster[Any]"]:
    """Return a function that makes a simulated cluster of a class: `viewstamp_sim(Shop, nodes=5, seed=7)`."""
    from viewstamp.testing.simulated import SimulatedCluster

    chosen = settings()

    def make(machine: type[Any], **options: Any) -> "SimulatedCluster[Any]":
        if chosen.seed is not None:
            options.setdefault("seed", chosen.seed)
        return SimulatedCluster(machine, **options)

    return make


@pytest.fixture
def viewstamp_cluster() -> Iterator[Callable[..., "RealCluster[Any]"]]:
    """Return a function that starts a real cluster in this process, and stop it at the end."""
    from viewstamp.testing.fixtures import RealCluster

    with ExitStack() as stack:

        def make(machine: type[Any], **options: Any) -> "RealCluster[Any]":
            return stack.enter_context(RealCluster(machine, **options))

        yield make
