"""A client's claims without a network: several keepers, one semaphore, and all in the hands of a test."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.services.recipes.desk import Desk
from viewstamp.core.events import Woke
from viewstamp.core.ids import MICROSECONDS_PER_SECOND, Instant
from viewstamp.services.lock_events import Failure
from viewstamp.services.locks import Retry, Revoke
from viewstamp.services.recipes.keeper import DOUBT_PAUSE_US, RELEASE_AGAIN_US, ClaimKeeper
from viewstamp.services.recipes.keeper_events import (
    Answered,
    Call,
    ClaimId,
    Closing,
    Entered,
    Finished,
    Forget,
    KeeperEffect,
    KeeperEvent,
    Leave,
    Left,
    Lost,
    Observed,
    Refused,
    Renew,
    Renewed,
    Request,
    Stands,
    Told,
    Want,
)
from viewstamp.services.recipes.names import Ask, Claimed
from viewstamp.services.recipes.semaphores import SemaphoreService

LIFE_US = 60 * MICROSECONDS_PER_SECOND
ONE = ClaimId(1)
REQUEST = Request("semaphores", "acquire", "release", "s", (1,))
LEASED = Request("queues", "take", "release", "q", (1_000,), lease_us=MICROSECONDS_PER_SECOND)


class Alone:
    """One keeper, whose session lives."""

    def __init__(self, retry_us: int | None = None) -> None:
        self.keeper = ClaimKeeper(retry_us)
        self.now = 0
        self.feed(Observed(7, Instant(LIFE_US)))

    def feed(self, event: KeeperEvent) -> list[KeeperEffect]:
        return self.keeper.step(event, Instant(self.now))

    def want(self, request: Request = REQUEST) -> Call:
        (call,) = self.feed(Want(ONE, request))
        assert isinstance(call, Call)
        return call

    def hold(self, request: Request = REQUEST) -> None:
        (entered,) = self.feed(Answered(self.want(request).call, Claimed("granted", 5)))
        assert entered == Entered(ONE, 5, Claimed("granted", 5))

    def answer(self, effects: list[KeeperEffect], answer: Any) -> list[KeeperEffect]:
        (call,) = [effect for effect in effects if isinstance(effect, Call)]
        return self.feed(Answered(call.call, answer))


def failure(outcome: Any, kind: str = "") -> Failure:
    return Failure(outcome, kind, "because")


def methods(effects: list[KeeperEffect]) -> list[str]:
    return [effect.method for effect in effects if isinstance(effect, Call)]


def test_a_claim_given_up_while_it_is_asked_for_is_given_back_when_that_is_answered() -> None:
    at = Alone()
    call = at.want()
    assert at.feed(Leave(ONE)) == []
    effects = at.feed(Answered(call.call, Claimed("granted", 5)))
    assert methods(effects) == ["release"]
    assert at.answer(effects, "released") == [Left(ONE)]
    assert len(at.keeper) == 0


@pytest.mark.parametrize("outcome", ["unknown", "not_executed"])
def test_a_release_is_repeated_until_it_is_confirmed(outcome: str) -> None:
    at = Alone()
    at.hold()
    effects = at.feed(Leave(ONE))
    for _ in range(3):
        assert at.answer(effects, failure(outcome)) == []
        assert at.keeper.deadline == at.now + RELEASE_AGAIN_US
        at.now += RELEASE_AGAIN_US
        effects = at.feed(Woke())
        assert methods(effects) == ["release"]
    assert at.answer(effects, "released") == [Left(ONE)]


def test_a_grant_that_came_while_the_session_is_in_doubt_is_asked_for_again() -> None:
    at = Alone()
    call = at.want()
    at.now = LIFE_US
    assert at.feed(Answered(call.call, Claimed("granted", 5))) == []
    assert at.keeper.deadline == at.now + DOUBT_PAUSE_US
    at.now += DOUBT_PAUSE_US
    at.feed(Observed(7, Instant(at.now + LIFE_US)))
    assert isinstance(at.answer(at.feed(Woke()), Claimed("granted", 5))[0], Entered)


def test_what_is_held_is_doubtful_until_the_session_is_confirmed_and_lost_with_it() -> None:
    at = Alone()
    at.hold()
    assert at.keeper.deadline == LIFE_US
    at.now = LIFE_US
    assert at.keeper.standing_of(ONE, Instant(at.now)) == "doubtful"
    assert at.feed(Woke()) == [Stands(ONE, "doubtful")]
    assert at.feed(Observed(7, Instant(at.now + 1))) == [Stands(ONE, "held")]
    (lost,) = at.feed(Observed(None, None))
    assert isinstance(lost, Lost)
    assert at.keeper.standing_of(ONE, Instant(at.now)) == "lost"
    assert at.feed(Leave(ONE)) == [Left(ONE)]


def test_a_lease_counts_from_the_question_and_for_nine_tenths() -> None:
    at = Alone()
    call = at.want(LEASED)
    at.now = 300_000
    at.feed(Answered(call.call, Claimed("granted", 5)))
    assert at.keeper.deadline == 900_000
    effects = at.feed(Renew(ONE, LEASED))
    at.now = 800_000
    assert at.answer(effects, Claimed("granted", 5)) == [Renewed(ONE, Claimed("granted", 5))]
    assert at.keeper.deadline == 1_200_000
    at.now = 1_200_000
    assert at.feed(Woke()) == [Stands(ONE, "doubtful")]


def test_a_lease_that_renews_itself_is_asked_for_after_a_third() -> None:
    at = Alone()
    request = Request("registry", "register", "deregister", "s", (), 900_000, renews=True)
    at.hold(request)
    assert at.keeper.deadline == 300_000
    at.now = 300_000
    effects = at.feed(Woke())
    assert methods(effects) == ["acquire"]
    assert at.answer(effects, failure("unknown")) == []
    at.now = 300_000 + RELEASE_AGAIN_US
    effects = at.feed(Woke())
    assert methods(effects) == ["acquire"], "it is tried again, and in doubt meanwhile"
    assert at.keeper.standing_of(ONE, Instant(at.now)) == "doubtful"
    assert at.answer(effects, failure("raised", "Replaced")) == [Lost(ONE, "because", "Replaced")]


def test_a_question_that_is_open_when_the_session_ends_is_given_back() -> None:
    at = Alone()
    at.hold()
    (renewal,) = at.feed(Renew(ONE, REQUEST))
    assert isinstance(renewal, Call)
    (lost,) = at.feed(Observed(8, Instant(LIFE_US)))
    assert isinstance(lost, Lost)
    effects = at.feed(Answered(renewal.call, Claimed("granted", 9)))
    assert methods(effects) == ["release"], "it was executed under the next session"


def test_what_waits_is_asked_for_again_under_the_next_session() -> None:
    at = Alone()
    call = at.want()
    at.feed(Answered(call.call, Claimed("waiting")))
    effects = at.feed(Observed(8, Instant(LIFE_US)))
    assert methods(effects) == ["acquire"]
    at.feed(Observed(9, Instant(LIFE_US)))
    effects = at.answer(effects, Claimed("granted", 5))
    assert methods(effects) == ["acquire"], "that was perhaps granted under a session that is gone"
    assert isinstance(at.answer(effects, Claimed("granted", 6))[0], Entered)


def test_a_notice_makes_it_ask_and_one_that_overtakes_the_answer_too() -> None:
    at = Alone()
    call = at.want()
    assert at.feed(Told(Ask("semaphore", "other", 1))) == []
    assert at.feed(Told(Ask("semaphore", "s", 1))) == []
    effects = at.feed(Answered(call.call, Claimed("waiting")))
    assert methods(effects) == ["acquire"]
    assert at.answer(effects, Claimed("waiting")) == []
    assert at.keeper.deadline is None
    assert at.feed(Told(Revoke("s", 1, 5))) == []
    effects = at.feed(Told(Retry("s", 1, 5, wanted=False)))
    assert methods(effects) == ["acquire"]


def test_refusals_end_a_claim_and_a_late_answer_does() -> None:
    for answer in (failure("raised", "TooMany"), failure("not_executed")):
        at = Alone()
        assert at.feed(Answered(at.want().call, answer)) == [Refused(ONE, answer)]
        assert len(at.keeper) == 0

    class Late:
        state = "late"

    at = Alone()
    (refused,) = at.feed(Answered(at.want().call, Late()))
    assert isinstance(refused, Refused)
    for outcome in ("unknown", "session_expired"):
        assert methods(at.answer(list(at.feed(Want(ClaimId(2), REQUEST))), failure(outcome))) == ["acquire"]
        at.feed(Leave(ClaimId(2)))
        at = Alone()


def test_a_claim_that_the_service_no_longer_knows_is_lost() -> None:
    at = Alone()
    at.hold()
    effects = at.answer(at.feed(Told(Ask("semaphore", "s", 1))), Claimed("waiting"))
    assert [type(effect) for effect in effects] == [Lost]


def test_a_claim_that_is_done_is_forgotten_without_a_release() -> None:
    at = Alone()
    at.hold()
    assert at.feed(Forget(ONE)) == [Left(ONE)]
    at.hold()
    effects = at.feed(Renew(ONE, REQUEST))
    assert at.feed(Forget(ONE)) == []
    assert methods(at.answer(effects, Claimed("granted", 9))) == ["release"]
    assert at.feed(Forget(ClaimId(5))) == []


def test_closing_gives_all_back_and_refuses_what_waits() -> None:
    at = Alone()
    at.hold()
    (call,) = at.feed(Want(ClaimId(2), REQUEST))
    assert isinstance(call, Call)
    effects = at.feed(Closing())
    assert [type(effect) for effect in effects] == [Call, Refused]
    (refused,) = at.feed(Want(ClaimId(3), REQUEST))
    assert isinstance(refused, Refused)
    assert at.answer(effects, "released") == [Left(ONE)]
    effects = at.feed(Answered(call.call, Claimed("waiting")))
    assert at.answer(effects, "withdrawn") == [Left(ClaimId(2)), Finished()]


class Client:
    """A keeper and what is under way to and from it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.keeper = ClaimKeeper(MICROSECONDS_PER_SECOND)
        self.session = number * 1_000
        self.calls: list[tuple[Call, int]] = []
        """Calls that the service has not executed, each with the session under which it was sent."""
        self.answers: list[Answered] = []
        self.notices: list[Ask] = []
        self.wanted: set[ClaimId] = set()
        self.inside: set[ClaimId] = set()
        self.last = 0


