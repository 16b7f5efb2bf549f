"""Replicated state: exactly once under copies, disorder and restarts, equal everywhere (I13, I16, I28)."""

from random import Random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.replica.fakes import CLIENT, Counter, call, submit
from viewstamp.core.ids import Seqno, View, Viewstamp
from viewstamp.core.messages import (
    EXPIRED,
    FAILED,
    INVALID,
    NO_SESSION,
    REFUSED,
    RESULT,
    CloseSession,
    KeepAlive,
    Logged,
    OpenSession,
    encode_message,
)
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.replica import snapshot_body
from viewstamp.replica.answers import Answers
from viewstamp.replica.batches import Decoders, decode_batch, encode_batch
from viewstamp.replica.options import SessionLimits
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.replica.sessions import Session, Sessions

DEFINITION = MachineDefinition.of(Counter)
LIMITS = SessionLimits(time_to_live_ms=10, sessions_max=5, results_per_session_max=8)


class AnyClient:
    """All clients are wanted."""

    def __contains__(self, _client: object) -> bool:
        return True


class Copy:
    """A replicated state fed with messages, one entry for each list of them."""

    def __init__(self, machine: type[StateMachine] = Counter, limits: SessionLimits = LIMITS) -> None:
        self.definition = MachineDefinition.of(machine)
        self.state = ReplicatedState(self.definition, limits)
        self.now = 0
        self.history: list[bytes] = []

    def apply(self, *messages: Logged) -> Answers:
        data = encode_batch(self.now, self.state.chain.position, [encode_message(m) for m in messages])
        return self.replay(data)

    def replay(self, data: bytes) -> Answers:
        self.history.append(data)
        batch = decode_batch(data, Decoders.of(self.definition))
        assert not self.state.chain.contradicts(batch.check)
        answers = Answers()
        where = Viewstamp(View(1), Seqno(self.state.applied.seqno + 1))
        self.state.apply(where, batch, AnyClient(), answers)
        return answers

    def open(self, client: int = CLIENT) -> int:
        return self.apply(OpenSession(client)).opened[0].session

    def snapshot(self) -> BytesSnapshot:
        return BytesSnapshot(self.state.applied, b"", b"".join(snapshot_body.capture(self.state)))

    def restored(self) -> "Copy":
        again = Copy(self.definition.cls, self.state.sessions.limits)
        again.state = snapshot_body.restore(self.snapshot(), again.state)
        again.now = self.now
        return again

    @property
    def value(self) -> Any:
        return vars(self.state.runner.machine).get("value", 0)


def _lines(answers: Answers, client: int = CLIENT) -> list[tuple[int, int, Any]]:
    found = answers.lines.get(client, [])
    return [(sequence, kind, msgspec.msgpack.decode(payload)) for sequence, kind, payload in found]


def test_a_copy_gets_the_first_result_when_the_state_has_moved_on() -> None:
    copy = Copy()
    session = copy.open()
    first = _lines(copy.apply(submit(session, (1, call("add", 5)))))
    copy.apply(submit(session, (2, call("add", 5))))
    assert _lines(copy.apply(submit(session, (1, call("add", 5))))) == first == [(1, RESULT, 5)]
    assert copy.value == 10


def test_each_call_is_executed_once_when_copies_arrive_in_any_order_within_a_batch() -> None:
    copy = Copy()
    session = copy.open()
    calls = [submit(session, (n, call("add", 10**n))) for n in (3, 1, 2, 1, 3)]
    answers = _lines(copy.apply(*calls, submit(session, (2, call("add", 100)), (4, call("add", 10_000)))))
    assert copy.value == 11_110
    assert {(sequence, kind) for sequence, kind, _ in answers} == {(n, RESULT) for n in (1, 2, 3, 4)}


def test_an_exception_is_remembered_like_a_result_when_the_command_is_sent_again() -> None:
    copy = Copy()
    session = copy.open()
    first = _lines(copy.apply(submit(session, (1, call("fail", "no")))))
    assert first == [(1, FAILED, ["Broken", "no"])]
    assert _lines(copy.apply(submit(session, (1, call("fail", "no"))))) == first
    assert copy.value == 1


