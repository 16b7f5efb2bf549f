"""The audit by which kills are judged: it must notice every kind of contradiction."""

import pytest

from viewstamp.testkit.load import Acknowledgements, TooLate, wait_until


@pytest.fixture
def ledger() -> Acknowledgements:
    ledger = Acknowledgements()
    ledger.acknowledge("a", 1)
    ledger.acknowledge("b", 1)
    ledger.refused["no"] = "why"
    ledger.unknown["perhaps"] = "why"
    return ledger


def held(*keys: str) -> dict[str, tuple[bytes, int]]:
    return {key: (key.encode(), 1) for key in keys}


@pytest.mark.parametrize("keys", [("a", "b"), ("a", "b", "perhaps")])
def test_nothing_is_wrong_when_an_unknown_write_is_there_or_not(
    ledger: Acknowledgements, keys: tuple[str, ...]
) -> None:
    assert ledger.audit(held(*keys)) == []


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (held("a"), "b was acknowledged and is lost"),
        (held("a", "b", "no"), "no was refused and is there"),
        (held("a", "b", "ghost"), "ghost was never written"),
        (held("a") | {"b": (b"b", 2)}, "b was executed 2 times"),
        (held("a", "b") | {"perhaps": (b"perhaps", 2)}, "perhaps was executed 2 times"),
        (held("a") | {"b": (b"a", 1)}, "b holds b'a'"),
    ],
)
def test_contradiction_is_found(
    ledger: Acknowledgements, found: dict[str, tuple[bytes, int]], problem: str
) -> None:
    assert ledger.audit(found) == [problem]


def test_double_execution_is_found_when_only_its_answer_shows_it(ledger: Acknowledgements) -> None:
    ledger.acknowledge("a", 2)
    assert ledger.audit(held("a", "b")) == ["a was answered with version 2"]


async def test_waiting_ends_with_what_was_waited_for_when_it_does_not_come() -> None:
    with pytest.raises(TooLate, match="the impossible: not within 0"):
        await wait_until(lambda: False, 0.0, "the impossible")