class Town(RuleBasedStateMachine):
    """Clients of a semaphore with two permits: those that are certain of a permit are never more than two."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.desk = Desk(SemaphoreService())
        self.clients = [Client(number) for number in (1, 2, 3)]
        self.ended: set[int] = set()
        for client in self.clients:
            self.confirm(client)

    def feed(self, client: Client, event: KeeperEvent) -> None:
        for effect in client.keeper.step(event, Instant(self.now)):
            match effect:
                case Call():
                    client.calls.append((effect, client.session))
                case Entered():
                    client.wanted.remove(effect.claim)
                    client.inside.add(effect.claim)
                case Lost():
                    client.inside.discard(effect.claim)
                case Refused():
                    client.wanted.remove(effect.claim)

    def confirm(self, client: Client) -> None:
        if client.session not in self.ended:
            self.feed(client, Observed(client.session, Instant(self.now + LIFE_US)))

    def deliver(self) -> None:
        for number, notice in self.desk.told:
            assert isinstance(notice, Ask)
            self.clients[number - 1].notices.append(notice)
        self.desk.told.clear()

    clients_ = st.integers(0, 2)

    @rule(who=clients_)
    def want(self, who: int) -> None:
        client = self.clients[who]
        client.last += 1
        client.wanted.add(ClaimId(client.last))
        request = Request("semaphores", "acquire", "release", "s", (2, 1 + client.last % 2))
        self.feed(client, Want(ClaimId(client.last), request))

    @rule(who=clients_, data=st.data())
    def leave(self, who: int, data: st.DataObject) -> None:
        client = self.clients[who]
        mine = sorted(client.wanted | client.inside)
        if mine:
            claim = data.draw(st.sampled_from(mine))
            client.wanted.discard(claim)
            client.inside.discard(claim)
            self.feed(client, Leave(claim))

    @rule(who=clients_, place=st.integers(0, 3))
    def execute(self, who: int, place: int) -> None:
        client = self.clients[who]
        if client.calls:
            self.run_call(client, place % len(client.calls))

    def run_call(self, client: Client, place: int) -> None:
        call, session = client.calls.pop(place)
        answer: Any
        if session in self.ended:
            answer = failure("session_expired")
        else:
            with self.desk.by(client.number) as service:
                if call.method == "acquire":
                    answer = service.acquire("s", int(call.claim), *call.arguments)
                else:
                    answer = service.release("s", int(call.claim))
            self.deliver()
        client.answers.append(Answered(call.call, answer))

    @rule(who=clients_, place=st.integers(0, 3))
    def answer(self, who: int, place: int) -> None:
        client = self.clients[who]
        if client.answers:
            answer = client.answers.pop(place % len(client.answers))
            if isinstance(answer.answer, Failure):
                self.renew_session(client)
            self.feed(client, answer)

    @rule(who=clients_, place=st.integers(0, 3), is_lost=st.booleans())
    def notice(self, who: int, place: int, is_lost: bool) -> None:
        client = self.clients[who]
        if client.notices:
            notice = client.notices.pop(place % len(client.notices))
            if not is_lost:
                self.feed(client, Told(notice))

    @rule(who=clients_)
    def hear(self, who: int) -> None:
        self.confirm(self.clients[who])

    @rule(pause=st.integers(1, LIFE_US))
    def wait(self, pause: int) -> None:
        self.now += pause
        for client in self.clients:
            deadline = client.keeper.deadline
            if deadline is not None and deadline <= self.now:
                self.feed(client, Woke())

    @precondition(lambda self: self.now > LIFE_US)
    @rule(who=clients_)
    def expire(self, who: int) -> None:
        """The service ends a session that has not been heard from for its time to live."""
        client = self.clients[who]
        if not client.keeper.is_sure(Instant(self.now)) and client.session not in self.ended:
            self.ended.add(client.session)
            self.desk.end(client.number)
            self.deliver()

    def renew_session(self, client: Client) -> None:
        if client.session in self.ended:
            client.session += 1
            self.confirm(client)

    @invariant()
    def the_certain_are_never_more_than_the_permits(self) -> None:
        weight = 0
        for client in self.clients:
            for claim in client.inside:
                if client.keeper.standing_of(claim, Instant(self.now)) == "held":
                    weight += 1 + claim % 2
        assert weight <= 2

    def teardown(self) -> None:
        """When all give up and all is answered, nothing is left anywhere: nobody waits as an orphan."""
        for client in self.clients:
            for claim in sorted(client.wanted | client.inside):
                self.feed(client, Leave(claim))
            client.wanted.clear()
            client.inside.clear()
        for _ in range(50):
            for client in self.clients:
                self.renew_session(client)
                while client.calls:
                    self.run_call(client, 0)
                while client.answers:
                    self.answer(client.number - 1, 0)
            self.now += MICROSECONDS_PER_SECOND
            for client in self.clients:
                with suppress(TypeError):
                    if (client.keeper.deadline or 0) <= self.now:
                        self.feed(client, Woke())
        assert [len(client.keeper) for client in self.clients] == [0, 0, 0]
        assert self.desk.service.rooms == {}


TestTown = Town.TestCase
TestTown.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
