"""The twenty broken classes: each is found, with the right name, by the default settings."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from viewstamp.testing.examination import examine, subject_of

FOLDER = Path(__file__).parents[2] / "examples" / "broken"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "find-the-broken-line.md"
BROKEN = [
    ("chance", "Lottery", "VS002 entropy"),
    ("clock", "Timesheet", "VS001 clock"),
    ("set_order", "Agenda", "VS003 set-order"),
    ("hashes", "Shards", "VS004 hash-or-identity"),
    ("query", "Popularity", "VS005 query-mutates"),
    ("hidden_global", "Numbers", "VS006 hidden-global"),
    ("default_argument", "Basket", "VS006 hidden-global"),
    ("forgotten_attribute", "Highscore", "VS007 forgotten-attribute"),
    ("aliasing", "Draft", "VS008 aliasing"),
    ("float_text", "Histogram", "VS009 float-text"),
    ("threads", "Background", "VS010 thread"),
    ("files", "Audit", "VS011 input-output"),
    ("environment", "Region", "VS012 host"),
    ("half_done", "Transfer", "VS013 half-done"),
    ("recursion", "Stairs", "VS014 recursion"),
    ("batches", "Rounds", "VS015 batch"),
    ("snapshot_omits", "Average", "VS016 snapshot-omits"),
    ("restore_differs", "Queue", "VS017 restore-differs"),
    ("context_kept", "Dice", "VS018 context-kept"),
    ("swallowed", "Guesses", "VS019 swallowed-failure"),
]


@pytest.mark.parametrize(("module", "name", "rule"), BROKEN, ids=[case[0] for case in BROKEN])
def test_sin_is_found_by_its_name_when_a_class_is_examined(
    module: str, name: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    try:
        machine = getattr(import_module(module), name)
        failure = examine(subject_of(machine), seeds=3)
    finally:
        sys.modules.pop(module, None)
    assert failure is not None
    assert failure.name == rule


def test_page_and_folder_have_the_same_classes() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {module for module, _, _ in BROKEN}
    text = PAGE.read_text(encoding="utf-8")
    assert [case for case in BROKEN if f"| `{case[0]}:{case[1]}` | {case[2]}: " not in text] == []
