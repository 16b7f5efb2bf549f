"""The cache of a lock client: scripts of what may overtake what, and all at random (R23, R28, K02-K04)."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.clients.lock_town import LIFE_US, Client, Town
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import MICROSECONDS_PER_SECOND
from viewstamp.services.lock_cache import TRANSITIONS
from viewstamp.services.lock_events import Answered, CacheOptions, Failure
from viewstamp.services.locks import NAME_BYTES_MAX, Revoke

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "locks.md"
OFF: dict[str, Any] = {"retry_us": None}


def _held(town: Town, client: Client, name: str = "a") -> Any:
    """Let a client acquire a lock that is free; return its ticket."""
    ticket = town.want(client, name)
    town.settle()
    assert ticket in client.inside
    return ticket


def test_nothing_is_sent_when_a_cached_lock_is_wanted_again() -> None:
    town = Town(1)
    (client,) = town.clients
    town.leave(client, _held(town, client))
    assert (town.messages, client.cache.state_of("a")) == (1, "free")
    for _ in range(100):
        ticket = town.want(client)
        assert ticket in client.inside, "at once"
        town.leave(client, ticket)
    assert town.messages == 1


def test_tasks_of_one_process_get_the_lock_in_the_order_of_asking() -> None:
    town = Town(1)
    (client,) = town.clients
    tickets = [town.want(client) for _ in range(5)]
    town.settle()
    for ticket in tickets:
        assert list(client.inside) == [ticket]
        town.leave(client, ticket)
    assert town.messages == 1


def test_a_revoked_lock_goes_back_when_the_task_leaves() -> None:
    town = Town(2)
    first, second = town.clients
    ticket = _held(town, first)
    late = town.want(first)
    waiting = town.want(second)
    town.settle()
    assert (list(first.inside), list(second.inside)) == ([ticket], [])
    town.leave(first, ticket)
    town.settle()
    assert list(second.inside) == [waiting], "the others come first, although this client waits"
    town.leave(second, waiting)
    town.settle()
    assert list(first.inside) == [late]


def test_a_free_lock_goes_back_at_once_when_it_is_revoked() -> None:
    town = Town(2)
    first, second = town.clients
    town.leave(first, _held(town, first))
    _held(town, second)
    assert first.cache.state_of("a") == "none"


def test_a_revoke_is_not_forgotten_when_it_arrives_before_the_grant() -> None:
    town = Town(2)
    first, second = town.clients
    ticket = town.want(first)
    town.execute(first)
    waiting = town.want(second)
    town.execute(second)
    town.tell(first)
    assert first.inside == {}
    town.answer(first)
    town.leave(first, ticket)
    town.settle()
    assert list(second.inside) == [waiting]


def test_a_retry_counts_when_it_arrives_before_the_answer() -> None:
    town = Town(2, CacheOptions(**OFF))
    first, second = town.clients
    ticket = _held(town, first)
    waiting = town.want(second)
    town.execute(second)
    town.tell(first)
    town.leave(first, ticket)
    town.execute(first)
    town.tell(second)
    assert list(second.inside) == [waiting]
    town.answer(second)
    assert second.cache.state_of("a") == "locked", "the late answer 'waiting' is ignored"
    assert second.cache.deadline is None
    town.finish(resend=True)


def test_a_question_that_is_older_than_the_grant_is_asked_again_in_doubt() -> None:
    town = Town(2)
    first, second = town.clients
    ticket = _held(town, first)
    waiting = town.want(second)
    town.execute(second)
    town.tell(first)
    town.leave(first, ticket)
    town.execute(first)
    town.tell(second)
    town.want(second)
    town.now += LIFE_US
    town.leave(second, waiting)
    assert second.cache.state_of("a") == "acquiring"
    town.answer(second)
    assert [ask.method for ask in second.sent] == ["acquire"]
    town.settle()
    assert second.inside == {}, "an answer proves what was, not what is"
    town.confirm(second)
    assert len(second.inside) == 1


def test_late_and_doubled_revokes_are_ignored() -> None:
    town = Town(2)
    first, second = town.clients
    ticket = _held(town, first)
    town.want(second)
    town.execute(second)
    (revoke,) = first.notices
    assert isinstance(revoke, Revoke)
    town.tell(first, keep=True)
    town.tell(first, keep=True)
    town.leave(first, ticket)
    assert len(first.sent) == 1
    town.tell(first, keep=True)
    town.execute(first)
    town.answer(first)
    town.tell(first, keep=True)
    assert not first.sent
    town.want(first)
    town.tell(first)
    assert [ask.method for ask in first.sent] == ["acquire"]
    town.finish(resend=False)


def test_a_waiting_client_asks_again_when_it_hears_nothing() -> None:
    town = Town(2)
    first, second = town.clients
    _held(town, first)
    town.want(second)
    town.execute(second)
    town.answer(second)
    first.notices.clear()
    assert second.cache.deadline == 3 * MICROSECONDS_PER_SECOND
    assert town.wake(second)
    assert [(ask.method, ask.sequence) for ask in second.sent] == [("acquire", 1)], "under the same number"
    assert not second.cache.deadline, "one question at a time"
    town.execute(second)
    assert len(first.notices) == 1, "and the holder is told once more"


def test_a_waiting_client_relies_on_being_told_when_it_may_not_ask_again() -> None:
    town = Town(2, CacheOptions(**OFF))
    first, second = town.clients
    ticket = _held(town, first)
    waiting = town.want(second)
    town.settle()
    assert second.cache.deadline is None
    town.leave(first, ticket)
    town.execute(first)
    second.notices.clear()
    assert second.inside == {}
    town.fail_over()
    town.settle()
    assert list(second.inside) == [waiting]


def test_a_client_withdraws_when_nobody_waits_any_more() -> None:
    town = Town(2)
    first, second = town.clients
    _held(town, first)
    one, other = town.want(second), town.want(second)
    town.settle()
    town.abandon(second, one)
    assert town.service.stat("a").waiters == 1
    town.abandon(second, other)
    town.settle()
    assert (town.service.stat("a").waiters, len(second.cache)) == (0, 0)


def test_a_lock_is_kept_when_nobody_waits_for_the_grant_any_more() -> None:
    town = Town(2)
    first, second = town.clients
    town.abandon(first, town.want(first))
    town.settle()
    assert first.cache.state_of("a") == "free"
    _held(town, second)


def test_a_client_that_gives_up_while_it_is_told_withdraws_properly() -> None:
    town = Town(2)
    first, second = town.clients
    ticket = _held(town, first)
    waiting = town.want(second)
    town.settle()
    town.leave(first, ticket)
    town.execute(first)
    town.abandon(second, waiting)
    town.want(second)
    town.tell(second)
    town.settle()
    assert len(second.inside) == 1
    town.finish(resend=True)


def test_the_hook_runs_before_a_lock_goes_back_and_only_then() -> None:
    town = Town(2, CacheOptions(hooked=True))
    first, second = town.clients
    ticket = _held(town, first)
    grant = first.inside[ticket]
    town.leave(first, ticket)
    assert first.flushes == []
    waiting = town.want(second)
    town.execute(second)
    town.answer(second)
    town.tell(first)
    assert (first.flushes, first.sent) == ([grant], [])
    town.flushed(first)
    assert [ask.method for ask in first.sent] == ["release"]
    town.abandon(second, waiting)
    town.settle()
    assert second.flushes == [], "nothing to do for a lock that was never held"


def test_whoever_is_inside_is_told_when_the_session_is_gone() -> None:
    town = Town(2)
    first, second = town.clients
    ticket = _held(town, first)
    town.leave(first, _held(town, first, "cached"))
    waiting = town.want(second)
    town.settle()
    town.expire(first)
    town.settle()
    assert list(second.inside) == [waiting]
    assert (ticket in first.inside, first.lost) == (True, [])
    town.notice_expiry(first)
    assert [(lost, grant.name) for lost, grant in first.lost] == [(ticket, "a"), (None, "cached")]
    again = town.want(first)
    assert first.sent == [], "the task of the lost lock is still inside"
    town.leave(first, ticket)
    town.settle()
    assert list(first.waiting) == [again]
    town.leave(second, waiting)
    town.settle()
    assert list(first.inside) == [again]


def test_nothing_is_given_out_of_the_cache_when_the_session_is_in_doubt() -> None:
    town = Town(2)
    first, second = town.clients
    ticket = _held(town, first)
    token = first.inside[ticket].token
    town.leave(first, ticket)
    town.now += LIFE_US
    asked = town.want(first)
    assert (first.inside, [ask.sequence for ask in first.sent]) == ({}, [1])
    town.settle()
    assert town.wake(first)
    town.settle()
    assert first.inside[asked].token == token, "it was still held"
    town.leave(first, asked)
    town.expire(first)
    _held(town, second)
    waiting = town.want(first)
    town.notice_expiry(first)
    town.settle()
    assert list(first.waiting) == [waiting]


@pytest.mark.parametrize("outcome", ["unknown", "session_expired"])
def test_a_question_is_asked_again_when_nobody_knows_how_it_ended(outcome: Any) -> None:
    town = Town(1)
    (client,) = town.clients
    town.want(client)
    ask = client.sent.pop()
    town.feed(client, Answered(ask.ask, Failure(outcome, "", "gone")))
    town.settle()
    assert len(client.inside) == 1


def test_a_cached_lock_is_lost_when_a_question_for_it_ended_with_its_session() -> None:
    town = Town(1)
    (client,) = town.clients
    town.leave(client, _held(town, client))
    town.now += LIFE_US
    town.want(client)
    ask = client.sent.pop()
    town.feed(client, Answered(ask.ask, Failure("session_expired", "", "gone")))
    assert [(lost, grant.sequence) for lost, grant in client.lost] == [(None, 1)]


@pytest.mark.parametrize("outcome", ["unknown", "not_executed"])
def test_a_release_is_repeated_when_nobody_knows_how_it_ended(outcome: Any) -> None:
    town = Town(2)
    first, second = town.clients
    town.leave(first, _held(town, first))
    town.want(second)
    town.execute(second)
    town.tell(first)
    ask = first.sent.pop()
    town.feed(first, Answered(ask.ask, Failure(outcome, "", "gone")))
    assert first.cache.deadline == MICROSECONDS_PER_SECOND
    town.wake(first)
    town.settle()
    assert len(second.inside) == 1


def test_everybody_who_waits_is_refused_when_the_service_refuses() -> None:
    town = Town(1)
    (client,) = town.clients
    name = "x" * (NAME_BYTES_MAX + 1)
    tickets = [town.want(client, name), town.want(client, name)]
    town.settle()
    assert [ticket for ticket, _ in client.refused] == tickets
    assert client.refused[0][1].kind == "InvalidName"
    assert (len(client.cache), client.inside) == (0, {})


def test_all_goes_back_when_the_cache_is_closed() -> None:
    town = Town(2)
    first, second = town.clients
    used = _held(town, first, "used")
    town.leave(first, _held(town, first, "free"))
    _held(town, second, "wanted")
    town.want(first, "wanted")
    town.settle()
    town.want(first, "asked")
    town.close(first)
    town.settle()
    assert not first.finished
    assert [town.service.stat(name).holder is None for name in ("used", "free", "asked")] == [
        False,
        True,
        True,
    ]
    assert town.service.stat("wanted").waiters == 0
    assert len(first.refused) == 2
    town.want(first, "more")
    assert len(first.refused) == 3
    town.leave(first, used)
    town.settle()
    assert first.finished


def test_a_closed_cache_is_finished_when_it_has_nothing() -> None:
    town = Town(1)
    town.close(town.clients[0])
    assert town.clients[0].finished


def test_a_setting_is_refused_when_it_makes_no_sense() -> None:
    with pytest.raises(ConfigurationError):
        CacheOptions(retry_us=0)


def test_every_state_can_be_left_and_reached() -> None:
    assert set(TRANSITIONS) == {state for targets in TRANSITIONS.values() for state in targets}


def test_the_reference_shows_the_transitions_as_they_are() -> None:
    shown = {}
    for line in REFERENCE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in TRANSITIONS:
            shown[cells[0]] = tuple(cells[1].split(", "))
    assert shown == TRANSITIONS


class Random(RuleBasedStateMachine):
    """Anything in any order; nothing but mutual exclusion, order of tokens, and that all ends well."""

    options = CacheOptions()
    resend = False

    def __init__(self) -> None:
        super().__init__()
        self.town = Town(3, self.options)

    def pick(self, number: int, attribute: str) -> tuple[Client, int] | None:
        """Return a client that has some of these, and the place of one of them."""
        candidates = [client for client in self.town.clients if getattr(client, attribute)]
        if not candidates:
            return None
        client = candidates[number % len(candidates)]
        return client, number % len(getattr(client, attribute))

    @rule(client=st.integers(0, 2), name=st.sampled_from("aab"))
    def want(self, client: int, name: str) -> None:
        if len(self.town.clients[client].waiting) < 4:
            self.town.want(self.town.clients[client], name)

    @rule(number=st.integers(0, 50))
    def leave(self, number: int) -> None:
        if picked := self.pick(number, "inside"):
            self.town.leave(picked[0], list(picked[0].inside)[picked[1]])

    @rule(number=st.integers(0, 50))
    def abandon(self, number: int) -> None:
        if picked := self.pick(number, "waiting"):
            self.town.abandon(picked[0], list(picked[0].waiting)[picked[1]])

    @rule(number=st.integers(0, 50))
    def execute(self, number: int) -> None:
        if picked := self.pick(number, "sent"):
            self.town.execute(*picked)

    @rule(number=st.integers(0, 50))
    def execute_more(self, number: int) -> None:
        self.execute(number)

    @rule(number=st.integers(0, 50))
    def answer(self, number: int) -> None:
        if picked := self.pick(number, "answers"):
            self.town.answer(*picked)

    @rule(number=st.integers(0, 50))
    def flushed(self, number: int) -> None:
        if picked := self.pick(number, "flushes"):
            self.town.flushed(*picked)

    @rule(number=st.integers(0, 50), keep=st.booleans())
    def tell(self, number: int, keep: bool) -> None:
        if picked := self.pick(number, "notices"):
            self.town.tell(*picked, keep=keep)

    @rule(number=st.integers(0, 50))
    def lose(self, number: int) -> None:
        if picked := self.pick(number, "notices"):
            del picked[0].notices[picked[1]]

    @rule()
    def fail_over(self) -> None:
        self.town.fail_over()

    @rule(client=st.integers(0, 2), at_once=st.booleans())
    def expire(self, client: int, at_once: bool) -> None:
        chosen = self.town.clients[client]
        if chosen.cache.is_sure(self.town.now):  # type: ignore[arg-type]
            self.town.expire(chosen)
            if at_once:
                self.town.notice_expiry(chosen)

    @rule(client=st.integers(0, 2))
    def notice_expiry(self, client: int) -> None:
        chosen = self.town.clients[client]
        if not chosen.cache.is_sure(self.town.now):  # type: ignore[arg-type]
            self.town.notice_expiry(chosen)

    @invariant()
    def one_task_at_most_is_sure(self) -> None:
        self.town.check_exclusion()

    @invariant()
    def one_question_at_a_time(self) -> None:
        for client in self.town.clients:
            under_way = [ask.name for ask in client.sent]
            assert len(under_way) == len(set(under_way))

    def teardown(self) -> None:
        for client in self.town.clients:
            if not client.cache.is_sure(self.town.now):  # type: ignore[arg-type]
                self.town.notice_expiry(client)
        self.town.finish(resend=self.resend)


class Resent(Random):
    """The same without the backstop: re-sent notifications alone must do."""

    options = CacheOptions(retry_us=None, hooked=True)
    resend = True


_SETTINGS = settings(
    max_examples=50,
    stateful_step_count=40,
    phases=[Phase.generate, Phase.shrink],
)
TestRandom = pytest.mark.slow(Random.TestCase)
TestRandom.settings = _SETTINGS
TestResent = pytest.mark.slow(Resent.TestCase)
TestResent.settings = _SETTINGS
