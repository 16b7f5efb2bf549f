"""Exit codes, and the one line."""

from pathlib import Path

import pytest

from viewstamp.cli import failures
from viewstamp.core import errors
from viewstamp.runtime import server, watchdog

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("x"), failures.CONFIGURATION),
        (errors.JournalCorrupt("x"), failures.STORAGE),
        (errors.SessionExpired("x"), failures.NOT_EXECUTED),
        (errors.OutcomeUnknown("x"), failures.OUTCOME_UNKNOWN),
        (errors.CommandFailed("NoKey", "x"), failures.REFUSED),
        (OSError("x"), failures.STORAGE),
        (errors.NodeRemoved("x"), failures.REMOVED),
        (AssertionError("x"), None),
        (ValueError("x"), None),
    ],
)
def test_code_tells_what_kind_of_error_it_was(error: Exception, code: int | None) -> None:
    assert failures.code_of(error) == code


def test_codes_are_the_servers_own_when_both_have_one() -> None:
    assert failures.CONFIGURATION == server.EXIT_CONFIGURATION
    assert failures.STORAGE == server.EXIT_STORAGE
    assert failures.DIVERGED == server.EXIT_DIVERGED
    assert failures.REMOVED == server.EXIT_REMOVED
    assert failures.STUCK == watchdog.EXIT_STUCK
    assert failures.INTERNAL == server.EXIT_INVARIANT


def test_every_code_stands_in_the_reference() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert [
        code for code, meaning in failures.EXIT_CODES.items() if f"| {code} | {meaning} |" not in text
    ] == []


def test_complaint_is_one_line_when_the_message_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    failures.complain("first\nsecond \x1b[2J")
    assert capsys.readouterr().err == "viewstamp: first second \\x1b[2J\n"
