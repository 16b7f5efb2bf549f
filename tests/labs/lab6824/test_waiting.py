import pytest

from viewstamp_labs.lab6824.waiting import Failed, wait_until, watch


def test_first_true_value_is_returned_when_it_comes() -> None:
    values = iter([0, "", "found"])
    assert wait_until("a value", lambda: next(values), 5.0) == "found"


def test_wait_fails_and_says_for_what_when_it_is_over() -> None:
    with pytest.raises(Failed, match=r"not within 0\.05 s: a value"):
        wait_until("a value", lambda: None, 0.05)


def test_watch_fails_when_the_condition_does_not_hold_for_long() -> None:
    values = iter([True, True, False])
    with pytest.raises(Failed, match="did not stay so for 5 s: peace"):
        watch("peace", lambda: next(values), 5.0)


def test_watch_ends_when_the_condition_held_for_so_long() -> None:
    watch("peace", lambda: True, 0.05)
