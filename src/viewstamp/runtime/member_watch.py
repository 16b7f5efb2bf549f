"""Looks after the members twice a second: who they are by the log, and where they are found.

Members whose address nobody told this node are asked for at the others, in their welcomes. Clients hear of
every change, so that they know the members while they live.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from viewstamp.core.ids import NodeId, Viewstamp
from viewstamp.core.protocol import Status
from viewstamp.link.handshake import Welcome
from viewstamp.runtime.address_book import AddressBook
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.last_heard import Diary

INTERVAL_S: Final = 0.5
_ASK_S: Final = 1.0


class Outlet(Protocol):
    """What is told of the members."""

    def members_are(self, members: frozenset[NodeId], at: Viewstamp | None = None) -> None:
        """These take part, by the entry `at`; their addresses may be others than before."""
        ...


Ask = Callable[[Address], Awaitable[Welcome | str]]


class MemberWatch:
    """A task of one server."""

    def __init__(
        self,
        status: Callable[[], Status],
        book: AddressBook,
        outlet: Outlet,
        ask: Ask,
        directory: str | None,
    ) -> None:
        self._status = status
        self._book = book
        self._outlet = outlet
        self._ask = ask
        self._diary = Diary(directory)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Look once."""
        status = self._status()
        self._diary.note(status)
        members = frozenset(status.members) if self._book.is_open else members_of(status)
        missing = [node for node in members if self._book.address_of(node) is None]
        if missing:
            await self._ask_for(missing, members)
        self._outlet.members_are(members, None if self._book.is_open else changed_at(status))
        self._book.save()

    async def _ask_for(self, missing: list[NodeId], members: frozenset[NodeId]) -> None:
        """Ask one member after the other where these are, until all are found or all were asked."""
        for node in sorted(members - {self._book.node, *missing}):
            address = self._book.address_of(node)
            if address is None:
                continue
            try:
                async with asyncio.timeout(_ASK_S):
                    welcome = await self._ask(address)
            except TimeoutError:
                continue
            if isinstance(welcome, Welcome):
                for number, host, port in welcome.members:
                    if number in missing:
                        self._book.learn(NodeId(number), (host, port))
            if all(self._book.address_of(other) is not None for other in missing):
                return


def members_of(status: Status) -> frozenset[NodeId]:
    """Return the members by the log of this node; empty where it does not know them yet."""
    known = status.membership
    if known is None:
        return frozenset()
    return frozenset(node for node, _ in (*known.voters, *known.learners, *known.outgoing))


def changed_at(status: Status) -> Viewstamp | None:
    """Return the entry that says so; None: this node does not know the members yet."""
    return None if status.membership is None else status.membership.changed_at
