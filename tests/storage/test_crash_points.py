"""A crash before every operation of scripted scenarios, and again before every operation of the recovery."""

import itertools

import pytest

from tests.storage.ledger import ENDINGS, SCENARIOS, Ledger, crash_at, run_until


def _reopen(ledger: Ledger) -> None:
    ledger.open()
    ledger.sync(1)
    ledger.close()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_promises_hold_when_power_fails_at_every_operation(name: str, ending: str) -> None:
    points = 0
    while (ledger := crash_at(SCENARIOS[name], ending, points + 1)) is not None:
        ledger.files.crash()
        _reopen(ledger)
        _reopen(ledger)
        points += 1
    assert points > 20


@pytest.mark.parametrize("ending", ["lost", "torn"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_promises_hold_when_power_fails_again_at_every_operation_of_recovery(name: str, ending: str) -> None:
    pairs = 0
    for first in itertools.count(1):
        if crash_at(SCENARIOS[name], ending, first) is None:
            break
        for second in itertools.count(1):
            ledger = crash_at(SCENARIOS[name], ending, first)
            assert ledger is not None
            ledger.files.crash()
            crashed = run_until(ledger, _reopen, ledger.files.operations + second)
            ledger.files.crash()
            _reopen(ledger)
            if not crashed:
                break
            pairs += 1
    assert pairs > 200


@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize("name", SCENARIOS)
def test_what_was_recovered_stays_when_the_process_was_killed_and_then_the_power_failed(
    name: str, parity: int
) -> None:
    """A killed process leaves unsynced data in the kernel; who reads it must be able to rely on it."""
    points = 0
    while (ledger := crash_at(SCENARIOS[name], "lost", points + 1)) is not None:
        ledger.files.kill()
        ledger.open()
        if points % 2 == parity:
            ledger.sync(1)
        ledger.files.crash()
        _reopen(ledger)
        points += 1
    assert points > 20


@pytest.mark.parametrize("name", SCENARIOS)
def test_same_operations_happen_when_a_scenario_is_repeated(name: str) -> None:
    first, second = crash_at(SCENARIOS[name], "torn", 22), crash_at(SCENARIOS[name], "torn", 22)
    assert first is not None
    assert second is not None
    for ledger in (first, second):
        ledger.files.crash()
    assert first.files.image() == second.files.image()
