"""Limits of sessions that the log changes: at one place on all replicas, and in snapshots."""

import msgspec
import pytest

from tests.replica.fakes import CLIENT, Bench, call, submit
from tests.replica.test_replicated_state import Copy
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.events import SetLimit
from viewstamp.core.ids import ClientAddress, LogTime, Seqno, View, Viewstamp
from viewstamp.core.messages import AdminReply, AdminRequest, OpenSession
from viewstamp.replica.answers import Answers
from viewstamp.replica.batches import DecodedBatch
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.sessions import Sessions
from viewstamp.replica.versions import Declaration

OPERATOR = ClientAddress(40)


def _ask(bench: Bench, name: str, value: int) -> list[str | None]:
    bench.replica.core.leader  # noqa: B018  a bench leads
    effects = bench.do(AdminRequest(1, SetLimit(name, value)), OPERATOR)
    return [message.refusal for message in effects if isinstance(message, AdminReply)]


def test_a_limit_is_changed_by_an_entry_and_the_operator_hears_of_it_when_it_is_applied() -> None:
    bench = Bench()
    bench.do(OpenSession(CLIENT))
    assert _ask(bench, "time_to_live_ms", 5_000) == [None]
    limits = bench.replica.state.sessions.limits
    assert limits.time_to_live_ms == 5_000
    assert _ask(bench, "time_to_live_ms", 5_000) == [None], "it is so already"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [("time_to_live_ms", 0, "time_to_live_ms: 1 to"), ("no such", 1, "there is no limit 'no such'")],
)
def test_what_does_not_fit_is_refused_before_it_is_proposed(name: str, value: int, why: str) -> None:
    bench = Bench()
    bench.do(OpenSession(CLIENT))
    before = bench.replica.applied
    (refusal,) = _ask(bench, name, value)
    assert refusal is not None
    assert why in refusal
    assert bench.replica.applied == before


def _change(copy: Copy, name: str, value: int) -> Answers:
    answers = Answers()
    state = copy.state
    where = Viewstamp(View(1), Seqno(state.applied.seqno + 1))
    declares = Declaration(1, {}, limit=(name, value))
    batch = DecodedBatch(b"", copy.now, state.chain.position, [], declares=declares)
    state.apply(where, batch, frozenset(), answers)
    return answers


def test_sessions_live_by_the_changed_time_and_copies_of_the_state_do_too() -> None:
    copy = Copy()
    session = copy.open()
    copy.apply(submit(session, (1, call("add", 1))))
    assert _change(copy, "time_to_live_ms", 20).raised == ""
    again = copy.restored()
    assert again.state.sessions.limits == copy.state.sessions.limits
    assert again.state.sessions.overrides == {"time_to_live_ms": 20}
    for state in (copy.state, again.state):
        assert state.sessions.overdue(LogTime(copy.now + 19_000)) is None
        assert state.sessions.overdue(LogTime(copy.now + 21_000)) is not None
    assert copy.state.chain.digest == again.state.chain.digest


def test_an_entry_that_does_not_fit_changes_nothing_and_stops_no_replica() -> None:
    copy = Copy()
    copy.open()
    before = copy.state.sessions.limits
    answers = _change(copy, "sessions_max", 0)
    assert answers.raised is not None
    assert "nothing was changed" in answers.raised
    assert copy.state.sessions.limits == before


def test_all_limits_of_a_change_fit_or_none_is_taken() -> None:
    sessions = Sessions(SessionLimits())
    with pytest.raises(ConfigurationError):
        sessions.change({"time_to_live_ms": 5, "sessions_max": 0})
    assert sessions.limits == SessionLimits()
    sessions.change({"time_to_live_ms": 5, "sessions_max": 7})
    assert msgspec.structs.asdict(sessions.limits) == {
        **msgspec.structs.asdict(SessionLimits()),
        "time_to_live_ms": 5,
        "sessions_max": 7,
    }


def test_a_session_that_lives_ends_by_a_shorter_time_from_the_change_on() -> None:
    sessions = Sessions(SessionLimits(time_to_live_ms=60))
    session = sessions.open(7, 100, LogTime(0))
    sessions.change({"time_to_live_ms": 5})
    assert sessions.overdue(LogTime(4_999)) is None
    assert sessions.overdue(LogTime(5_000)) is session
