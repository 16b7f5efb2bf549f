"""`pytest -v tests/sim/suites` ends with a line for each test as the course's kit prints it.

Seconds are virtual; two messages are one of the kit's RPCs; an operation is a call that a client made.
"""

from collections.abc import Generator
from typing import Any

import pytest

from viewstamp.sim.cluster.scenario import Scenario

_MADE: pytest.StashKey[list[Scenario]] = pytest.StashKey()
_LINES: pytest.StashKey[list[str]] = pytest.StashKey()


@pytest.fixture(autouse=True)
def remembered_scenarios(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    made = request.node.stash[_MADE] = []
    original = Scenario.__init__

    def remember(self: Scenario, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(Scenario, "__init__", remember)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    made = item.stash.get(_MADE, [])
    if made and call.when == "call" and report.passed:
        item.config.stash.setdefault(_LINES, []).append(f"{item.name}\n{passed_line(made)}")
    if call.when == "call":
        made.clear()  # whole clusters, which the garbage collector would look at again in each later test
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.option.verbose > 0:
        for line in config.stash.get(_LINES, []):
            terminalreporter.write_line(line)


def passed_line(made: list[Scenario]) -> str:
    """Return the kit's line about these scenarios together."""
    seconds = sum(each.now_s for each in made)
    peers = max(len(each.members) for each in made)
    calls = sum(each.messages for each in made) // 2
    operations = sum(each.operations for each in made)
    return f"  ... Passed --  time {seconds:4.1f}s #peers {peers} #RPCs {calls:5} #Ops {operations:4}"
