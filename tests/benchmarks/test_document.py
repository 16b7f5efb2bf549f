"""Figures get onto the page without hand work, and none gets lost."""

import json
import re
from pathlib import Path

import pytest
from benchmarks.compare import KINDS

from benchmarks import document, keep
from tests.benchmarks.rows import row

PAGE = "before\n\n<!-- waiting -->\nold\n<!-- end -->\n\nafter <!-- micro -->\n<!-- end -->\n"


def test_block_is_replaced_and_the_prose_stays() -> None:
    page = document.replaced(PAGE, {"waiting": r"| a\1 | b |"})
    assert page == PAGE.replace("old", r"| a\1 | b |")
    assert document.replaced(page, {"waiting": "old"}) == PAGE


def test_missing_block_is_named() -> None:
    with pytest.raises(KeyError, match="ratios"):
        document.replaced(PAGE, {"ratios": ""})


def test_page_has_a_block_for_everything_that_is_compared() -> None:
    rows = [row("etcd", 1, 1.0, workload=load, value_bytes=size) for load, size in KINDS]
    machine = {"processor": "p", "cores": 2, "kernel": "6", "python": "3"}
    blocks = document.comparison_blocks({"machine": machine, "versions": {"etcd": "3"}, "rows": rows})
    blocks |= {"waiting": "", "service": "", "micro": ""}
    page = document.PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"^<!-- (?!end)(\S+) -->$", page, re.MULTILINE)) == set(blocks)


def test_figures_come_back_when_they_are_kept(tmp_path: Path) -> None:
    for number, figures in enumerate(
        ([{"a": 1}, {"b": [2]}], {"rows": [{"a": 1}], "machine": {"cores": 2}, "x": []})
    ):
        path = tmp_path / "new" / f"{number}.json"
        keep.write(path, figures)
        assert json.loads(path.read_text(encoding="utf-8")) == figures
