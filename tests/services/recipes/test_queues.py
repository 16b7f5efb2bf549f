"""Queues as ordinary objects: order, leases, attempts, dead letters, ids, limits."""

from collections import Counter
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.services.recipes.desk import ANNE, BERT, CARL, Desk
from viewstamp.services.locks import InvalidName, NoSession
from viewstamp.services.recipes.names import TooLarge, TooMany
from viewstamp.services.recipes.queue_messages import (
    NotTaken,
    Put,
    QueueFull,
    QueueLimits,
    QueueState,
    TakeAnswer,
)
from viewstamp.services.recipes.queues import BODY_BYTES_MAX, QueueService


def desk(**settings: int) -> Desk[QueueService]:
    at = Desk(QueueService())
    if settings:
        with at.by(ANNE) as service:
            service.configure("q", **settings)
    return at


def put(at: Desk[QueueService], body: str, *args: Any) -> Put:
    with at.by(CARL) as service:
        return service.put("q", body.encode(), *args)


def take(at: Desk[QueueService], client: int, sequence: int = 1, lease_ms: int = 0) -> TakeAnswer:
    with at.by(client) as service:
        return service.take("q", sequence, lease_ms, f"client {client}")


def taken(at: Desk[QueueService], client: int, sequence: int = 1, lease_ms: int = 0) -> str:
    answer = take(at, client, sequence, lease_ms)
    return "" if answer.item is None else answer.item.body.decode()


def ack(at: Desk[QueueService], client: int, sequence: int, token: int) -> None:
    with at.by(client) as service:
        service.ack("q", sequence, token)


def state(at: Desk[QueueService]) -> QueueState:
    with at.by(0, reading=True) as service:
        return service.stat("q")


def where(at: Desk[QueueService]) -> tuple[int, int, int, int]:
    now = state(at)
    return now.waiting, now.delayed, now.taken, now.dead


def test_items_are_taken_in_order_and_removed_when_they_are_acknowledged() -> None:
    at = desk()
    assert put(at, "one") == Put(1, is_new=True)
    put(at, "two")
    assert taken(at, ANNE) == "one"
    token = at.token
    assert taken(at, BERT) == "two"
    assert take(at, CARL).state == "waiting"
    for client, sequence, other in ((BERT, 1, token), (ANNE, 2, token), (ANNE, 1, token + 1)):
        with pytest.raises(NotTaken):
            ack(at, client, sequence, other)
    ack(at, ANNE, 1, token)
    with pytest.raises(NotTaken):
        ack(at, ANNE, 1, token)
    assert where(at) == (0, 0, 1, 0)
    put(at, "three")
    assert at.asked() == [(CARL, 1)], "one that waits is given what comes"
    assert taken(at, CARL) == "three"


def test_an_item_comes_back_when_its_session_ends_and_is_tried_first() -> None:
    at = desk()
    for body in ("one", "two"):
        put(at, body)
    old = take(at, ANNE).token
    take(at, ANNE, 2)
    take(at, ANNE, 3)
    take(at, BERT)
    at.end(ANNE)
    assert at.asked() == [(BERT, 1)], "and the dead are given nothing"
    again = take(at, BERT)
    assert again.item is not None
    assert (again.item.body, again.item.attempts) == (b"one", 2)
    assert again.token > old
    at.again()
    assert where(at) == (1, 0, 1, 0)


def test_a_lease_ends_in_log_time_and_is_renewed_by_asking() -> None:
    at = desk()
    put(at, "one")
    assert taken(at, ANNE, 1, 100) == "one"
    token = at.token
    at.now = 60_000
    assert take(at, ANNE, 1, 100).token == token
    at.now = 159_999
    assert take(at, BERT).state == "waiting"
    at.now = 160_000
    assert taken(at, BERT) == "one", "a taker that asks moves it"
    assert (ANNE, 1) in at.asked()
    with pytest.raises(NotTaken):
        ack(at, ANNE, 1, token)
    with pytest.raises(NotTaken, match="lease"):
        take(at, ANNE, 1, 100)
    assert take(at, ANNE, 1, 100).state == "waiting", "it was told, and may wait again"


def test_a_lease_that_was_renewed_very_often_leaves_no_heap_behind() -> None:
    at = desk()
    put(at, "one")
    for _ in range(500):
        take(at, ANNE, 1, 1_000_000)
    for sequence in range(2, 500):
        with at.by(ANNE) as service:
            service.release("q", sequence - 1)
        take(at, ANNE, sequence, 1_000_000)
    assert len(at.service.queues["q"].leases) < 200


