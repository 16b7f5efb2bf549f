"""Semaphores and read-write locks as ordinary objects."""

from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.services.recipes.desk import ANNE, BERT, CARL, Desk
from viewstamp.services.locks import NAME_BYTES_MAX, InvalidName, NoSession
from viewstamp.services.recipes.claims import ClaimLimits
from viewstamp.services.recipes.names import Ask, Claimed, Mismatch, TooLarge, TooMany
from viewstamp.services.recipes.rwlocks import READERS_MAX, ReadWriteLockService, UpgradeRefused
from viewstamp.services.recipes.semaphores import SemaphoreService


class Small(SemaphoreService):
    limits: ClassVar[ClaimLimits] = ClaimLimits(names_max=2, claims_per_client_max=3, waiting_max=2)


def semaphores() -> Desk[SemaphoreService]:
    return Desk(SemaphoreService())


def acquire(desk: Desk[SemaphoreService], client: int, sequence: int, *args: Any, name: str = "s") -> Claimed:
    with desk.by(client) as service:
        return service.acquire(name, sequence, *args)


def release(desk: Desk[SemaphoreService], client: int, sequence: int) -> str:
    with desk.by(client) as service:
        return service.release("s", sequence)


def test_permits_are_granted_until_they_are_out_and_then_in_the_order_of_asking() -> None:
    desk = semaphores()
    assert acquire(desk, ANNE, 1, 2) == Claimed("granted", desk.token)
    assert acquire(desk, BERT, 1) == Claimed("granted", desk.token), "the size may be left out"
    assert acquire(desk, CARL, 1).state == acquire(desk, ANNE, 2).state == "waiting"
    assert desk.asked() == []
    assert release(desk, BERT, 1) == "released"
    assert desk.asked() == [(CARL, 1)]
    assert acquire(desk, CARL, 1) == Claimed("granted", desk.token - (1 << 20)), (
        "under the token of the grant"
    )
    assert acquire(desk, ANNE, 2).state == "waiting"
    assert release(desk, BERT, 1) == "unknown", "a copy changes nothing"
    assert acquire(desk, ANNE, 2).state == "waiting"


def test_a_heavy_claim_is_not_passed_by() -> None:
    desk = semaphores()
    acquire(desk, ANNE, 1, 3, 2)
    assert acquire(desk, BERT, 1, 3, 3).state == "waiting"
    assert acquire(desk, CARL, 1, 3, 1).state == "waiting", "there is a permit, but one came before"
    release(desk, ANNE, 1)
    assert desk.asked() == [(BERT, 1)]
    assert release(desk, BERT, 1) == "released"
    assert desk.asked() == [(CARL, 1)]


def test_a_claim_that_waits_is_withdrawn_and_lets_those_behind_it_on() -> None:
    desk = semaphores()
    acquire(desk, ANNE, 1, 3, 2)
    acquire(desk, BERT, 1, 3, 2)
    acquire(desk, CARL, 1, 3, 1)
    assert release(desk, BERT, 1) == "withdrawn"
    assert desk.asked() == [(CARL, 1)]


def test_the_end_of_a_session_frees_and_withdraws_and_grants_nothing_to_the_dead() -> None:
    desk = semaphores()
    for sequence in (1, 2):
        acquire(desk, ANNE, sequence, 2)
    acquire(desk, ANNE, 3)
    acquire(desk, BERT, 1)
    desk.end(ANNE)
    assert desk.asked() == [(BERT, 1)]
    desk.again()
    with desk.by(BERT, reading=True) as service:
        state = service.stat("s")
    assert (state.used, state.waiting, [one.client for one in state.held]) == (1, 0, [BERT])
    release(desk, BERT, 1)
    assert desk.service.rooms == {}
    assert desk.service.clients == {}


