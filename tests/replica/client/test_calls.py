"""The table of open calls against a model."""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.messages import INVALID, RESULT
from viewstamp.replica.client.calls import Call, Calls
from viewstamp.replica.events import CallId
from viewstamp.replica.options import ClientOptions

OPTIONS = ClientOptions(window=6, message_calls_max=3)


class AgainstModel(RuleBasedStateMachine):
    """Calls are made, sent, queued again, ended; the table must agree with sets of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = Calls()
        self.made = 0
        self.now = 0
        self.open: dict[int, int] = {}
        """Deadlines of open calls."""
        self.over: set[int] = set()
        """Sequence numbers of calls that are over."""

    @rule(timeout=st.integers(1, 50))
    def make(self, timeout: int) -> None:
        self.made += 1
        deadline = Instant(self.now + timeout)
        self.calls.add(Call(CallId(self.made), "command", b"\x91\xa1a", deadline))
        self.open[self.made] = deadline

    @rule(times=st.integers(1, 8))
    def ask_a_node(self, times: int) -> None:
        """An operator's question has a number too, whatever the window is, and is not a call here."""
        self.over.update(self.calls.draw() for _ in range(times))

    @rule(server=st.integers(1, 2))
    def send(self, server: int) -> None:
        can_send = self.calls.can_send("command", OPTIONS.window)
        taken = self.calls.launch("command", NodeId(server), Instant(self.now + 10), OPTIONS)
        assert len(taken) <= OPTIONS.message_calls_max
        assert bool(taken) == can_send
        assert [c.sequence for c in taken] == sorted(c.sequence for c in taken)

    @rule(server=st.integers(1, 2))
    def breaks(self, server: int) -> None:
        lost = self.calls.at(NodeId(server))
        self.calls.requeue(reversed(lost))
        assert self.calls.at(NodeId(server)) == []

    @rule(passed=st.integers(0, 15))
    def time_passes(self, passed: int) -> None:
        self.now += passed
        silent = self.calls.silent_flights(Instant(self.now))
        assert all(flight.due <= self.now for flight in silent)
        self.calls.requeue(self.calls.of_flights(silent))
        expired = self.calls.expired(Instant(self.now))
        assert set(expired) == {call for call, deadline in self.open.items() if deadline <= self.now}
        for call in expired:
            self._end(call)

    @rule(which=st.integers(0, 20))
    def answer(self, which: int) -> None:
        if self.calls.in_flight:
            call = list(self.calls.in_flight.values())[which % len(self.calls.in_flight)]
            self._end(call.call)

    @rule(places=st.lists(st.integers(0, 7), max_size=5))
    def answer_together(self, places: list[int]) -> None:
        """One message with results: also of what is not open, and twice."""
        known = [*self.calls.in_flight, 0, 1_000]
        which = [known[place % len(known)] for place in places]
        open_now = {sequence: call.call for sequence, call in self.calls.in_flight.items()}
        expected = [sequence for sequence in dict.fromkeys(which) if sequence % 3 and sequence in open_now]
        value = msgspec.Raw(b"\x01")
        lines = [(sequence, RESULT if sequence % 3 else INVALID, value) for sequence in which]
        done, others = self.calls.answered(lines)
        assert [call for call, _ in done] == [open_now[sequence] for sequence in expected]
        assert len(done) + len(others) == len(lines)
        for sequence in expected:
            del self.open[open_now[sequence]]
            self.over.add(sequence)

    def _end(self, number: CallId) -> None:
        call = self.calls.by_id[number]
        self.calls.over(call)
        del self.open[number]
        if call.sequence:
            self.over.add(call.sequence)

    @invariant()
    def agrees(self) -> None:
        assert set(self.calls.by_id) == set(self.open)
        assert self.calls.deadline == min(self.open.values(), default=None)
        acknowledged = self.calls.acknowledged
        assert set(range(1, acknowledged + 1)) <= self.over
        newest = max(self.calls.in_flight, default=0)
        assert newest - acknowledged <= OPTIONS.window
        assert list(self.calls.in_flight) == sorted(self.calls.in_flight)
        queued = {call for queue in self.calls.queues.values() for call in queue}
        assert queued <= set(self.open)
        for flight in self.calls._flights:
            assert flight.remaining == sum(c.flight is flight for c in self.calls.in_flight.values())


AgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAgainstModel = AgainstModel.TestCase


def test_a_call_with_a_number_is_sent_again_when_operators_have_used_up_the_window() -> None:
    calls = Calls()
    calls.add(Call(CallId(1), "command", b"\x91\xa1a", Instant(50)))
    (call,) = calls.launch("command", NodeId(1), Instant(10), OPTIONS)
    for _ in range(OPTIONS.window + 2):
        calls.draw()
    calls.requeue(calls.at(NodeId(1)))
    assert calls.can_send("command", OPTIONS.window)
    assert calls.launch("command", NodeId(1), Instant(20), OPTIONS) == [call]


def test_a_call_that_was_queued_again_leaves_the_queue_when_its_result_comes() -> None:
    calls = Calls()
    for number in (1, 2):
        calls.add(Call(CallId(number), "command", b"\x91\xa1a", Instant(50)))
    calls.launch("command", NodeId(1), Instant(10), OPTIONS)
    calls.requeue(calls.at(NodeId(1)))
    value = msgspec.Raw(b"\x01")
    assert calls.answered([(1, RESULT, value), (9, RESULT, value)]) == ([(1, value)], [(9, RESULT, value)])
    assert [call.sequence for call in calls.launch("command", NodeId(2), Instant(20), OPTIONS)] == [2]