def test_the_last_attempt_makes_a_dead_letter_that_may_be_revived() -> None:
    at = desk(attempts_max=2)
    put(at, "one", "id")
    for sequence in (1, 2):
        token = take(at, ANNE, sequence).token
        with at.by(ANNE) as service:
            assert service.fail("q", sequence, token, "no luck") is (sequence == 2)
    assert where(at) == (0, 0, 0, 1)
    with at.by(0, reading=True) as service:
        (shown,) = service.items("q").items
        assert (shown.state, shown.reason, shown.attempts) == ("dead", "no luck", 2)
    assert not put(at, "one", "id").is_new, "it is still here"
    at.again()
    with at.by(ANNE) as service:
        number = service.revive("q", 1)
        assert service.peek("q", number) is not None
    for call in (at.service.revive, at.service.discard):
        with pytest.raises(NotTaken), at.by(ANNE):
            call("q", 1)
    token = take(at, ANNE, 3).token
    with at.by(ANNE) as service:
        assert service.fail("q", 3, token, bury=True)
        service.discard("q", number)
    assert where(at) == (0, 0, 0, 0)
    assert at.service.size == 0
    assert put(at, "one", "id").is_new


def test_an_item_that_was_returned_on_purpose_has_no_attempt_more() -> None:
    at = desk(attempts_max=1)
    put(at, "one")
    for sequence in (1, 2, 3):
        assert taken(at, ANNE, sequence) == "one"
        with at.by(ANNE) as service:
            assert service.release("q", sequence) == "released"
            assert service.release("q", sequence) == "unknown"
    assert where(at) == (1, 0, 0, 0)


def test_items_of_one_key_are_done_one_after_the_other() -> None:
    at = desk(backoff_ms=100)
    for body, key in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("x", "")):
        put(at, body, "", key)
    assert [taken(at, ANNE, sequence) for sequence in (1, 2, 3, 4)] == ["a1", "b1", "x", ""]
    with at.by(ANNE) as service:
        service.fail("q", 1, at.service.queues["q"].claims[ANNE, 1].token)
    assert taken(at, ANNE, 4) == "", "those behind it wait while it is delayed"
    at.now = 100_000
    assert taken(at, ANNE, 4) == "a1"
    token = at.token
    ack(at, ANNE, 4, token)
    at.again()
    assert taken(at, ANNE, 5) == "a2"
    at.end(ANNE)
    assert taken(at, BERT) == "a2"


def test_a_delayed_item_is_taken_when_its_time_has_come() -> None:
    at = desk()
    put(at, "late", "", "", 100)
    put(at, "now")
    assert where(at) == (1, 1, 0, 0)
    assert taken(at, ANNE) == "now"
    assert taken(at, BERT) == ""
    at.now = 100_000
    assert taken(at, BERT) == "late"


def test_an_id_is_put_once_and_remembered_for_a_while_after_it_was_done() -> None:
    at = desk(dedupe_ms=100)
    assert put(at, "one", "id") == Put(1, is_new=True)
    assert put(at, "one", "id") == Put(1, is_new=False)
    token = take(at, ANNE).token
    ack(at, ANNE, 1, token)
    assert put(at, "one", "id") == Put(0, is_new=False)
    at.now = 100_000
    assert put(at, "one", "id") == Put(2, is_new=True)


def test_what_is_due_moves_by_an_alarm_though_nobody_asks() -> None:
    at = desk()
    put(at, "late", "", "", 100)
    put(at, "one")
    take(at, ANNE, 1, 50)
    assert take(at, BERT).state == take(at, CARL).state == "waiting"
    at.asked()
    assert at.service.next_alarm() == 50_000
    at.now = 49_999
    assert at.alarms() == 0
    at.now = 50_000
    assert at.alarms() == 1
    assert sorted(at.asked()) == [(ANNE, 1), (BERT, 1)]
    at.again()
    at.now = 100_000
    assert at.alarms() == 1
    assert (CARL, 1) in at.asked()
    assert at.service.next_alarm() is None
    at.end(BERT)
    assert at.service.alarm_heap == []


def test_alarms_that_were_moved_leave_no_heap_behind() -> None:
    at = desk()
    put(at, "one")
    for lease in range(1, 1_000):
        take(at, ANNE, lease, 1_000 * lease)
        with at.by(ANNE) as service:
            service.release("q", lease)
    assert len(at.service.alarm_heap) < 200


def test_a_number_is_not_used_again_when_a_queue_was_forgotten() -> None:
    at = desk()
    with at.by(ANNE) as service:
        service.configure("other", dedupe_ms=0)
    put(at, "one")
    ack(at, ANNE, 1, take(at, ANNE).token)
    assert "q" not in at.service.queues
    assert put(at, "two").number == 2


def test_a_queue_that_holds_nothing_is_forgotten_and_one_that_was_configured_is_not() -> None:
    at = desk()
    take(at, ANNE)
    at.end(ANNE)
    assert (at.service.queues, at.service.clients) == ({}, {})
    with at.by(ANNE) as service:
        service.configure("q")
    at.end(ANNE)
    assert "q" in at.service.queues