def test_the_size_is_changed_by_a_command_and_never_over_granted() -> None:
    desk = semaphores()
    for client in (ANNE, BERT, CARL):
        acquire(desk, client, 1, 3)
    acquire(desk, ANNE, 2)
    with desk.by(ANNE) as service:
        assert service.resize("s", 1).used == 3
    release(desk, ANNE, 1)
    release(desk, BERT, 1)
    assert acquire(desk, ANNE, 2).state == "waiting", "one is out of one"
    with desk.by(ANNE) as service:
        service.resize("s", 2)
    assert desk.asked() == [(ANNE, 2)]
    with pytest.raises(Mismatch, match="the size 2, not 3"):
        acquire(desk, BERT, 2, 3)
    assert acquire(desk, ANNE, 2, 3).state == "granted", "a claim that is known asks under its old size"


def test_a_claim_that_no_longer_fits_is_told_so() -> None:
    desk = semaphores()
    acquire(desk, ANNE, 1, 3)
    acquire(desk, BERT, 1, 3, 3)
    acquire(desk, CARL, 1, 3, 1)
    with desk.by(ANNE) as service:
        service.resize("s", 2)
    assert sorted(desk.asked()) == [(BERT, 1), (CARL, 1)]
    with pytest.raises(TooLarge, match="from 1 to 2 here, not 3"):
        acquire(desk, BERT, 1, None, 3)
    assert acquire(desk, CARL, 1).state == "granted"


def test_a_kept_semaphore_outlives_its_claims_and_none_is_granted_of_zero() -> None:
    desk = semaphores()
    with desk.by(ANNE) as service:
        service.resize("s", 0)
    assert acquire(desk, ANNE, 1).state == "waiting"
    desk.end(ANNE)
    assert "s" in desk.service.rooms
    with desk.by(ANNE) as service:
        assert service.forget("s")
        assert not service.forget("s")
    assert desk.service.rooms == {}


def test_what_exceeds_a_limit_is_refused_and_changes_nothing() -> None:
    desk = Desk[SemaphoreService](Small())
    with pytest.raises(NoSession), desk.by(ANNE, session=False) as service:
        service.acquire("s", 1, 1)
    for name in ("", "x" * (NAME_BYTES_MAX + 1)):
        with pytest.raises(InvalidName):
            acquire(desk, ANNE, 1, 1, name=name)
    with pytest.raises(InvalidName):
        acquire(desk, ANNE, 0, 1)
    with pytest.raises(Mismatch, match="say its size"):
        acquire(desk, ANNE, 1)
    for size, weight in ((0, 1), (1, 2), (1, 0), (1 << 40, 1)):
        with pytest.raises(TooLarge):
            acquire(desk, ANNE, 1, size, weight)
    assert (desk.service.rooms, desk.service.clients) == ({}, {})
    acquire(desk, ANNE, 1, 1)
    acquire(desk, BERT, 1)
    acquire(desk, CARL, 1)
    with pytest.raises(TooMany, match="2 claims wait here"):
        acquire(desk, BERT, 2)
    acquire(desk, ANNE, 2, 5, name="t")
    with pytest.raises(TooMany, match="2 names"):
        acquire(desk, ANNE, 3, 5, name="u")
    acquire(desk, ANNE, 3, 5, name="t")
    with pytest.raises(TooMany, match="3 claims"):
        acquire(desk, ANNE, 4, 5, name="t")


def test_every_claim_is_told_to_ask_when_another_leads() -> None:
    desk = semaphores()
    for client in (ANNE, BERT):
        acquire(desk, client, 1, 1)
    told = [(ANNE, Ask("semaphore", "s", 1)), (BERT, Ask("semaphore", "s", 1))]
    assert list(desk.service.pending_notifications()) == told
    assert list(desk.service.pending_notifications_for({BERT, CARL})) == told[1:]


def lock(desk: Desk[ReadWriteLockService], client: int, sequence: int, mode: Any) -> Claimed:
    with desk.by(client) as service:
        return service.acquire("l", sequence, mode)


