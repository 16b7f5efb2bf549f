"""The replica as a whole, over a core that obeys: gathering, answering, redirecting, limits, news."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from tests.replica.fakes import (
    CLIENT,
    HERE,
    NODE,
    OTHER,
    Bench,
    Counter,
    FakeCore,
    call,
    lines,
    replies,
    submit,
)
from viewstamp.core.effects import Apply, Effect, Entry, LeaderChanged, Persist, Send
from viewstamp.core.events import PeerUp, Proposed, TakeSnapshot, Woke
from viewstamp.core.ids import ClientAddress, PersistSeq, Seqno, View, Viewstamp, fencing_token
from viewstamp.core.messages import (
    FAILED,
    INVALID,
    NO_SESSION,
    REFUSED,
    RESULT,
    SECRET_BYTES,
    AdminReply,
    AdminRequest,
    CloseSession,
    Identify,
    KeepAlive,
    Notified,
    OpenSession,
    Redirect,
    Results,
    ServerMessage,
    SessionOpened,
    client_number,
)
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.replica.events import Respond
from viewstamp.replica.options import ReplicaOptions, SessionLimits

THERE = ClientAddress(8)


def _redirects(messages: Iterable[ServerMessage]) -> list[tuple[int, int | None, bool, list[int]]]:
    return [(m.client, m.leader, m.entered, m.sequences) for m in messages if isinstance(m, Redirect)]


def _proposals(core: FakeCore) -> list[Proposed]:
    return [event for event in core.events if isinstance(event, Proposed)]


def _value(bench: Bench) -> int:
    machine = bench.replica.machine
    assert isinstance(machine, Counter)
    return machine.value


def test_a_command_is_executed_once_and_answered_twice_when_it_is_submitted_twice() -> None:
    bench = Bench()
    session = bench.open()
    first = bench.do(submit(session, (1, call("add", 5))))
    again = bench.do(submit(session, (1, call("add", 5))))
    assert lines(first) == lines(again) == [(1, RESULT, 5)]


def test_all_that_came_in_one_turn_is_one_entry_and_one_answer_to_each_client() -> None:
    bench = Bench()
    one, two = bench.open(), bench.open(9, THERE)
    before = len(_proposals(bench.core))
    bench.request(submit(one, (1, call("add", 1))))
    bench.request(submit(two, (1, call("add", 2)), client=9), THERE)
    bench.request(submit(one, (2, call("add", 4))))
    effects = bench.wake()
    assert len(_proposals(bench.core)) == before + 1
    responded = [(e.to, lines([e.message])) for e in effects if isinstance(e, Respond)]
    assert responded == [(HERE, [(1, RESULT, 1), (2, RESULT, 7)]), (THERE, [(1, RESULT, 3)])]


def test_a_position_is_the_fencing_token_of_the_last_command_of_a_client() -> None:
    bench = Bench()
    session = bench.open()
    (answer,) = bench.do(submit(session, (1, call("add", 1)), (2, call("add", 1))))
    assert isinstance(answer, Results)
    assert answer.position == fencing_token(Seqno(2), 1)


def test_nothing_is_proposed_when_the_core_does_not_accept_and_then_all_at_once() -> None:
    bench = Bench()
    session = bench.open()
    bench.core.accepting = False
    assert bench.do(submit(session, (1, call("add", 1)))) == []
    assert bench.do(submit(session, (2, call("add", 1)))) == []
    bench.core.accepting = True
    assert lines(replies(bench.wake())) == [(1, RESULT, 1), (2, RESULT, 2)]


def test_more_than_one_entry_is_made_when_more_waits_than_fits() -> None:
    bench = Bench(options=ReplicaOptions(batch_commands_max=2))
    session = bench.open()
    before = len(_proposals(bench.core))
    for number in range(1, 6):
        bench.request(submit(session, (number, call("add", 1))))
    assert lines(replies(bench.wake()))[-1] == (5, RESULT, 5)
    assert len(_proposals(bench.core)) == before + 3


def test_the_session_messages_are_answered_when_they_are_applied() -> None:
    bench = Bench()
    session = bench.open()
    assert bench.do(KeepAlive(CLIENT, session)) == [SessionOpened(CLIENT, session, 60_000)]
    assert bench.do(OpenSession(CLIENT)) == [SessionOpened(CLIENT, session, 60_000)]
    ((sequence, _, _),) = lines(bench.do(CloseSession(CLIENT, session)))
    assert sequence == 0


def test_an_invalid_call_is_answered_at_once_and_never_logged() -> None:
    bench = Bench()
    session = bench.open()
    bench.core.holding = True
    at_once = bench.request(submit(session, (1, call("add", "x")), (2, call("add", 2))))
    ((sequence, kind, explanation),) = lines(replies(at_once))
    assert (sequence, kind) == (1, INVALID)
    assert "Expected `int`, got `str`" in explanation
    bench.wake()
    assert lines(replies(bench.commit_held())) == [(2, RESULT, 2)]
    assert b"\xa1x" not in _proposals(bench.core)[-1].data


def test_an_exception_is_the_answer_and_the_replica_goes_on() -> None:
    bench = Bench()
    session = bench.open()
    assert lines(bench.do(submit(session, (1, call("fail", "why"))))) == [(1, FAILED, ["Broken", "why"])]
    assert lines(bench.do(submit(session, (2, call("add", 1))))) == [(2, RESULT, 2)]


def test_a_client_is_sent_to_the_leader_when_another_node_leads() -> None:
    bench = Bench()
    bench.core.leader, bench.core.accepting = OTHER, False
    answers = bench.do(submit(5, (1, call("add", 1)), (2, call("add", 1))))
    assert _redirects(answers) == [(CLIENT, OTHER, False, [1, 2])]
    assert _redirects(bench.do(OpenSession(CLIENT))) == [(CLIENT, OTHER, False, [])]


def test_everybody_waits_when_no_leader_is_known() -> None:
    bench = Bench()
    session = bench.open()
    bench.core.holding = True
    bench.do(submit(session, (1, call("add", 1))))
    assert replies(bench.lead(None)) == [], "a leader that lost its quorum answers nothing (K1)"
    assert bench.do(submit(session, (2, call("add", 1)))) == []
    bench.lead(NODE)
    bench.wake()
    assert lines(replies(bench.commit_held())) == [(1, RESULT, 1), (2, RESULT, 2)]


def test_each_call_is_told_whether_it_entered_when_another_leader_is_known() -> None:
    bench = Bench()
    session = bench.open()
    bench.core.holding = True
    bench.do(submit(session, (1, call("add", 1)), (2, call("add", 1))))
    bench.core.accepting = False
    bench.request(submit(session, (3, call("add", 1))))
    answers = replies(bench.lead(OTHER))
    assert _redirects(answers) == [(CLIENT, OTHER, True, [1, 2]), (CLIENT, OTHER, False, [3])]
    assert replies(bench.commit_held()) == [], "it was sent away: the new leader answers"
    assert _value(bench) == 2


def test_what_waits_stays_when_the_core_still_accepts_though_another_leads() -> None:
    bench = Bench()
    session = bench.open()
    bench.request(submit(session, (1, call("add", 1))))
    bench.core.leader = OTHER
    assert replies(bench.feed(LeaderChanged(View(1), OTHER))) != []
    assert _value(bench) == 1


def test_an_idle_client_with_a_session_is_told_who_leads_now() -> None:
    bench = Bench()
    bench.open()
    bench.lead(NODE)
    bench.replica._responses.addresses.waiting.clear()
    assert _redirects(replies(bench.lead(OTHER))) == [(CLIENT, OTHER, False, [])]


def test_an_entry_of_another_leader_is_not_confused_with_an_own_one() -> None:
    bench, other = Bench(), Bench()
    session = bench.open()
    other.open()
    for each in (bench, other):
        each.core.holding = True
    bench.do(submit(session, (1, call("add", 1))))
    other.do(submit(session, (1, call("add", 100))))
    bench.core.held = other.core.held
    bench.commit_held()
    assert _value(bench) == 100


def test_a_later_own_entry_is_recognised_when_an_earlier_one_lost_its_place() -> None:
    bench = Bench()
    session = bench.open()
    bench.core.holding = True
    bench.do(submit(session, (1, call("add", 1))))
    bench.do(submit(session, (2, call("add", 2))))
    del bench.core.held[0]
    assert lines(replies(bench.commit_held())) == [(2, RESULT, 2)]
    assert not len(bench.replica._in_flight)


def test_no_answer_is_sent_when_the_connection_is_gone() -> None:
    bench = Bench()
    session = bench.open()
    bench.core.holding = True
    bench.do(submit(session, (1, call("add", 1))))
    bench.gone()
    assert replies(bench.commit_held()) == []
    assert _value(bench) == 1


def test_the_answer_goes_to_the_newest_connection_of_a_client() -> None:
    bench = Bench()
    session = bench.open()
    bench.core.holding = True
    bench.do(submit(session, (1, call("add", 1))))
    bench.do(submit(session, (1, call("add", 1))), THERE)
    bench.gone(HERE)
    responded = {e.to for e in bench.commit_held() if isinstance(e, Respond)}
    assert responded == {THERE}


def test_the_effects_of_the_core_pass_in_order() -> None:
    bench = Bench()
    passing: list[Effect] = [
        Persist(PersistSeq(1), (b"a",)),
        Send(OTHER, "x"),
        Persist(PersistSeq(2), (b"b",)),
    ]
    assert bench.feed(*passing) == passing


def test_the_core_is_not_woken_before_its_time() -> None:
    bench = Bench()
    bench.step(Woke())
    assert bench.core.events == []
    bench.step(PeerUp(OTHER))
    assert bench.core.events == [PeerUp(OTHER)]


@pytest.mark.parametrize("seqno", [2, 0, 5])
def test_a_gap_in_the_order_is_a_broken_invariant_of_our_own(seqno: int) -> None:
    bench = Bench()
    with pytest.raises(AssertionError):
        bench.feed(Apply(Entry(Viewstamp(View(1), Seqno(seqno)), b"")))


def test_calls_are_refused_when_too_much_waits_and_session_messages_are_sent_on() -> None:
    bench = Bench(options=ReplicaOptions(gathered_commands_max=2))
    session = bench.open()
    bench.core.accepting = False
    bench.do(submit(session, (1, call("add", 1)), (2, call("add", 1))))
    refused = lines(bench.do(submit(session, (3, call("add", 1)), (4, call("add", 1)))))
    assert [(sequence, kind) for sequence, kind, _ in refused] == [(3, REFUSED), (4, REFUSED)]
    assert _redirects(bench.do(OpenSession(9), THERE)) == [(9, None, False, [])]
    bench.core.accepting = True
    assert lines(replies(bench.wake()))[-1] == (2, RESULT, 2)


def test_a_message_with_too_many_calls_is_refused_whole() -> None:
    bench = Bench(options=ReplicaOptions(batch_commands_max=3))
    session = bench.open()
    flood = submit(session, *[(n, call("add", 1)) for n in range(1, 5)])
    assert [kind for _, kind, _ in lines(bench.do(flood))] == [REFUSED] * 4
    assert _value(bench) == 0


def test_directives_go_to_the_core_and_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(options=ReplicaOptions(directives_max=1))
    assert bench.do(AdminRequest(3, TakeSnapshot())) == [AdminReply(3, None)]
    monkeypatch.setattr(bench.core, "step", lambda event, now: [])
    assert bench.do(AdminRequest(4, TakeSnapshot())) == []
    (reply,) = bench.do(AdminRequest(5, TakeSnapshot()))
    assert isinstance(reply, AdminReply)
    assert reply.request == 5
    assert "too many" in (reply.refusal or "")


def test_a_client_beyond_the_limit_is_turned_away() -> None:
    bench = Bench(options=ReplicaOptions(clients_max=2))
    known = [client_number(bytes([n]) * SECRET_BYTES) for n in range(3)]
    answers = [bench.do(Identify(known[n], bytes([n]) * SECRET_BYTES), ClientAddress(n)) for n in range(3)]
    assert answers[:2] == [[], []]
    reason = "this node knows 2 clients already (clients_max)"
    assert answers[2] == [Redirect(known[2], None, False, [], reason)]
    places = [bench.replica._responses.addresses.address_of(client) for client in known]
    assert places == [0, 1, None]


def test_a_hundred_thousand_openings_leave_a_bounded_number_of_sessions() -> None:
    bench = Bench(options=ReplicaOptions(sessions=SessionLimits(sessions_max=10), clients_max=16))
    for first in range(1, 2_000, 50):
        for client in range(first, first + 50):
            bench.request(OpenSession(client), ClientAddress(client))
        bench.wake()
        assert len(bench.replica.state.sessions) <= 10
        assert len(bench.replica._responses.addresses) <= 16


def test_a_notification_is_delivered_by_the_leader_when_it_is_committed() -> None:
    bench = Bench()
    session = bench.open()
    watcher = bench.open(9, THERE)
    bench.core.holding = True
    bench.do(submit(session, (1, call("tell", 9, "hello"))))
    assert not [m for m in replies(bench.seen) if isinstance(m, Notified)], "not before it is committed"
    told = [(e.to, e.message) for e in bench.commit_held() if isinstance(e, Respond)]
    assert (THERE, Notified(9, watcher, msgspec.Raw(msgspec.msgpack.encode("hello")))) in told


def test_a_notification_is_not_delivered_when_another_node_leads() -> None:
    bench = Bench()
    session = bench.open()
    bench.open(9, THERE)
    bench.core.holding = True
    bench.do(submit(session, (1, call("tell", 9, "hello"))))
    bench.core.leader = OTHER
    assert replies(bench.commit_held()) == [Results(CLIENT, 3 << 20, [(1, RESULT, msgspec.Raw(b"\xc0"))])]


class Reminding(StateMachine):
    """Keeps what its clients still have to hear."""

    open_news: dict[int, str] = {}  # noqa: RUF012  copied for each instance

    @command
    def keep(self, client: int, text: str) -> None:
        self.open_news[client] = text

    def pending_notifications(self) -> Iterable[tuple[int, Any]]:
        return self.open_news.items()


def _news(messages: Iterable[ServerMessage]) -> list[tuple[int, Any]]:
    return [(m.client, msgspec.msgpack.decode(m.payload)) for m in messages if isinstance(m, Notified)]


def test_pending_notifications_are_sent_again_when_a_client_comes_back() -> None:
    bench = Bench(Reminding)
    bench.do(submit(NO_SESSION, (1, call("keep", 9, "grant"))))
    assert _news(bench.do(KeepAlive(9, 5), THERE)) == [(9, "grant")]
    assert _news(bench.do(KeepAlive(9, 5), THERE)) == []
    assert _news(bench.do(KeepAlive(9, 5), ClientAddress(77))) == [(9, "grant")]


def test_pending_notifications_are_sent_again_when_this_node_begins_to_lead() -> None:
    bench = Bench(Reminding)
    bench.do(submit(NO_SESSION, (1, call("keep", CLIENT, "grant"))))
    bench.lead(OTHER)
    assert _news(replies(bench.wake())) == []
    assert _news(replies([*bench.lead(NODE), *bench.wake()])) == [(CLIENT, "grant")]


def test_log_time_follows_the_leaders_clock_and_never_goes_back() -> None:
    bench = Bench()
    session = bench.open()
    stamps = []
    for number, now in enumerate((0, 700, 700, 9_000), start=1):
        bench.now = now
        ((_, _, payload),) = lines(bench.do(submit(session, (number, call("when")))))
        stamps.append(payload[0])
    assert stamps == [0, 700, 700, 9_000]
    bench.lead(None)
    bench.now = 1_000_000
    bench.lead(NODE)
    ((_, _, payload),) = lines(bench.do(submit(session, (9, call("when")))))
    assert payload[0] == 9_000, "no time passes while no node leads"


def test_the_same_events_give_the_same_effects() -> None:
    def run() -> list[str]:
        bench = Bench()
        session = bench.open()
        for number in range(1, 20):
            bench.now += 13
            bench.do(submit(session, (number, call("when")), (number + 100, call("fail", "x"))))
        bench.lead(OTHER)
        return [repr(_plain(effect)) for effect in bench.seen]

    assert run() == run()


def _plain(effect: Any) -> Any:
    return msgspec.msgpack.encode(effect.message) if isinstance(effect, Respond) else effect