def test_a_number_is_refused_when_it_comes_back_with_another_command() -> None:
    copy = Copy()
    session = copy.open()
    copy.apply(submit(session, (1, call("add", 5))))
    ((sequence, kind, explanation),) = _lines(copy.apply(submit(session, (1, call("add", 6)))))
    assert (sequence, kind) == (1, INVALID)
    assert "another command" in explanation
    assert copy.value == 5


def test_a_late_copy_is_dropped_without_an_answer_when_the_client_has_acknowledged_it() -> None:
    copy = Copy()
    session = copy.open()
    copy.apply(submit(session, (1, call("add", 5))))
    copy.apply(submit(session, (2, call("add", 5)), acknowledged=1))
    assert _lines(copy.apply(submit(session, (1, call("add", 5))))) == []
    assert copy.value == 10


def test_a_command_is_executed_each_time_when_it_has_no_session() -> None:
    copy = Copy()
    for _ in range(2):
        copy.apply(submit(NO_SESSION, (1, call("add", 5))))
    assert copy.value == 10


def test_nothing_is_executed_when_the_session_is_unknown_or_another_clients() -> None:
    copy = Copy()
    session = copy.open()
    for message in (submit(session + 1, (1, call("add", 5))), submit(session, (1, call("add", 5)), client=8)):
        ((_, kind, explanation),) = _lines(copy.apply(message), message.client)
        assert kind == EXPIRED
        assert "not executed" in explanation
    assert copy.value == 0


def test_a_session_expires_by_log_time_and_says_so_when_nothing_comes_from_its_client() -> None:
    copy = Copy()
    session = copy.open()
    copy.now = 9_999
    assert _lines(copy.apply(submit(session, (1, call("add", 1))))) == [(1, RESULT, 1)]
    copy.now += 10_000
    ((_, kind, _),) = _lines(copy.apply(submit(session, (1, call("add", 1)))))
    assert kind == EXPIRED, "an old request must not be executed again after its session is gone (K16)"
    assert copy.value == 1


def test_a_session_lives_on_when_a_keep_alive_comes_in_time() -> None:
    copy = Copy()
    session = copy.open()
    for _ in range(3):
        copy.now += 9_999
        assert [opened.session for opened in copy.apply(KeepAlive(CLIENT, session)).opened] == [session]
    copy.now += 10_000
    assert _lines(copy.apply(KeepAlive(CLIENT, session))) == [(0, EXPIRED, session)]


def test_a_session_is_gone_when_its_client_closes_it() -> None:
    copy = Copy()
    session = copy.open()
    copy.apply(CloseSession(CLIENT, session))
    assert _lines(copy.apply(submit(session, (1, call("add", 5)))))[0][1] == EXPIRED
    assert copy.open() != session


def test_a_session_ends_when_its_client_never_acknowledges() -> None:
    copy = Copy()
    session = copy.open()
    flood = submit(session, *[(n, call("add", 1)) for n in range(1, 12)])
    kinds = [kind for _, kind, _ in _lines(copy.apply(flood))]
    assert kinds == [RESULT] * 8 + [EXPIRED] * 3
    assert copy.value == 8
    assert len(copy.state.sessions) == 0
    assert [kind for _, kind, _ in _lines(copy.apply(flood))] == [EXPIRED] * 11


def test_a_session_ends_when_its_unacknowledged_results_take_too_many_bytes() -> None:
    copy = Copy(limits=SessionLimits(result_bytes_per_session_max=3))
    session = copy.open()
    flood = submit(session, *[(n, call("add", 1)) for n in range(1, 6)])
    kinds = [kind for _, kind, _ in _lines(copy.apply(flood))]
    assert kinds == [RESULT] * 3 + [EXPIRED] * 2, "each result is one byte long"


