from pathlib import Path

import pytest

from viewstamp_labs.lab6824.exclusion import HistoryWriter, Mark, breaches, holds_of, read_history


def held(start: int, end: int | None, client: str, token: int, lock: str = "1") -> list[Mark]:
    marks = [Mark(start, "enter", lock, client, token)]
    return marks if end is None else [*marks, Mark(end, "leave", lock, client, token)]


def judged(*holds: list[Mark]) -> list[str]:
    return list(breaches(holds_of(mark for hold in holds for mark in hold)))


def test_nothing_is_found_when_one_follows_the_other() -> None:
    assert judged(held(1, 2, "7.0.0", 5), held(3, 4, "7.1.0", 6), held(1, 9, "8.0.0", 5, lock="2")) == []


def test_breach_is_found_when_two_hold_one_lock() -> None:
    assert "both held it" in judged(held(1, 5, "7.0.0", 5), held(4, 6, "7.1.0", 6))[0]


def test_breach_is_found_when_a_hold_never_ended() -> None:
    assert "both held it" in judged(held(1, None, "7.0.0", 5), held(4, 6, "7.1.0", 6))[0]


def test_breach_is_found_when_threads_of_one_client_hold_one_lock() -> None:
    assert "both held it" in judged(held(1, 5, "7.0.0", 5), held(4, 6, "7.0.1", 5))[0]


def test_breach_is_found_when_the_token_goes_down() -> None:
    assert "the token went down" in judged(held(1, 2, "7.0.0", 6), held(3, 4, "7.1.0", 5))[0]


def test_breach_is_found_when_two_clients_have_one_token() -> None:
    assert "one token" in judged(held(1, 2, "7.0.0", 6), held(3, 4, "7.1.0", 6))[0]


def test_nothing_is_found_when_a_client_uses_its_cached_lock_again() -> None:
    assert judged(held(1, 2, "7.0.0", 6), held(3, 4, "7.0.1", 6)) == []


def test_history_is_refused_when_a_client_enters_twice() -> None:
    with pytest.raises(AssertionError, match="entered lock 1 twice"):
        holds_of([*held(1, None, "7.0.0", 1), *held(2, None, "7.0.0", 1)])


def test_history_is_read_when_its_last_line_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "history"
    writer = HistoryWriter(path)
    for mark in held(1, 2, "7.0.0", 6):
        writer.write(mark)
    writer.close()
    with path.open("ab") as file:
        file.write(b"12 ent")
    assert read_history(path) == held(1, 2, "7.0.0", 6)
    assert read_history(tmp_path / "none") == []
