"""Barriers and countdowns as ordinary objects: generations."""

from typing import ClassVar

import pytest

from tests.services.recipes.desk import ANNE, BERT, CARL, Desk
from viewstamp.services.recipes.barriers import BarrierService
from viewstamp.services.recipes.claims import ClaimLimits
from viewstamp.services.recipes.countdowns import CountdownService, CountdownState, NoCountdown
from viewstamp.services.recipes.names import Claimed, Mismatch, TooLarge


def enter(at: Desk[BarrierService], client: int, sequence: int, parties: int = 2) -> Claimed:
    with at.by(client) as service:
        return service.enter("b", sequence, parties)


def test_all_go_on_together_under_one_token() -> None:
    at = Desk(BarrierService())
    assert enter(at, ANNE, 1).state == "waiting"
    assert enter(at, ANNE, 1).state == "waiting", "one party asks twice"
    assert enter(at, BERT, 1) == Claimed("granted", at.token)
    token = at.token
    assert at.asked() == [(ANNE, 1)]
    assert enter(at, CARL, 1).state == "waiting", "the next round"
    at.again()
    assert enter(at, ANNE, 1) == Claimed("granted", token), "a late party of the last round goes on"
    assert enter(at, BERT, 2).token > token
    assert enter(at, ANNE, 1).token == token


def test_a_party_that_is_gone_is_not_counted() -> None:
    at = Desk(BarrierService())
    enter(at, ANNE, 1)
    at.end(ANNE)
    assert enter(at, BERT, 1).state == "waiting"
    with at.by(BERT) as service:
        assert service.leave("b", 1) == "withdrawn"
    assert enter(at, CARL, 1).state == "waiting"
    at.end(CARL)
    assert at.service.rooms == {}


def test_a_round_has_one_size() -> None:
    class Small(BarrierService):
        limits: ClassVar[ClaimLimits] = ClaimLimits(waiting_max=3)

    at = Desk[BarrierService](Small())
    enter(at, ANNE, 1)
    with pytest.raises(Mismatch, match="waits for 2 parties, not 3"):
        enter(at, BERT, 1, 3)
    for parties in (0, 4):
        with pytest.raises(TooLarge):
            enter(at, BERT, 1, parties)
    enter(at, BERT, 1)
    assert enter(at, CARL, 1, 3).state == "waiting", "those of the last round are still there"
    assert enter(at, ANNE, 1, 2).state == "granted"


def countdown() -> Desk[CountdownService]:
    at = Desk(CountdownService())
    with at.by(ANNE) as service:
        assert service.start("c", 2) == CountdownState("c", at.token, 2, 2, 0)
    return at


def wait(at: Desk[CountdownService], client: int, sequence: int = 1, generation: int = 0) -> Claimed:
    with at.by(client) as service:
        return service.wait("c", sequence, generation)


def test_those_that_wait_go_on_at_zero_and_those_that_come_later_at_once() -> None:
    at = countdown()
    generation = at.token
    assert wait(at, BERT).state == "waiting"
    with at.by(ANNE) as service:
        assert service.arrive("c").left == 1
        assert service.arrive("c", generation).left == 0
    assert at.asked() == [(BERT, 1)]
    token = at.token
    assert wait(at, BERT) == Claimed("granted", token)
    assert wait(at, CARL) == Claimed("granted", token)
    with at.by(ANNE) as service:
        assert service.arrive("c").left == 0, "below zero it does not go"
        assert service.start("c", 2).generation == at.token, "one that is over is begun again"
    assert wait(at, BERT) == Claimed("granted", token), "a late one of the last generation does not hang"
    assert wait(at, CARL, 2).state == "waiting", "and does not let one of the next through"


def test_a_generation_that_is_replaced_says_so() -> None:
    at = countdown()
    old = at.token
    wait(at, BERT)
    with at.by(ANNE) as service:
        assert service.start("c", 2).generation == old, "any of several may start it"
    with pytest.raises(Mismatch), at.by(ANNE) as service:
        service.start("c", 3)
    with at.by(ANNE) as service:
        service.start("c", 3, replace=True)
    assert at.asked() == [(BERT, 1)]
    at.again()
    with pytest.raises(NoCountdown, match="started again"):
        wait(at, BERT)
    assert wait(at, BERT).state == "waiting", "it was told, and may wait for the new one"
    for call in (lambda: wait(at, CARL, 1, old), lambda: arrive(at, old)):
        with pytest.raises(NoCountdown, match="in generation"):
            call()


def arrive(at: Desk[CountdownService], generation: int = 0, times: int = 1) -> None:
    with at.by(ANNE) as service:
        service.arrive("c", generation, times)


def test_what_is_forgotten_is_gone_and_those_that_wait_are_told() -> None:
    at = countdown()
    wait(at, BERT)
    with at.by(ANNE) as service:
        assert service.forget("c")
        assert not service.forget("c")
        assert service.stat("c").generation == 0
    with pytest.raises(NoCountdown, match="no countdown"):
        arrive(at)
    with at.by(ANNE) as service:
        assert service.start("c", 5).left == 5
    with pytest.raises(NoCountdown, match="started again"):
        wait(at, BERT)
    for count in (0, 1 << 40):
        with pytest.raises(TooLarge):
            arrive(at, times=count)
        with pytest.raises(TooLarge), at.by(ANNE) as service:
            service.start("d", count)
    with at.by(ANNE) as service:
        service.forget("c")
    assert at.service.rooms == {}