def test_a_copy_of_a_message_gets_the_first_results_when_it_has_many_calls() -> None:
    copy = Copy(limits=SessionLimits())
    session = copy.open()
    message = submit(session, *[(n, call("add", n)) for n in range(1, 7)])
    first = _lines(copy.apply(message))
    assert _lines(copy.apply(message)) == first
    later = submit(session, *[(n, call("add", n)) for n in range(4, 9)])
    assert [kind for _, kind, _ in _lines(copy.apply(later))] == [RESULT] * 5
    assert copy.value == sum(range(1, 9))


class CallByCall(ReplicatedState):
    """Never runs a message as a whole."""

    __slots__ = ()

    def _run_unseen(self, *_message: object) -> int:
        return 0


@given(st.randoms(use_true_random=False), st.integers(1, 30), st.integers(1, 90))
def test_a_message_run_as_a_whole_ends_as_call_by_call(rng: Random, most: int, size: int) -> None:
    """Numbers with gaps, copies, failures, what cannot be read, acknowledgements, and each of the limits."""
    limits = SessionLimits(
        results_per_session_max=most,
        result_bytes_per_session_max=size,
        result_bytes_max=rng.randrange(2, 300),
    )
    whole, single = Copy(limits=limits), Copy(limits=limits)
    single.state = CallByCall(DEFINITION, limits)
    calls = [
        call("add", 1),
        call("add", 300),
        call("fail", "x"),
        call("when"),
        call("gone"),
        call("add", 1, "y"),
    ]
    last = 0
    for _ in range(12):
        client = rng.choice([CLIENT, 1])
        session = whole.open(client)
        assert single.open(client) == session
        first = last + 1 if rng.random() < 0.8 else rng.randrange(1, last + 2)
        numbers = [first + at for at in range(rng.randrange(9))]
        if rng.random() < 0.2:
            rng.shuffle(numbers)
        last = max([last, *numbers])
        message = submit(
            session,
            *[(number, rng.choice(calls)) for number in numbers],
            client=client,
            acknowledged=max(0, last - rng.randrange(9)),
        )
        assert _lines(whole.apply(message), client) == _lines(single.apply(message), client)
        assert whole.state.chain.position == single.state.chain.position
        if rng.random() < 0.3:  # to look at results takes apart those that are kept by message
            assert list(map(_all_of, whole.state.sessions)) == list(map(_all_of, single.state.sessions))
        assert whole.state.sessions.result_bytes == single.state.sessions.result_bytes
        if rng.random() < 0.2:
            whole = whole.restored()


def _all_of(session: Session) -> tuple[object, ...]:
    return session.image(), session.newest, session.result_bytes


def test_a_session_too_many_is_refused_and_no_session_ends_for_it() -> None:
    copy = Copy()
    before = [copy.open(client) for client in range(1, 6)]
    refusal = "the cluster keeps 5 sessions already (sessions.sessions_max): try again later"
    for client in range(6, 50):
        answers = copy.apply(OpenSession(client))
        assert (_lines(answers, client), answers.opened) == ([(0, REFUSED, refusal)], [])
    assert [session.number for session in copy.state.sessions] == before
    assert copy.open(3) == before[2], "a session that lives is not a new one"
    copy.apply(CloseSession(1, before[0]))
    assert copy.open(6)


def test_an_expired_session_makes_room_in_the_same_entry() -> None:
    copy = Copy()
    for client in range(1, 6):
        copy.open(client)
    copy.now += 10_000
    assert copy.open(6)
    assert [session.client for session in copy.state.sessions] == [6]


def test_a_command_is_refused_without_a_trace_while_all_results_take_too_many_bytes() -> None:
    copy = Copy(limits=SessionLimits(result_bytes_max=4))
    first, second = copy.open(1), copy.open(2)
    flood = submit(first, *[(n, call("add", 1)) for n in range(1, 6)], client=1)
    lines = _lines(copy.apply(flood), 1)
    assert [kind for _, kind, _ in lines] == [RESULT] * 2 + [REFUSED] * 3, "each result is one byte long"
    assert "result_bytes_max" in lines[-1][2]
    honest = _lines(copy.apply(submit(second, (1, call("add", 1)), client=2)), 2)
    assert honest == [(1, RESULT, 3)], "half of the room is for those that acknowledge"
    again = submit(first, (5, call("add", 1)), client=1, acknowledged=4)
    assert _lines(copy.apply(again), 1) == [(5, RESULT, 4)]
    assert _lines(copy.apply(submit(first, (2, call("add", 1)), client=1)), 1) == []


