"""Two Celery Beats on three nodes, with the beat and the node that lead killed (`benchmarks/beats.py`)."""

from pathlib import Path

import pytest
from benchmarks.beats import Ran, kill_beats, problems

pytestmark = pytest.mark.process


def test_no_interval_is_run_twice_or_left_out_when_beats_and_leaders_are_killed(tmp_path: Path) -> None:
    runs = kill_beats(tmp_path, intervals=6, kills=2, interval_s=2.0, ttl_s=1.0, seed=1)
    assert len(runs) >= 6
    assert problems(runs) == []


def test_a_run_that_was_done_twice_and_one_that_was_left_out_are_noticed() -> None:
    runs = [Ran(1, "a", 0.0), Ran(1, "a", 1.0), Ran(3, "c", 2.0)]
    assert problems(runs) == ["run 1 was done twice", "run 2 was left out"]
