"""Scripts of locks for what the tests of the lock service and its cache show only in passing."""

from tests.clients.lock_town import Client, Town
from viewstamp.services.lock_events import CacheOptions, Ticket
from viewstamp.services.locks import Retry

UNASKED = CacheOptions(retry_us=None)


def holding(town: Town, client: Client) -> Ticket:
    ticket = town.want(client)
    town.settle()
    assert ticket in client.inside
    return ticket


def hand_over(town: Town, giver: Client, ticket: Ticket) -> None:
    """Let a client leave and give back, and its release be executed and answered."""
    town.leave(giver, ticket)
    town.execute(giver)
    town.answer(giver)


def test_a_late_copy_of_an_earlier_grant_admits_no_holder() -> None:
    town = Town(2, UNASKED)
    first, second = town.clients
    ticket = holding(town, first)
    waiting = town.want(second)
    town.execute(second)
    town.answer(second)
    town.tell(first)
    hand_over(town, first, ticket)
    (retry,) = second.notices
    assert isinstance(retry, Retry)
    town.tell(second, keep=True)
    back = town.want(first)
    town.execute(first)
    town.answer(first)
    town.tell(second, 1)
    hand_over(town, second, waiting)
    town.tell(first)
    assert list(first.inside) == [back]
    town.want(second)
    town.execute(second)
    town.answer(second)
    assert second.notices == [retry]
    town.tell(second)
    assert second.inside == {}, "it is of the acquisition before"
    town.check_exclusion()
    town.finish(resend=True)


def test_a_grant_says_that_others_wait_already() -> None:
    town = Town(3, UNASKED)
    first, second, third = town.clients
    ticket = holding(town, first)
    waiting = town.want(second)
    last = town.want(third)
    for client in (second, third):
        town.execute(client)
        town.answer(client)
    town.tell(first)
    hand_over(town, first, ticket)
    town.tell(second)
    assert list(second.inside) == [waiting]
    assert second.notices == []
    town.leave(second, waiting)
    town.settle()
    assert list(third.inside) == [last], "without another word to the second"
