"""The shipped suite, on everything that the project ships."""

from pathlib import Path

import pytest

from tests.storage.beds import BEDS, MemoryBed
from viewstamp.core.ids import PersistSeq
from viewstamp.storage.conformance import CHECKS, Check
from viewstamp.storage.memory import MemoryMedium


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("bed", BEDS)
def test_promises_hold_when_checked(bed: str, check: Check, tmp_path: Path) -> None:
    check(BEDS[bed](tmp_path))


class _ForgetfulBed(MemoryBed):
    """Loses the last synced write in a crash."""

    _medium: MemoryMedium

    def crash(self) -> None:
        if self._medium.writes:
            self._medium.writes.pop()
            self._medium.written = PersistSeq(self._medium.written - 1)


def test_suite_fails_when_a_synced_write_is_lost() -> None:
    failed = []
    for check in CHECKS:
        try:
            check(_ForgetfulBed())
        except AssertionError:
            failed.append(check.__name__)
    assert "check_synced_writes_survive_crash" in failed
    assert "check_numbers_go_on" in failed