def test_a_writer_that_waits_stops_the_readers_behind_it() -> None:
    desk = Desk(ReadWriteLockService())
    assert lock(desk, ANNE, 1, "read").state == lock(desk, BERT, 1, "read").state == "granted"
    assert lock(desk, CARL, 1, "write").state == "waiting"
    assert lock(desk, BERT, 2, "read").state == "waiting"
    for client in (ANNE, BERT):
        with desk.by(client) as service:
            service.release("l", 1)
    assert desk.asked() == [(CARL, 1)]
    assert lock(desk, BERT, 2, "read").state == "waiting"
    assert lock(desk, CARL, 1, "read").state == "granted", "a writer goes on as a reader"
    assert desk.asked() == [(BERT, 2)]
    assert lock(desk, BERT, 2, "read").state == "granted"


def test_a_reader_does_not_become_a_writer() -> None:
    desk = Desk(ReadWriteLockService())
    token = lock(desk, ANNE, 1, "write").token
    assert lock(desk, ANNE, 1, "read") == Claimed("granted", token)
    with pytest.raises(UpgradeRefused, match="release it first"):
        lock(desk, ANNE, 1, "write")
    lock(desk, BERT, 1, "write")
    with pytest.raises(UpgradeRefused):
        lock(desk, BERT, 1, "read")
    with desk.by(ANNE) as service:
        service.release("l", 1)
    with desk.by(BERT, reading=True) as service:
        assert (service.stat("l").used, service.stat("l").waiting) == (READERS_MAX, 0)


class Tangle(RuleBasedStateMachine):
    """Many clients, weights and sizes: the sum is right, nothing is over-granted, the first fits or waits."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = semaphores()
        self.size = 3
        self.order: list[tuple[int, int, int]] = []
        """(client, claim, weight) in the order of asking."""
        with self.desk.by(ANNE) as service:
            service.resize("s", 3)

    @rule(client=st.integers(1, 3), sequence=st.integers(1, 4), weight=st.integers(1, 3))
    def acquire(self, client: int, sequence: int, weight: int) -> None:
        known = [one for one in self.order if one[:2] == (client, sequence)]
        try:
            acquire(self.desk, client, sequence, None, weight)
        except TooLarge:
            assert not known
            assert 0 < self.size < weight
        else:
            self.order += [] if known else [(client, sequence, weight)]

    @rule(client=st.integers(1, 3), sequence=st.integers(1, 4))
    def release(self, client: int, sequence: int) -> None:
        release(self.desk, client, sequence)
        self.order = [one for one in self.order if one[:2] != (client, sequence)]

    @rule(client=st.integers(1, 3))
    def end(self, client: int) -> None:
        self.desk.end(client)
        self.order = [one for one in self.order if one[0] != client]

    @rule(size=st.integers(0, 4))
    def resize(self, size: int) -> None:
        with self.desk.by(ANNE) as service:
            service.resize("s", size)
        waiting = [entry[2] for entry in self.room.line]
        self.size = size
        self.order = [one for one in self.order if one[:2] in waiting or one[:2] in self.room.holders]

    @rule()
    def again(self) -> None:
        self.desk.again()

    @property
    def room(self) -> Any:
        return self.desk.service.rooms["s"]

    @invariant()
    def sums_are_right(self) -> None:
        room = self.room
        granted = [one for one in self.order if one[:2] in room.holders]
        assert set(room.claims) == {one[:2] for one in self.order}
        assert room.used == sum(one[2] for one in granted)
        assert all(room.claims[one[:2]].token for one in granted)
        line = [one for one in self.order if one not in granted]
        assert [entry[2] for entry in room.line] == [one[:2] for one in line], "first come first served"
        if line:
            assert room.used + line[0][2] > room.size, "the first in line would fit"

    @invariant()
    def clients_are_indexed(self) -> None:
        listed = {(client, seq) for client, mine in self.desk.service.clients.items() for _, seq in mine}
        assert listed == {one[:2] for one in self.order}

    @invariant()
    def nothing_is_over_granted(self) -> None:
        room = self.room
        newest = max((room.claims[key].token for key in room.holders), default=0)
        if newest == self.desk.token:
            assert room.used <= room.size


TestTangle = Tangle.TestCase
TestTangle.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
