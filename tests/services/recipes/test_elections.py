"""Elections as ordinary objects: order, priority, what the elected publishes, who is told."""

import pytest

from tests.services.recipes.desk import ANNE, BERT, CARL, Desk
from viewstamp.services.locks import NoSession
from viewstamp.services.recipes.elections import ElectionService, ElectionState, NotElected
from viewstamp.services.recipes.names import VALUE_BYTES_MAX, Changed, Claimed, TooLarge, TooMany
from viewstamp.services.recipes.watchers import WATCHED_MAX


def desk() -> Desk[ElectionService]:
    return Desk(ElectionService())


def campaign(at: Desk[ElectionService], client: int, priority: int = 0, value: bytes = b"") -> Claimed:
    with at.by(client) as service:
        return service.campaign("e", 1, value, priority, f"client {client}")


def resign(at: Desk[ElectionService], client: int) -> None:
    with at.by(client) as service:
        service.resign("e", 1)


def leader(at: Desk[ElectionService]) -> ElectionState:
    with at.by(0, reading=True) as service:
        return service.leader("e")


def test_the_highest_priority_is_elected_next_and_deposes_nobody() -> None:
    at = desk()
    first = campaign(at, ANNE)
    campaign(at, BERT, 1)
    campaign(at, CARL, 2)
    state = leader(at)
    assert state.leader is not None
    assert (state.leader.client, state.leader.token, state.candidates) == (ANNE, first.token, 2)
    resign(at, ANNE)
    state = leader(at)
    assert state.leader is not None
    assert (state.leader.client, state.leader.token) == (CARL, at.token - (1 << 20))
    at.end(CARL)
    assert at.asked() == [(CARL, 1), (BERT, 1)]
    resign(at, BERT)
    assert leader(at) == ElectionState("e", None, 0)


def test_what_the_elected_publishes_is_written_with_its_token() -> None:
    at = desk()
    token = campaign(at, ANNE, value=b"one").token
    campaign(at, BERT)
    with at.by(ANNE) as service:
        service.proclaim("e", token, b"two")
    for client, other in ((ANNE, token - 1), (BERT, token), (CARL, token)):
        with pytest.raises(NotElected), at.by(client) as service:
            service.proclaim("e", other, b"three")
    with pytest.raises(TooLarge), at.by(ANNE) as service:
        service.proclaim("e", token, b"x" * (VALUE_BYTES_MAX + 1))
    state = leader(at).leader
    assert state is not None
    assert state.value == b"two"
    resign(at, ANNE)
    with pytest.raises(NotElected), at.by(ANNE) as service:
        service.proclaim("e", token, b"late")


def test_those_that_observe_are_told_of_every_change_until_they_end() -> None:
    at = desk()
    with at.by(CARL) as service:
        assert service.observe("e") == ElectionState("e", None, 0)
        service.observe("e")
    told = (CARL, Changed("election", "e"))
    for change in (campaign, resign, campaign, at_end):
        at.told.clear()
        change(at, ANNE)
        assert told in at.told
    at.again()
    assert list(at.service.pending_notifications_for({CARL})) == [told]
    assert told in list(at.service.pending_notifications())
    at.end(CARL)
    at.told.clear()
    campaign(at, ANNE)
    assert told not in at.told
    assert (at.service.watchers, at.service.watched) == ({}, {})


def at_end(at: Desk[ElectionService], client: int) -> None:
    at.end(client)


def test_observers_are_limited_and_may_go() -> None:
    at = desk()
    with pytest.raises(NoSession), at.by(CARL, session=False) as service:
        service.observe("e")
    for number in range(WATCHED_MAX):
        with at.by(CARL) as service:
            service.observe(f"e{number}")
    with pytest.raises(TooMany), at.by(CARL) as service:
        service.observe("e")
    for _ in range(2):
        with at.by(CARL) as service:
            service.ignore("e7")
    with at.by(CARL) as service:
        service.observe("e")
    assert len(at.service.watched[CARL]) == WATCHED_MAX
    assert "e7" not in at.service.watchers
