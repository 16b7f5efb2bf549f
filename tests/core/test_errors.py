"""Whose fault it was, and whether it happened: the tree of errors."""

import pytest

from viewstamp.core import errors


@pytest.mark.parametrize(
    ("error", "parent"),
    [
        (errors.ConfigurationError, errors.ViewstampError),
        (errors.ProtocolViolation, errors.ViewstampError),
        (errors.StorageError, errors.ViewstampError),
        (errors.JournalCorrupt, errors.StorageError),
        (errors.NotExecuted, errors.CallError),
        (errors.SessionExpired, errors.NotExecuted),
        (errors.OutcomeUnknown, errors.CallError),
        (errors.CommandFailed, errors.ViewstampError),
        (errors.Diverged, errors.ViewstampError),
    ],
)
def test_error_is_caught_by_its_parent(error: type[Exception], parent: type[Exception]) -> None:
    assert issubclass(error, parent)


def test_perhaps_is_never_caught_as_certainly_not() -> None:
    assert not issubclass(errors.OutcomeUnknown, errors.NotExecuted)
    assert not issubclass(errors.NotExecuted, errors.OutcomeUnknown)


def test_machine_failure_is_not_a_failed_call() -> None:
    assert not issubclass(errors.CommandFailed, errors.CallError)


def test_assertion_is_not_one_of_ours_when_caught() -> None:
    assert not issubclass(errors.ViewstampError, AssertionError)


@pytest.mark.parametrize(("explanation", "text"), [("no such key", "NoKey: no such key"), ("", "NoKey")])
def test_command_failure_says_kind_and_explanation(explanation: str, text: str) -> None:
    failure = errors.CommandFailed("NoKey", explanation)
    assert (str(failure), failure.kind, failure.explanation) == (text, "NoKey", explanation)
