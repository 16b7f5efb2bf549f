"""Log time: elapsed time of the leader, and nothing else."""

from viewstamp.core.ids import Instant, LogTime
from viewstamp.replica.log_clock import LogClock


def test_time_goes_on_from_the_last_applied_entry_when_a_leader_starts() -> None:
    clock = LogClock()
    clock.start(Instant(1_000_000), LogTime(50))
    assert clock.read(Instant(1_000_007), LogTime(50)) == 57


def test_time_stands_still_when_nobody_leads() -> None:
    clock = LogClock()
    clock.start(Instant(0), LogTime(0))
    clock.stop()
    clock.start(Instant(1_000_000), LogTime(10))
    assert clock.read(Instant(1_000_000), LogTime(10)) == 10


def test_starting_again_changes_nothing_when_the_clock_runs() -> None:
    clock = LogClock()
    clock.start(Instant(0), LogTime(0))
    clock.start(Instant(50), LogTime(0))
    assert clock.read(Instant(60), LogTime(0)) == 60


def test_time_is_that_of_the_applied_entry_and_goes_on_when_an_older_leader_was_ahead() -> None:
    clock = LogClock()
    clock.start(Instant(0), LogTime(0))
    assert clock.read(Instant(10), LogTime(5_000)) == 5_000
    assert clock.read(Instant(13), LogTime(5_000)) == 5_003


def test_reading_starts_the_clock_when_a_protocol_never_said_who_leads() -> None:
    clock = LogClock()
    assert clock.read(Instant(100), LogTime(7)) == 7
    assert clock.read(Instant(101), LogTime(7)) == 8