def test_an_idle_client_keeps_no_result_that_it_acknowledges_with_its_keep_alive() -> None:
    copy = Copy()
    session = copy.open()
    copy.apply(submit(session, (1, call("add", 1)), (2, call("add", 1))))
    copy.apply(KeepAlive(CLIENT, session, 1, 1))
    assert list(copy.state.sessions.of_client(CLIENT).results) == [2]  # type: ignore[union-attr]
    copy.apply(KeepAlive(CLIENT, session, 2, 2))
    assert copy.state.sessions.result_bytes == 0
    copy.apply(KeepAlive(CLIENT, session, 3, 1))
    assert _lines(copy.apply(submit(session, (2, call("add", 1))))) == [], "a late copy is not executed"


def test_a_result_that_is_known_is_answered_while_there_is_no_room_for_another() -> None:
    copy = Copy(limits=SessionLimits(result_bytes_max=1))
    session = copy.open()
    assert _lines(copy.apply(submit(session, (1, call("add", 1))))) == [(1, RESULT, 1)]
    both = submit(session, (1, call("add", 1)), (2, call("add", 1)))
    assert [(n, kind) for n, kind, _ in _lines(copy.apply(both))] == [(1, RESULT), (2, REFUSED)]


def test_log_time_never_goes_back_when_a_leader_stamps_an_earlier_time() -> None:
    copy = Copy()
    session = copy.open()
    copy.now = 500
    copy.apply(submit(session, (1, call("when"))))
    copy.now = 100
    ((_, _, (now, _, _)),) = _lines(copy.apply(submit(session, (2, call("when")))))
    assert now == 500


def test_tokens_grow_strictly_when_commands_and_sessions_share_an_entry() -> None:
    copy = Copy()
    session = copy.open()
    answers = copy.apply(submit(session, (1, call("when")), (2, call("when"))), OpenSession(9))
    tokens = [payload[1] for _, _, payload in _lines(answers)]
    later = answers.opened[0].session
    assert session < tokens[0] < tokens[1] < later
    assert answers.positions[CLIENT] == tokens[1]


class Holders(StateMachine):
    """Remembers whose session ended, under which token."""

    ended: list[tuple[int, int]] = []  # noqa: RUF012  copied for each instance

    @command
    def token(self) -> int:
        return self.context.token

    def session_ended(self, client: int) -> None:
        self.ended.append((client, self.context.token))
        self.context.notify(client + 1, "bye")


def test_the_machine_hears_of_an_expired_session_under_a_token_of_its_own() -> None:
    copy = Copy(Holders)
    copy.open(7)
    copy.open(8)
    copy.now = 20_000
    answers = copy.apply(submit(NO_SESSION, (1, call("token"))))
    ended = vars(copy.state.runner.machine)["ended"]
    assert [client for client, _ in ended] == [7, 8]
    assert ended[0][1] < ended[1][1] < _lines(answers)[0][2]
    assert [(n.client, msgspec.msgpack.decode(n.payload)) for n in answers.notifications] == [
        (8, "bye"),
        (9, "bye"),
    ]


def test_sessions_of_a_former_life_end_alike_whatever_order_they_are_kept_in() -> None:
    ends: list[list[tuple[int, int]]] = []
    for backwards in (False, True):
        copy = Copy(Holders)
        for client in (7, 5, 6):
            copy.open(client)
        (images,) = copy.state.sessions.images(sessions_max=9, bytes_max=99)
        copy.state.sessions = Sessions(LIMITS, reversed(images) if backwards else images)
        copy.state.begin_new_life(Viewstamp(View(2), Seqno(100)))
        assert isinstance(copy.state.runner.machine, Holders)
        ends.append(copy.state.runner.machine.ended)
    assert ends[0] == ends[1]
    assert [client for client, _ in ends[0]] == [7, 5, 6]


