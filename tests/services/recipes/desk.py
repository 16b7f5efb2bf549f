"""A service that commands reach one after the other, each as an entry of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import msgspec

from viewstamp.machine.state_machine import StateMachine, running_at
from viewstamp.services.recipes.claim_wire import Notice

ANNE, BERT, CARL = 1, 2, 3
NOTICE = msgspec.msgpack.Decoder(Notice)
S = TypeVar("S", bound=StateMachine)


class Desk(Generic[S]):
    """`with desk.by(client) as service: service.method(...)` is one entry."""

    def __init__(self, service: S) -> None:
        self.service = service
        self.seqno = 0
        self.now = 0
        self.told: list[tuple[int, Notice]] = []
        """Notifications since the last look."""

    @contextmanager
    def by(self, client: int, *, session: bool = True, reading: bool = False) -> Iterator[S]:
        self.seqno += 1
        number = 100 + client if client and session else 0
        with running_at(
            self.service, seqno=self.seqno, now=self.now, client=client, session=number, reading=reading
        ) as context:
            yield self.service
            self.told += [(n.client, NOTICE.decode(n.payload)) for n in context.take_notifications()]

    def end(self, client: int) -> None:
        """The session of a client ends."""
        with self.by(0):
            self.service.session_ended(client)

    def alarms(self) -> int:
        """Let all alarms ring that are due, as the replica does; return how many there were."""
        rang = 0
        while (moment := self.service.next_alarm()) is not None and moment <= self.now:
            with self.by(0):
                self.service.alarm()
            rang += 1
        return rang

    def asked(self) -> list[tuple[int, int]]:
        """Return the clients and claims that were told to ask again since the last look."""
        told, self.told = self.told, []
        return [(client, notice.sequence) for client, notice in told if hasattr(notice, "sequence")]

    @property
    def token(self) -> int:
        """That of the last command."""
        return self.seqno << 20

    def again(self) -> None:
        """Go on with a copy made of the snapshot."""
        taken = self.service.snapshot()
        fresh = type(self.service)()
        fresh.restore(taken if isinstance(taken, bytes) else b"".join(taken))
        assert _bytes(fresh) == _bytes(self.service)
        self.service = fresh


def _bytes(service: Any) -> bytes:
    taken = service.snapshot()
    return taken if isinstance(taken, bytes) else b"".join(taken)
