"""A lock service and several caches, with everything between them in the hands of a test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from viewstamp.core.events import Woke
from viewstamp.core.ids import MICROSECONDS_PER_SECOND, Instant
from viewstamp.machine.state_machine import running_at
from viewstamp.services.lock_cache import LockCache
from viewstamp.services.lock_events import (
    Abandoned,
    Answered,
    Ask,
    CacheOptions,
    Closing,
    Enter,
    Failure,
    Finished,
    Flush,
    Flushed,
    Grant,
    Left,
    LockEvent,
    Lost,
    Observed,
    Refused,
    Ticket,
    Told,
    Wanted,
)
from viewstamp.services.locks import LockService, Notice

LIFE_US = 60 * MICROSECONDS_PER_SECOND
NOTICE = msgspec.msgpack.Decoder(Notice)


class Client:
    """One cache and what is under way to and from it."""

    def __init__(self, number: int, options: CacheOptions) -> None:
        self.number = number
        self.cache = LockCache(options)
        self.session = number * 1_000
        self.ended = False
        """The service has ended the session, and the client has not heard of it."""
        self.sent: list[Ask] = []
        """Calls that the service has not executed."""
        self.answers: list[Answered] = []
        """Answers that have not arrived."""
        self.notices: list[Notice] = []
        self.inside: dict[Ticket, Grant] = {}
        self.waiting: dict[Ticket, str] = {}
        self.flushes: list[Grant] = []
        """Hooks that were asked for and have not ended."""
        self.lost: list[tuple[Ticket | None, Grant]] = []
        self.refused: list[tuple[Ticket, Failure]] = []
        self.finished = False


class Town:
    """Time, the service, its clients, and the oracle of mutual exclusion."""

    def __init__(self, clients: int = 3, options: CacheOptions | None = None) -> None:
        self.now = 0
        self.service = LockService()
        self.seqno = 0
        self.messages = 0
        """Calls that clients made so far."""
        self.tokens: dict[str, tuple[int, int]] = {}
        """Of each lock the last grant that was entered under, and whose it was."""
        self.clients = [Client(number, options or CacheOptions()) for number in range(1, clients + 1)]
        self._last_ticket = 0
        for client in self.clients:
            self.confirm(client)

    # One client

    def feed(self, client: Client, event: LockEvent) -> None:
        for effect in client.cache.step(event, Instant(self.now)):
            match effect:
                case Ask():
                    self.messages += 1
                    client.sent.append(effect)
                case Enter():
                    self._entered(client, effect)
                case Lost():
                    client.lost.append((effect.ticket, effect.grant))
                case Refused():
                    client.refused.append((effect.ticket, effect.failure))
                    del client.waiting[effect.ticket]
                case Flush():
                    client.flushes.append(effect.grant)
                case Finished():
                    client.finished = True

    def confirm(self, client: Client) -> None:
        """Let the client hear that its session stands, if it does."""
        if not client.ended:
            self.feed(client, Observed(client.session, Instant(self.now + LIFE_US)))

    def want(self, client: Client, name: str = "a") -> Ticket:
        self._last_ticket += 1
        ticket = Ticket(self._last_ticket)
        client.waiting[ticket] = name
        self.feed(client, Wanted(ticket, name))
        return ticket

    def leave(self, client: Client, ticket: Ticket) -> None:
        del client.inside[ticket]
        self.feed(client, Left(ticket))

    def abandon(self, client: Client, ticket: Ticket) -> None:
        del client.waiting[ticket]
        self.feed(client, Abandoned(ticket))

    def flushed(self, client: Client, place: int = 0) -> None:
        self.feed(client, Flushed(client.flushes.pop(place).name))

    def close(self, client: Client) -> None:
        self.feed(client, Closing())

    def _entered(self, client: Client, effect: Enter) -> None:
        grant = effect.grant
        assert client.waiting.pop(effect.ticket) == grant.name
        client.inside[effect.ticket] = grant
        token, owner = self.tokens.get(grant.name, (0, client.number))
        assert grant.token > token or (grant.token == token and owner == client.number), (grant, token)
        self.tokens[grant.name] = grant.token, client.number

    # Between

    @contextmanager
    def _entry(self, client: int, session: int) -> Iterator[None]:
        self.seqno += 1
        with running_at(
            self.service, seqno=self.seqno, now=self.now, client=client, session=session
        ) as context:
            yield
            for notification in context.take_notifications():
                self.clients[notification.client - 1].notices.append(NOTICE.decode(notification.payload))

    def execute(self, client: Client, place: int = 0) -> None:
        """Let the service execute a call, exactly once; calls may overtake each other."""
        ask = client.sent.pop(place)
        answer: Any
        if client.ended:
            client.answers.append(Answered(ask.ask, Failure("session_expired", "", "no longer known")))
            return
        with self._entry(client.number, client.session):
            try:
                if ask.method == "acquire":
                    answer = self.service.acquire(ask.name, ask.sequence, ask.label)
                else:
                    answer = self.service.release(ask.name, ask.sequence)
            except LockService.raises as error:
                answer = Failure("raised", type(error).__name__, str(error))
        client.answers.append(Answered(ask.ask, answer))

    def answer(self, client: Client, place: int = 0) -> None:
        answered = client.answers.pop(place)
        if client.ended and isinstance(answered.answer, Failure):
            self.notice_expiry(client)
        self.feed(client, answered)

    def tell(self, client: Client, place: int = 0, *, keep: bool = False) -> None:
        notice = client.notices[place]
        if not keep:
            del client.notices[place]
        self.feed(client, Told(notice))

    def reconnect(self, client: Client) -> None:
        """Let a new primary say again what the client may have missed."""
        client.notices += [event for _, event in self.service.pending_notifications_for({client.number})]

    def fail_over(self) -> None:
        """Lose every notification under way; the next primary has the state and nothing else."""
        again = LockService()
        again.restore(b"".join(self.service.snapshot()))
        self.service = again
        for client in self.clients:
            client.notices.clear()
            self.reconnect(client)

    def expire(self, client: Client) -> None:
        """End the session of a client of which the service has heard nothing for the time to live."""
        self.now += LIFE_US
        for other in self.clients:
            if other is not client:
                self.confirm(other)
        with self._entry(0, 0):
            self.service.session_ended(client.number)
        client.ended = True

    def notice_expiry(self, client: Client) -> None:
        """Let the client learn of it: what was told under the old session is dropped, calls end."""
        client.notices.clear()
        self.feed(client, Observed(None, None))
        executed, client.answers = client.answers, []
        client.session += 1
        client.ended = False
        self.confirm(client)
        for answered in executed:
            kind = "session_expired" if answered.ask % 2 else "unknown"
            self.feed(client, Answered(answered.ask, Failure(kind, "", "the session is gone")))  # type: ignore[arg-type]

    def wake(self, client: Client) -> bool:
        """Let time pass to the next deadline of a client."""
        deadline = client.cache.deadline
        if deadline is None:
            return False
        self.now = max(self.now, deadline)
        for each in self.clients:
            self.confirm(each)
        self.feed(client, Woke())
        return True

    # Judging

    def check_exclusion(self) -> None:
        """Of each lock, at most one task may be sure that it has it."""
        sure: dict[str, tuple[int, Ticket]] = {}
        for client in self.clients:
            lost = {ticket for ticket, _ in client.lost}
            if not client.cache.is_sure(Instant(self.now)):
                continue
            for ticket, grant in client.inside.items():
                if ticket in lost:
                    continue
                assert grant.name not in sure, (grant, sure)
                sure[grant.name] = client.number, ticket
                holder = self.service.stat(grant.name).holder
                assert holder is not None, grant
                assert (holder.client, holder.token) == (client.number, grant.token)

    def settle(self) -> None:
        """Deliver all that is under way, without letting anybody leave and without letting time pass."""
        for _ in range(1_000):
            if not self._deliver():
                return
            self.check_exclusion()
        raise AssertionError("messages without end")

    def _deliver(self) -> bool:
        steps: list[tuple[list[Any], Callable[[Client], None]]]
        for client in self.clients:
            steps = [
                (client.sent, self.execute),
                (client.answers, self.answer),
                (client.notices, self.tell),
                (client.flushes, self.flushed),
            ]
            for queue, step in steps:
                if queue:
                    step(client)
                    return True
        return False

    def finish(self, *, resend: bool) -> None:
        """Let everybody get what they wait for, and give all back; fail if a client waits endlessly.

        With `resend` nothing but a change of primary helps those whose notifications were lost.
        """
        for _ in range(2_000):
            self.settle()
            inside = [(client, ticket) for client in self.clients for ticket in client.inside]
            if inside:
                self.leave(*inside[0])
            elif not any(client.waiting for client in self.clients):
                break
            else:
                woken = [self.wake(client) for client in self.clients]
                assert resend or any(woken), "nobody will ever ask again"
                if resend:
                    self.fail_over()
        assert not any(client.waiting for client in self.clients), "a client waits endlessly"
        for client in self.clients:
            self.close(client)
        for _ in range(20):
            self.settle()
            for client in self.clients:
                with suppress(AssertionError):
                    self.wake(client)
        assert all(client.finished for client in self.clients)
        assert len(self.service) == 0