def test_a_command_that_cannot_be_decoded_is_answered_and_the_rest_goes_on() -> None:
    copy = Copy()
    session = copy.open()
    answers = copy.apply(submit(session, (1, call("gone", 1)), (2, call("add", 5))))
    assert [(sequence, kind) for sequence, kind, _ in _lines(answers)] == [(1, INVALID), (2, RESULT)]


def test_the_digest_differs_when_one_result_differs() -> None:
    one, two = Copy(), Copy()
    for copy, amount in ((one, 1), (two, 2)):
        session = copy.open()
        copy.apply(submit(session, (1, call("add", amount))))
    assert one.state.chain.digest != two.state.chain.digest


def test_the_digest_is_equal_when_only_the_text_of_an_exception_differs() -> None:
    one, two = Copy(), Copy()
    for copy, text in ((one, "at 0x1"), (two, "at 0x2")):
        session = copy.open()
        copy.apply(submit(session, (1, call("fail", text))))
    assert one.state.chain.digest == two.state.chain.digest


def _random_messages(rng: Random, sessions: list[int]) -> list[Logged]:
    client = rng.randrange(1, 5)
    session = rng.choice([NO_SESSION, *sessions]) if sessions else NO_SESSION
    commands = [
        call("add", rng.randrange(5), rng.choice(["", "a", "b"])),
        call("fail", "x"),
        call("when"),
        call("tell", client, "x"),
        call("unknown"),
    ]
    calls = sorted((rng.randrange(1, 12), rng.choice(commands)) for _ in range(rng.randrange(1, 4)))
    options: list[Logged] = [
        submit(session, *calls, client=client, acknowledged=rng.randrange(6)),
        submit(session, *calls, client=client),
        OpenSession(client),
        KeepAlive(client, session),
        CloseSession(client, session),
    ]
    return rng.choices(options, weights=[6, 6, 3, 1, 1], k=rng.randrange(1, 4))


def _state(copy: Copy) -> bytes:
    return copy.snapshot().body


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_a_restored_copy_equals_one_that_replayed_everything(seed: int) -> None:
    rng = Random(seed)
    leader = Copy()
    sessions: list[int] = []
    cut = rng.randrange(30)
    restored: Copy | None = None
    for step in range(30):
        if step == cut:
            restored = leader.restored()
        leader.now += rng.choice([0, 1, 500, 4_000])
        answers = leader.apply(*_random_messages(rng, sessions))
        sessions += [opened.session for opened in answers.opened]
        if restored is not None:
            again = restored.replay(leader.history[-1])
            assert again.lines == answers.lines
            assert again.notifications == answers.notifications
            assert restored.state.chain.digest == leader.state.chain.digest
    replayed = Copy()
    for data in leader.history:
        replayed.replay(data)
    assert restored is not None
    assert _state(restored) == _state(replayed) == _state(leader)


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_every_number_takes_effect_at_most_once_when_traffic_is_random(seed: int) -> None:
    rng = Random(seed)
    copy = Copy(limits=SessionLimits(time_to_live_ms=1_000_000))
    session = copy.open()
    executed: dict[int, Any] = {}
    acknowledged = 0
    for _ in range(40):
        sequences = sorted({rng.randrange(1, 20) for _ in range(3)})
        acknowledged = max(acknowledged, rng.choice([0, 0, 0, rng.randrange(20)]))
        before = copy.value
        message = submit(session, *[(s, call("add", 1 << s)) for s in sequences], acknowledged=acknowledged)
        for sequence, kind, result in _lines(copy.apply(message)):
            assert kind == RESULT
            assert executed.setdefault(sequence, result) == result
        changed = copy.value - before
        assert changed & before == 0, "a bit that was set has been added again"
        if rng.random() < 0.2:
            copy = copy.restored()


def test_only_the_position_moves_when_an_entry_is_empty() -> None:
    copy = Copy()
    before = copy.state.chain.digest
    copy.state.skip(Viewstamp(View(2), Seqno(1)))
    assert copy.state.applied == Viewstamp(View(2), Seqno(1))
    assert (copy.state.chain.digest, copy.value) == (before, 0)
