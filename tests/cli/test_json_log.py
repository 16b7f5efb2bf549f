"""The log as JSON: a closed vocabulary, a bounded rate, one event a line."""

import ast
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from viewstamp.cli.json_log import BURST, EVENTS, NAMES, JsonFormatter, Place, RateLimit, event_of

SOURCE = Path(__file__).parents[2] / "src" / "viewstamp"
METHODS = {"debug", "info", "warning", "error", "critical", "exception", "log"}


def _sentences() -> set[str]:
    """Return every sentence that the library gives to a logger, before its values are put in."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=logger, attr=method)) if method in METHODS:
                    name = ast.unparse(logger)
                    if name in {"LOG", "self._log"} or name.startswith("logging.getLogger"):
                        sentence = node.args[method == "log"]
                        assert isinstance(sentence, ast.Constant), f"{path}: made elsewhere"
                        found.add(str(sentence.value))
    return found


def test_every_sentence_of_the_library_has_a_name_and_every_name_a_sentence() -> None:
    sentences = _sentences()
    assert len(sentences) > 20
    assert {s for s in sentences if event_of(s) not in EVENTS - {"other"}} == set()
    unused = {name for name in NAMES if not any(s.startswith(name) for s in sentences)}
    assert unused == set()


def _record(text: str, *values: Any, level: int = logging.INFO, created: float = 0.0) -> logging.LogRecord:
    record = logging.LogRecord("viewstamp", level, "", 0, text, values, None)
    record.created = created
    return record


def test_a_line_says_what_happened_where_as_data() -> None:
    formatter = JsonFormatter()
    record = _record("node %d: view %d, %s", 1, 7, "node 2\nleads")
    assert json.loads(formatter.format(record))["event"] == "leader_changed"
    formatter.place = lambda: Place("prod", 1, 7, None)
    text = formatter.format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["cluster"], line["node"], line["view"], line["level"]) == ("prod", 1, 7, "info")
    assert line["time"] == "1970-01-01T00:00:00.000+00:00"
    assert "seqno" not in line
    assert json.loads(formatter.format(_record("somebody else's words")))["event"] == "other"


def test_a_traceback_stays_in_its_line() -> None:
    record = _record("node %d: %s", 1, "x")
    error = ValueError("a bug")
    record.exc_info = (ValueError, error, None)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert "a bug" in json.loads(text)["traceback"]


def test_events_that_come_too_often_are_counted_and_errors_are_not_left_out() -> None:
    limit = RateLimit()
    assert sum(limit.filter(_record("%s %s", "refused", "x")) for _ in range(1_000)) == BURST
    assert limit.filter(_record("node %d: view %d, %s")), "another event has room of its own"
    late = _record("%s %s", "refused", "x", created=1.5)
    assert limit.filter(late)
    assert json.loads(JsonFormatter().format(late))["suppressed"] == 1_000 - BURST
    assert all(limit.filter(_record("node %d: %s", 1, "x", level=logging.ERROR)) for _ in range(1_000))


@pytest.mark.parametrize("text", ["x" * 100_000, "\ud800", "\x00"])
def test_any_text_makes_one_bounded_line(text: str) -> None:
    line = JsonFormatter().format(_record("node %d: %s", 1, text))
    assert len(line) < 30_000
    assert json.loads(line)["event"] == "noticed"
