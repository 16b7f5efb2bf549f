"""The lock service as an ordinary object (docs/faults.md#k02, #k06, #k09, #k10;
docs/requirements.md#r22 to #r27, #r43, #r50)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.runner import MachineRunner
from viewstamp.machine.state_machine import Context, running_at
from viewstamp.services.locks import (
    LABEL_BYTES_MAX,
    NAME_BYTES_MAX,
    Acquired,
    InvalidName,
    LockLimits,
    LockService,
    NoSession,
    NotHeld,
    Notice,
    Released,
    Retry,
    Revoke,
    TooManyLocks,
    TooManyWaiters,
    Waiter,
)

ANNE, BERT, CARL = 1, 2, 3
SESSIONS = 100
NOTICE = msgspec.msgpack.Decoder(Notice)


class Desk:
    """A service that commands reach one after the other, each as an entry of its own."""

    def __init__(self, service: LockService | None = None) -> None:
        self.service = LockService() if service is None else service
        self.seqno = 0
        self.told: list[tuple[int, Notice]] = []
        """Notifications since the last look."""

    @contextmanager
    def entry(self, client: int) -> Iterator[Context]:
        self.seqno += 1
        session = SESSIONS + client if client else 0
        with running_at(
            self.service, seqno=self.seqno, now=self.seqno * 10, client=client, session=session
        ) as context:
            yield context
            self.told += [(n.client, NOTICE.decode(n.payload)) for n in context.take_notifications()]

    def acquire(self, client: int, sequence: int, name: str = "a") -> Acquired:
        with self.entry(client):
            return self.service.acquire(name, sequence, f"client {client}")

    def release(self, client: int, sequence: int, name: str = "a") -> Released:
        with self.entry(client):
            return self.service.release(name, sequence)

    def end(self, client: int) -> None:
        with self.entry(0):
            self.service.session_ended(client)

    def take_told(self) -> list[tuple[int, Notice]]:
        told, self.told = self.told, []
        return told

    @property
    def token(self) -> int:
        """The token of the last command."""
        return self.seqno << 20


def _copy(service: LockService) -> LockService:
    again = type(service)()
    again.restore(b"".join(service.snapshot()))
    return again


def _state(service: LockService) -> Any:
    return b"".join(service.snapshot())


def test_a_free_lock_is_granted_under_the_token_of_the_command() -> None:
    desk = Desk()
    assert desk.acquire(ANNE, 1) == Acquired("granted", desk.token, wanted=False)
    shown = desk.service.stat("a")
    assert shown.holder is not None
    assert (shown.holder.client, shown.holder.label, shown.holder.since) == (ANNE, "client 1", 10)
    assert desk.take_told() == []


def test_waiters_are_served_in_the_order_of_asking() -> None:
    desk = Desk()
    first = desk.acquire(ANNE, 1)
    assert desk.acquire(CARL, 1).state == desk.acquire(BERT, 1).state == "waiting"
    assert desk.take_told() == [(ANNE, Revoke("a", 1, first.token))] * 2
    assert desk.service.stat("a").queue == [Waiter(CARL, 1, "client 3"), Waiter(BERT, 1, "client 2")]
    assert desk.release(ANNE, 1) == "released"
    assert desk.take_told() == [(CARL, Retry("a", 1, desk.token, wanted=True))]
    desk.release(CARL, 1)
    assert desk.take_told() == [(BERT, Retry("a", 1, desk.token, wanted=False))]
    desk.release(BERT, 1)
    assert len(desk.service) == 0


def test_a_duplicate_is_answered_as_things_stand_now() -> None:
    desk = Desk()
    granted = desk.acquire(ANNE, 1)
    assert desk.acquire(ANNE, 1) == granted
    desk.acquire(BERT, 1)
    assert desk.acquire(ANNE, 1) == Acquired("granted", granted.token, wanted=True)
    desk.take_told()
    assert desk.acquire(BERT, 1).state == "waiting"
    assert desk.take_told() == [(ANNE, Revoke("a", 1, granted.token))], "another revoke (R50)"
    assert desk.service.stat("a").waiters == 1
    desk.release(ANNE, 1)
    assert desk.acquire(BERT, 1) == Acquired("granted", desk.token - (1 << 20), wanted=False)


def test_a_late_acquire_changes_nothing_when_its_lock_has_been_given_back() -> None:
    desk = Desk()
    desk.acquire(ANNE, 4)
    desk.release(ANNE, 4)
    before = _state(desk.service)
    for sequence in (4, 3, 0, -1):
        assert desk.acquire(ANNE, sequence).state == "late"
    assert _state(desk.service) == before
    assert desk.acquire(ANNE, 5).state == "granted"
    assert desk.acquire(ANNE, 4).state == "late"


def test_a_duplicate_of_the_latest_release_is_answered_as_the_first() -> None:
    desk = Desk()
    desk.acquire(ANNE, 1)
    desk.acquire(BERT, 7)
    assert [desk.release(BERT, 7), desk.release(BERT, 7)] == ["withdrawn", "withdrawn"]
    assert [desk.release(ANNE, 1), desk.release(ANNE, 1)] == ["released", "released"]


def test_a_late_release_does_not_free_what_was_acquired_since() -> None:
    desk = Desk()
    desk.acquire(ANNE, 1)
    desk.release(ANNE, 1)
    desk.acquire(ANNE, 2)
    assert desk.release(ANNE, 1) == "late"
    shown = desk.service.stat("a").holder
    assert shown is not None
    assert shown.sequence == 2
    desk.release(ANNE, 2)
    desk.acquire(BERT, 1)
    assert desk.release(ANNE, 2) == "released", "consistent with the first answer"
    assert desk.release(ANNE, 1) == "late"
    holder = desk.service.stat("a").holder
    assert holder is not None
    assert holder.client == BERT


def test_a_lock_has_a_higher_token_when_its_holder_asks_anew() -> None:
    desk = Desk()
    first = desk.acquire(ANNE, 1)
    again = desk.acquire(ANNE, 2)
    assert (again.state, again.token) == ("granted", desk.token)
    assert again.token > first.token
    assert desk.release(ANNE, 1) == "late"
    assert len(desk.service) == 1


def test_a_waiter_keeps_its_place_when_it_asks_anew() -> None:
    desk = Desk()
    desk.acquire(ANNE, 1)
    desk.acquire(BERT, 1)
    desk.acquire(CARL, 1)
    desk.acquire(BERT, 2)
    desk.take_told()
    desk.release(ANNE, 1)
    assert desk.take_told() == [(BERT, Retry("a", 2, desk.token, wanted=True))]


@pytest.mark.parametrize("sequence", [0, 1, 9])
def test_a_release_is_refused_when_the_lock_was_never_asked_for(sequence: int) -> None:
    desk = Desk()
    with pytest.raises(NotHeld, match="nothing was released"):
        desk.release(ANNE, sequence)
    desk.acquire(BERT, 1)
    with pytest.raises(NotHeld) as caught:
        desk.release(ANNE, sequence)
    assert "\n" not in str(caught.value)
    holder = desk.service.stat("a").holder
    assert holder is not None
    assert holder.client == BERT


def test_a_release_is_refused_when_its_number_was_not_used_yet() -> None:
    desk = Desk()
    desk.acquire(ANNE, 1)
    with pytest.raises(NotHeld):
        desk.release(ANNE, 2)
    assert len(desk.service) == 1


@pytest.mark.parametrize("name", ["", "x" * (NAME_BYTES_MAX + 1), "\u00e9" * (NAME_BYTES_MAX // 2 + 1)])
def test_a_name_is_refused_when_it_is_empty_or_too_long(name: str) -> None:
    desk = Desk()
    with pytest.raises(InvalidName, match=str(NAME_BYTES_MAX)):
        desk.acquire(ANNE, 1, name)
    with pytest.raises(InvalidName), desk.entry(ANNE):
        desk.service.acquire("a", 1, "x" * (LABEL_BYTES_MAX + 1))
    assert (len(desk.service), desk.told) == (0, [])
    assert desk.acquire(ANNE, 1, "x" * NAME_BYTES_MAX).state == "granted"


def test_a_client_without_a_session_is_refused() -> None:
    service = LockService()
    with running_at(service, client=ANNE), pytest.raises(NoSession):
        service.acquire("a", 1)
    with running_at(service, client=ANNE), pytest.raises(NoSession):
        service.release("a", 1)


class Small(LockService):
    limits = LockLimits(locks_max=3, places_per_client_max=2, waiters_max=1, finished_per_client_max=2)


def test_limits_are_kept_and_what_is_held_stays_usable() -> None:
    desk = Desk(Small())
    desk.acquire(ANNE, 1, "a")
    desk.acquire(ANNE, 2, "b")
    with pytest.raises(TooManyLocks, match="2 locks"):
        desk.acquire(ANNE, 3, "c")
    desk.acquire(BERT, 1, "a")
    with pytest.raises(TooManyWaiters):
        desk.acquire(CARL, 1, "a")
    desk.acquire(CARL, 2, "c")
    with pytest.raises(TooManyLocks, match="3 locks"):
        desk.acquire(CARL, 3, "d")
    assert desk.acquire(ANNE, 1, "a").state == "granted", "a duplicate needs no room"
    assert desk.acquire(BERT, 2, "a").state == "waiting"
    desk.release(CARL, 2, "c")
    assert desk.acquire(CARL, 4, "d").state == "granted"


def test_finished_numbers_are_forgotten_when_there_are_too_many() -> None:
    desk = Desk(Small())
    for sequence, name in enumerate("abc", start=1):
        desk.acquire(ANNE, sequence, name)
        desk.release(ANNE, sequence, name)
    assert desk.release(ANNE, 3, "c") == desk.release(ANNE, 2, "b") == "released"
    with pytest.raises(NotHeld):
        desk.release(ANNE, 1, "a")


def test_everything_of_a_client_passes_on_when_its_session_ends() -> None:
    desk = Desk()
    for sequence, name in enumerate("cab", start=1):
        desk.acquire(ANNE, sequence, name)
    desk.acquire(BERT, 1, "a")
    desk.acquire(ANNE, 9, "d")
    desk.acquire(CARL, 1, "c")
    desk.acquire(BERT, 2, "e")
    desk.acquire(ANNE, 10, "e")
    desk.take_told()
    desk.end(ANNE)
    assert desk.take_told() == [
        (BERT, Retry("a", 1, desk.token, wanted=False)),
        (CARL, Retry("c", 1, desk.token, wanted=False)),
    ]
    assert [lock.name for lock in desk.service.held().locks] == ["a", "c", "e"]
    assert desk.service.stat("e").waiters == 0
    assert desk.acquire(ANNE, 1, "b").state == "granted", "a new session counts from the start"
    desk.end(CARL + 1)


def test_what_a_client_may_have_missed_is_said_again_out_of_the_state() -> None:
    desk = Desk()
    first = desk.acquire(ANNE, 1)
    desk.acquire(BERT, 1)
    desk.acquire(ANNE, 2, "b")
    again = _copy(desk.service)
    owed = list(again.pending_notifications())
    assert owed == [
        (ANNE, Retry("a", 1, first.token, wanted=True)),
        (ANNE, Revoke("a", 1, first.token)),
        (ANNE, Retry("b", 2, desk.token, wanted=False)),
    ]
    assert list(again.pending_notifications_for({BERT, CARL})) == []
    assert list(again.pending_notifications_for({ANNE, 99})) == owed


def test_held_locks_are_listed_page_by_page() -> None:
    desk = Desk()
    for sequence, name in enumerate(("b/2", "a", "b/1", "c", "b/3"), start=1):
        desk.acquire(ANNE, sequence, name)
    page = desk.service.held("b/", limit=2)
    assert ([lock.name for lock in page.locks], page.more) == (["b/1", "b/2"], True)
    rest = desk.service.held("b/", after="b/2", limit=2)
    assert ([lock.name for lock in rest.locks], rest.more) == (["b/3"], False)
    assert desk.service.held(limit=-1).locks == []
    assert desk.service.stat("nobody has it").holder is None


@pytest.mark.parametrize("cut", [1, 5, -1])
def test_a_snapshot_is_refused_when_it_is_damaged(cut: int) -> None:
    desk = Desk()
    desk.acquire(ANNE, 1)
    body = b"".join(desk.service.snapshot())
    with pytest.raises(ValueError, match=r"cut short|truncated"):
        LockService().restore(body[:cut])


def test_a_large_state_survives_a_snapshot_in_pieces() -> None:
    desk = Desk()
    for number in range(1_200):
        desk.acquire(ANNE, number + 1, f"lock {number}")
    for client in range(10, 700):
        desk.acquire(client, 1, "free")
        desk.release(client, 1, "free")
    pieces = list(desk.service.snapshot())
    assert len(pieces) == 5
    assert _state(_copy(desk.service)) == b"".join(pieces)


def test_the_service_can_be_replicated() -> None:
    host = MachineRunner(MachineDefinition.of(LockService))
    assert sorted(host.definition.methods) == ["acquire", "held", "release", "stat"]


class Machine(RuleBasedStateMachine):
    """Against a model that is nothing but one queue for each lock."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.queues: dict[str, list[tuple[int, int]]] = {"a": [], "b": []}
        self.sequence = 0
        self.tokens = {"a": 0, "b": 0}

    @rule(client=st.integers(1, 4), name=st.sampled_from("ab"))
    def acquire(self, client: int, name: str) -> None:
        queue = self.queues[name]
        known = [place for place, (who, _) in enumerate(queue) if who == client]
        self.sequence += 1
        answer = self.desk.acquire(client, self.sequence, name)
        if known:
            queue[known[0]] = client, self.sequence
        else:
            queue.append((client, self.sequence))
        assert answer.state == ("granted" if queue[0][0] == client else "waiting")

    @rule(client=st.integers(1, 4), name=st.sampled_from("ab"), back=st.integers(0, 3))
    def repeat(self, client: int, name: str, back: int) -> None:
        mine = [sequence for who, sequence in self.queues[name] if who == client]
        before = _state(self.desk.service)
        if mine:
            answer = self.desk.acquire(client, mine[0] - back, name)
            granted = self.queues[name][0][0] == client
            assert answer.state == ("late" if back else "granted" if granted else "waiting")
        assert _state(self.desk.service) == before

    @rule(client=st.integers(1, 4), name=st.sampled_from("ab"), back=st.integers(0, 2))
    def release(self, client: int, name: str, back: int) -> None:
        queue = self.queues[name]
        mine = [sequence for who, sequence in queue if who == client]
        if not mine:
            return
        answer = self.desk.release(client, mine[0] - back, name)
        if back:
            assert answer == "late"
        else:
            assert answer == ("released" if queue[0][0] == client else "withdrawn")
            queue.remove((client, mine[0]))

    @rule(client=st.integers(1, 4))
    def end(self, client: int) -> None:
        self.desk.end(client)
        for queue in self.queues.values():
            queue[:] = [place for place in queue if place[0] != client]

    @rule()
    def fail_over(self) -> None:
        self.desk.service = _copy(self.desk.service)

    @invariant()
    def the_service_says_what_the_model_says(self) -> None:
        for name, queue in self.queues.items():
            shown = self.desk.service.stat(name)
            holder = [] if shown.holder is None else [(shown.holder.client, shown.holder.sequence)]
            assert holder + [(waiter.client, waiter.sequence) for waiter in shown.queue] == queue
            if shown.holder is not None:
                assert shown.holder.token >= self.tokens[name]
                self.tokens[name] = shown.holder.token

    @invariant()
    def the_index_agrees_with_the_locks(self) -> None:
        service = self.desk.service
        for client, record in service._clients.items():
            held = {name for name, lock in service._locks.items() if lock.holder.client == client}
            waiting = {name for name, lock in service._locks.items() if client in lock.queue}
            assert (record.held, record.waiting) == (held, waiting)
            assert not (held | waiting) & set(record.finished)

    @invariant()
    def nothing_is_lost_in_a_snapshot(self) -> None:
        assert _state(_copy(self.desk.service)) == _state(self.desk.service)


TestMachine = pytest.mark.slow(Machine.TestCase)
TestMachine.settings = settings(max_examples=60, stateful_step_count=30)
