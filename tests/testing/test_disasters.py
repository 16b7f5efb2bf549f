"""`@disasters`: a test that gets each run, and a report that needs no source."""

from pathlib import Path
from typing import Any

import pytest

from tests.testing import shops
from viewstamp.sim.run.finished import FinishedRun, run_plan
from viewstamp.testing.disasters import DisasterFailure, disasters
from viewstamp.testing.examination import subject_of
from viewstamp.testing.report import LINES_MAX, read_seed_file

HALF = "after it had changed the state: half of the change stays"


@pytest.fixture(autouse=True)
def _reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIEWSTAMP_REPORTS", str(tmp_path / "reports"))


def test_function_gets_each_run_when_a_class_withstands() -> None:
    seen: list[int] = []

    @disasters(shops.Shop, seeds=3)
    def check(run: FinishedRun) -> None:
        seen.append(run.seed)
        state = run.state()
        told, unknown = run.acknowledged("order"), run.unknown("order")
        assert told <= state.sold <= told + unknown + 1  # the last one is the liveness phase's
        assert len(state.orders) == state.sold

    check()
    assert seen == [0, 1, 2]


def test_report_is_short_and_replays_when_an_invariant_of_the_user_breaks(tmp_path: Path) -> None:
    def never_below_zero(shop: Any) -> bool:
        return bool(shop.balance >= 0)

    @disasters(shops.Overdrawn, seeds=5, invariants=[never_below_zero])
    def check(_run: FinishedRun) -> None:
        """Nothing more."""

    with pytest.raises(DisasterFailure) as failed:
        check()
    text = str(failed.value).strip()
    lines = text.splitlines()
    assert lines[0] == "tests.testing.shops:Overdrawn: invariant never_below_zero"
    assert len(lines) <= LINES_MAX
    assert max(map(len, lines)) <= 160
    assert "--without" not in text
    assert "<- the first bad call" in text
    replay = next(
        line for line in lines if line.startswith("replay: pytest tests/testing/test_disasters.py::")
    )
    written = next((tmp_path / "reports").glob("Overdrawn-*.json"))
    seed = read_seed_file(written)
    assert seed.plan is not None
    assert replay.endswith(f" --viewstamp-seed {seed.plan.seed}")
    again = run_plan(seed.plan, make=subject_of(shops.Overdrawn).make, invariants=[never_below_zero])
    assert again.report.violation is not None
    assert again.report.violation.name == "invariant never_below_zero"
    drawing = Path(lines[-1].removeprefix("drawing: ")).read_text()
    assert "<svg" in drawing
    assert "never_below_zero" in drawing


def test_report_names_rule_and_calls_when_equal_runs_differ() -> None:
    @disasters(shops.Halves)
    def check(_run: FinishedRun) -> None:
        """Nothing more."""

    with pytest.raises(DisasterFailure) as failed:
        check()
    lines = str(failed.value).strip().splitlines()
    assert lines[0] == "tests.testing.shops:Halves: VS013 half-done"
    assert lines[1] == f"  add raised ZeroDivisionError {HALF}"
    assert any(line.endswith("add(0)   <- the first bad call") for line in lines)
    assert len(lines) <= 10


def test_assertion_of_the_user_goes_through_when_a_run_is_not_as_expected() -> None:
    @disasters(shops.Shop, seeds=1)
    def check(run: FinishedRun) -> None:
        assert run.state().sold == -1

    with pytest.raises(AssertionError, match="-1"):
        check()
