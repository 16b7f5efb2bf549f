"""The table of sessions by itself, and against a model (docs/faults.md#b49, #b54, #k15 to #k20)."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from viewstamp.core.ids import LogTime
from viewstamp.core.messages import RESULT
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.sessions import Remembered, Run, Session, Sessions

LIMITS = SessionLimits(time_to_live_ms=10, sessions_max=3, results_per_session_max=4)
T0 = LogTime(0)


def _remember(sessions: Sessions, session: Session, *sequences: int) -> None:
    for sequence in sequences:
        sessions.remember(session, sequence, Remembered(RESULT, b"12345", sequence))


def test_the_same_session_is_returned_when_a_client_opens_twice() -> None:
    sessions = Sessions(LIMITS)
    first = sessions.open(7, 100, T0)
    assert sessions.open(7, 200, T0) is first
    assert first.number == 100
    assert len(sessions) == 1


def test_a_session_is_not_found_when_another_client_uses_its_number() -> None:
    sessions = Sessions(LIMITS)
    sessions.open(7, 100, T0)
    assert sessions.use(100, 8, LogTime(5)) is None
    assert sessions.use(101, 7, LogTime(5)) is None
    assert sessions.overdue(LogTime(10_000)) is not None, "a stranger must not keep it alive"


def test_a_session_expires_exactly_when_its_time_to_live_has_passed() -> None:
    sessions = Sessions(LIMITS)
    session = sessions.open(7, 100, LogTime(1_000))
    assert sessions.overdue(LogTime(10_999)) is None
    assert sessions.overdue(LogTime(11_000)) is session


def test_another_session_is_refused_when_there_are_as_many_as_may_be() -> None:
    sessions = Sessions(LIMITS)
    opened = [sessions.open(client, 100 + client, LogTime(client)) for client in range(3)]
    assert not sessions.may_open(3)
    assert all(sessions.may_open(client) for client in range(3))
    assert sessions.overdue(LogTime(9)) is None, "what lives within its time is not ended"
    sessions.end(opened[1])
    assert sessions.may_open(3)


def test_the_one_idle_longest_expires_first_whenever_it_was_opened() -> None:
    sessions = Sessions(LIMITS)
    opened = [sessions.open(client, 100 + client, LogTime(client)) for client in range(3)]
    assert sessions.use(100, 0, LogTime(9)) is opened[0]
    assert sessions.overdue(LogTime(10_001)) is opened[1]


def test_each_session_expires_by_the_time_that_its_client_asked_for_within_the_bounds() -> None:
    sessions = Sessions(SessionLimits(time_to_live_ms=60, time_to_live_min_ms=5, time_to_live_max_ms=100))
    wanted = {1: 0, 2: 1, 3: 50, 4: 1_000}
    for client, milliseconds in wanted.items():
        sessions.want(sessions.open(client, client, T0), milliseconds)
    granted = {session.client: sessions.time_to_live_ms(session) for session in sessions}
    assert granted == {1: 60, 2: 5, 3: 50, 4: 100}
    ended = []
    while (session := sessions.overdue(LogTime(100_000))) is not None:
        sessions.end(session)
        ended.append(session.client)
    assert ended == [2, 3, 1, 4], "in the order in which they were due"


def test_the_clusters_own_time_is_granted_when_the_bounds_leave_it_out() -> None:
    limits = SessionLimits(time_to_live_ms=60, time_to_live_min_ms=100, time_to_live_max_ms=200)
    assert [limits.granted_ms(wanted) for wanted in (0, 1, 150, 1_000)] == [60, 60, 150, 200]
    assert SessionLimits(time_to_live_ms=700_000).granted_ms(650_000) == 650_000


def test_a_session_ends_sooner_when_its_client_asks_for_less_and_later_when_for_more() -> None:
    sessions = Sessions(SessionLimits(time_to_live_ms=60, time_to_live_min_ms=5))
    session = sessions.open(7, 100, T0)
    sessions.want(session, 5)
    assert sessions.overdue(LogTime(4_999)) is None
    assert sessions.overdue(LogTime(5_000)) is session
    sessions.want(session, 100)
    assert sessions.overdue(LogTime(99_999)) is None
    sessions.want(session, 0)
    assert sessions.overdue(LogTime(99_999)) is None, "0 asks for nothing"
    assert sessions.overdue(LogTime(100_000)) is session


def test_a_session_keeps_what_its_client_asked_for_when_it_comes_from_a_snapshot() -> None:
    sessions = Sessions(SessionLimits(time_to_live_ms=60, time_to_live_min_ms=5))
    sessions.want(sessions.open(7, 100, T0), 5)
    images = [image for chunk in sessions.images(sessions_max=9, bytes_max=99) for image in chunk]
    again = Sessions(sessions.limits, images)
    assert again.overdue(LogTime(4_999)) is None
    assert again.overdue(LogTime(5_000)) is not None


def test_alarms_of_sessions_that_ended_do_not_pile_up() -> None:
    sessions = Sessions(LIMITS)
    for number in range(1_000):
        sessions.end(sessions.open(7, number, T0))
    assert len(sessions._alarms) < 100


def test_results_are_dropped_when_they_are_acknowledged() -> None:
    sessions = Sessions(LIMITS)
    session = sessions.open(7, 100, T0)
    _remember(sessions, session, 3, 1, 2)
    sessions.acknowledge(session, 2)
    assert list(session.results) == [3]
    assert (session.result_bytes, sessions.result_bytes) == (5, 5)


def test_acknowledging_is_quick_and_exact_when_the_number_jumps_by_2_to_the_40() -> None:
    sessions = Sessions(LIMITS)
    session = sessions.open(7, 100, T0)
    _remember(sessions, session, 1, 2**41)
    sessions.acknowledge(session, 2**40)
    assert list(session.results) == [2**41]
    sessions.acknowledge(session, 5)
    assert session.acknowledged == 2**40, "it never goes back"


def test_no_result_is_kept_beyond_the_bytes_of_all_sessions_and_none_is_forgotten() -> None:
    sessions = Sessions(SessionLimits(result_bytes_max=10))
    first, second, third = (sessions.open(client, client, T0) for client in (1, 2, 3))
    _remember(sessions, first, 1)
    assert not sessions.may_remember(first), "from half on each keeps its share"
    assert sessions.may_remember(second)
    _remember(sessions, second, 1)
    assert not sessions.may_remember(third)
    assert sessions.overdue(T0) is None
    sessions.acknowledge(first, 1)
    assert sessions.may_remember(third)
    assert sessions.may_remember(first)


class AgainstModel(RuleBasedStateMachine):
    """Random use, compared with a plain model; at times replaced by a copy made from its images."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = Sessions(LIMITS)
        self.now = 0
        self.numbers = 0
        self.model: dict[int, dict[int, int]] = {}
        """Unacknowledged sequence numbers with digests, by client, in the order of last use."""
        self.used: dict[int, int] = {}
        self.floor: dict[int, int] = {}

    def _touch(self, client: int) -> None:
        self.used[client] = self.now

    @rule(client=st.integers(0, 5))
    def open(self, client: int) -> None:
        if not self.sessions.may_open(client):
            assert client not in self.model
            assert len(self.model) == LIMITS.sessions_max
            return
        self.numbers += 1
        session = self.sessions.open(client, self.numbers, LogTime(self.now))
        if client not in self.model:
            assert session.number == self.numbers
            self.model[client], self.floor[client] = {}, 0
        self._touch(client)

    @rule(client=st.integers(0, 5), sequence=st.integers(1, 12))
    def execute(self, client: int, sequence: int) -> None:
        known = self.sessions.of_client(client)
        assert (known is not None) == (client in self.model)
        if known is None:
            return
        session = self.sessions.use(known.number, client, LogTime(self.now))
        assert session is known
        self._touch(client)
        if (
            sequence > self.floor[client]
            and sequence not in session.results
            and len(session.results) < LIMITS.results_per_session_max
        ):
            self.sessions.remember(session, sequence, Remembered(RESULT, b"x" * sequence, sequence))
            self.model[client][sequence] = sequence

    @precondition(lambda self: self.model)
    @rule(client=st.integers(0, 5), upto=st.integers(0, 14))
    def acknowledge(self, client: int, upto: int) -> None:
        session = self.sessions.of_client(client)
        if session is not None:
            self.sessions.acknowledge(session, upto)
            self.floor[client] = max(self.floor[client], upto)
            self.model[client] = {s: d for s, d in self.model[client].items() if s > upto}

    @rule(passed=st.integers(0, 6_000))
    def time_passes(self, passed: int) -> None:
        self.now += passed
        self._end_overdue()

    @rule()
    def restart_from_snapshot(self) -> None:
        images = [image for chunk in self.sessions.images(sessions_max=2, bytes_max=20) for image in chunk]
        self.sessions = Sessions(LIMITS, images)

    def _end_overdue(self) -> None:
        expected = [client for client, used in self.used.items() if used + 10_000 <= self.now]
        ended = []
        while (session := self.sessions.overdue(LogTime(self.now))) is not None:
            self.sessions.end(session)
            ended.append(session.client)
            # The models stand in the order of opening, which decides between two that were idle as long.
            assert session.client == min(self.model, key=self.used.__getitem__), "idle longest goes first"
            del self.model[session.client], self.used[session.client], self.floor[session.client]
        assert set(expected) == set(ended)

    @invariant()
    def agrees(self) -> None:
        found = {s.client: {seq: r.digest for seq, r in s.results.items()} for s in self.sessions}
        assert found == self.model
        assert [s.client for s in self.sessions] == list(self.model)
        assert self.sessions.result_bytes == sum(sum(results) for results in self.model.values())


AgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAgainstModel = AgainstModel.TestCase


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5), st.integers(0, 7)), max_size=12))
def test_results_kept_by_message_are_those_kept_one_by_one(steps: list[tuple[bool, int, int]]) -> None:
    whole, single = Sessions(LIMITS), Sessions(LIMITS)
    by_message, one_by_one = whole.open(1, 1, LogTime(0)), single.open(1, 1, LogTime(0))
    for is_message, count, behind in steps:
        first = by_message.newest + 1
        results = [Remembered(RESULT, b"x" * at, at) for at in range(first, first + count)]
        if is_message:
            kinds, payloads, digests = zip(
                *((each.kind, each.payload, each.digest) for each in results), strict=True
            )
            whole.remember_all(by_message, Run(first, kinds, payloads, digests, sum(map(len, payloads))))
        else:
            whole.remember(by_message, first, results[0])
            results = results[:1]
        for at, result in enumerate(results, first):
            single.remember(one_by_one, at, result)
        for sessions, session in ((whole, by_message), (single, one_by_one)):
            sessions.acknowledge(session, max(0, session.newest - behind))
        assert by_message.kept == one_by_one.kept
        assert (by_message.result_bytes, whole.result_bytes) == (one_by_one.result_bytes, single.result_bytes)
    assert by_message.results == one_by_one.results
    assert by_message.image() == one_by_one.image()