def test_what_exceeds_a_limit_is_refused_and_changes_nothing() -> None:
    class Small(QueueService):
        limits: ClassVar[QueueLimits] = QueueLimits(1, bytes_max=400, claims_per_client_max=2, waiting_max=2)

    at = Desk[QueueService](Small())
    with at.by(ANNE) as service:
        service.configure("q", items_max=2)
    for wrong in ({"attempts_max": -1}, {"items_max": 0}, {"backoff_ms": -1}, {"dedupe_ms": 1 << 60}):
        with pytest.raises(TooLarge), at.by(ANNE) as service:
            service.configure("q", **wrong)
    for arguments in (
        ("x" * (BODY_BYTES_MAX + 1),),
        ("x", "i" * 257),
        ("x", "", "k" * 257),
        ("x", "", "", -1),
    ):
        with pytest.raises(TooLarge):
            put(at, *arguments)
    put(at, "12345")
    with pytest.raises(QueueFull, match="400 bytes"):
        put(at, "x" * 300)
    put(at, "1")
    with pytest.raises(QueueFull, match="2 items"):
        put(at, "1")
    with pytest.raises(TooMany, match="1 queues"), at.by(CARL) as service:
        service.put("r", b"")
    with pytest.raises(NoSession), at.by(ANNE, session=False) as service:
        service.take("q", 1)
    with pytest.raises(InvalidName), at.by(ANNE) as service:
        service.take("q", 0)
    with pytest.raises(TooLarge):
        take(at, ANNE, 1, -1)
    for sequence in (1, 2):
        take(at, ANNE, sequence)
    with pytest.raises(TooMany, match="2 claims"):
        take(at, ANNE, 3)
    for sequence in (1, 2):
        take(at, BERT, sequence)
    with pytest.raises(TooMany, match="2 takers"):
        take(at, CARL)


class Tangle(RuleBasedStateMachine):
    """Nothing is lost or done twice under one token, and one item of a key is worked on at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.at = desk(attempts_max=3, backoff_ms=20, dedupe_ms=0)
        self.put_: set[int] = set()
        self.done: Counter[int] = Counter()
        self.held: dict[tuple[int, int], tuple[int, int]] = {}
        """By claim the item and the token that its taker believes in."""

    @rule(key=st.sampled_from(["", "a", "b"]), delay=st.sampled_from([0, 0, 30]))
    def put(self, key: str, delay: int) -> None:
        self.put_.add(put(self.at, "x", "", key, delay).number)

    @rule(client=st.integers(1, 3), sequence=st.integers(1, 3), lease=st.sampled_from([0, 50]))
    def take(self, client: int, sequence: int, lease: int) -> None:
        try:
            answer = take(self.at, client, sequence, lease)
        except NotTaken:
            self.held.pop((client, sequence), None)
            return
        if answer.item is not None:
            self.held[client, sequence] = answer.item.number, answer.token

    @rule(client=st.integers(1, 3), sequence=st.integers(1, 3), fails=st.booleans())
    def end(self, client: int, sequence: int, fails: bool) -> None:
        number, token = self.held.pop((client, sequence), (0, 1))
        try:
            with self.at.by(client) as service:
                if fails:
                    service.fail("q", sequence, token)
                else:
                    service.ack("q", sequence, token)
                    self.done[number] += 1
        except NotTaken:
            pass

    @rule(client=st.integers(1, 3), sequence=st.integers(1, 3))
    def release(self, client: int, sequence: int) -> None:
        self.held.pop((client, sequence), None)
        with self.at.by(client) as service:
            service.release("q", sequence)

    @rule(client=st.integers(1, 3))
    def die(self, client: int) -> None:
        self.at.end(client)
        self.held = {key: one for key, one in self.held.items() if key[0] != client}

    @rule(pause=st.integers(1, 60_000), rings=st.booleans())
    def wait(self, pause: int, rings: bool) -> None:
        self.at.now += pause
        if rings:
            self.at.alarms()
            queue = self.at.service.queues["q"]
            assert (queue.due or self.at.now + 1) > self.at.now, "what was due has moved"

    @rule()
    def again(self) -> None:
        self.at.again()

    @invariant()
    def every_item_is_in_one_place(self) -> None:
        queue = self.at.service.queues["q"]
        places = [
            *queue.ready,
            *(number for _, number in queue.delayed),
            *(number for behind in queue.keys.values() for number in behind),
            *(take.number for take in queue.claims.values() if take.number),
            *queue.dead,
        ]
        assert Counter(places) == Counter(dict.fromkeys(queue.items, 1))
        assert set(queue.items) | set(self.done) == self.put_, "lost"
        assert not set(queue.items) & set(self.done)
        assert max(self.done.values(), default=0) <= 1, "done twice"

    @invariant()
    def one_of_a_key_is_taken(self) -> None:
        queue = self.at.service.queues["q"]
        keys = Counter(queue.items[take.number].key for take in queue.claims.values() if take.number)
        assert all(count == 1 for key, count in keys.items() if key)

    @invariant()
    def a_taker_is_given_what_is_ready(self) -> None:
        queue = self.at.service.queues["q"]
        assert not (queue.ready and queue.line)

    @invariant()
    def numbers_add_up(self) -> None:
        queue = self.at.service.queues["q"]
        assert sum(where(self.at)) == len(queue.items)
        assert self.at.service.size == sum(item.cost for item in queue.items.values())
        claims = {(client, seq) for client, mine in self.at.service.clients.items() for _, seq in mine}
        assert claims == set(queue.claims)


TestTangle = Tangle.TestCase
TestTangle.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
