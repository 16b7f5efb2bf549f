"""Elections: one of the candidates of a name is elected, the one with the highest priority that came first.

It stays elected until it resigns or its session ends; a candidate of higher priority does not depose it.
What it publishes is written with its token, so that nobody reads the word of one that was deposed.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Any, ClassVar, Final

import msgspec

from viewstamp.machine.state_machine import command, query
from viewstamp.services.recipes.claims import Claim, ClaimLimits, ClaimService, new_claim
from viewstamp.services.recipes.names import Claimed, Released, check, quoted
from viewstamp.services.recipes.watchers import Watched

PRIORITY_MAX: Final = 1 << 31


class NotElected(Exception):
    """The caller is not elected under this token. Nothing was changed."""


class Leader(msgspec.Struct, frozen=True, array_like=True):
    """The elected of a name."""

    client: int
    label: str
    token: int
    """Fencing token of its term: higher than that of all terms before it."""
    value: bytes
    """What it publishes, such as where it is found."""
    since: int
    """Log time of its election, in microseconds."""


class ElectionState(msgspec.Struct, frozen=True, array_like=True):
    """An election as it is now."""

    name: str
    leader: Leader | None
    candidates: int
    """Those that wait."""


class ElectionService(ClaimService, Watched):
    """Named elections. A session's end resigns."""

    recipe: ClassVar[str] = "election"
    limits: ClassVar[ClaimLimits] = ClaimLimits(claims_per_client_max=1_000)  # each may have a value
    raises: ClassVar[tuple[type[Exception], ...]] = (*ClaimService.raises, NotElected)

    @command(keys=("name",))
    def campaign(
        self, name: str, sequence: int, value: bytes = b"", priority: int = 0, label: str = ""
    ) -> Claimed:
        """Stand for election under a number of the caller's choosing, new for each claim.

        The same number again asks how things stand. Granted: the caller is elected.

        Raises:
            InvalidName, NoSession, TooMany, TooLarge: see there.
        """
        key = self.caller(sequence)
        priority = max(-PRIORITY_MAX, min(priority, PRIORITY_MAX))
        wanted = new_claim(name, label, priority=priority, value=value)
        return self.claim(name, key, self.room_for(name, 1), wanted)

    @command(keys=("name",), frees=True)
    def resign(self, name: str, sequence: int) -> Released:
        """Give up being elected, or standing for it. May be repeated."""
        return self.give_back(name, self.caller(sequence))

    @command(keys=("name",))
    def proclaim(self, name: str, token: int, value: bytes) -> None:
        """Publish something else, as the elected under this token.

        Raises:
            NotElected: another one is elected, or nobody.
            TooLarge: the value is too long.
        """
        check(name, "", value)
        elected = self._elected(name)
        if elected is None or elected[0] != self.context.client or elected[1].token != token:
            raise NotElected(f"the caller is not elected in {quoted(name)} under this token")
        elected[1].value = value
        self.tell(name)

    @command(keys=("name",))
    def observe(self, name: str) -> ElectionState:
        """Return who is elected, and from now on tell the caller's session when that changes.

        Raises:
            InvalidName, NoSession, TooMany: see there.
        """
        self.watch(name)
        return self.leader(name)

    @command(keys=("name",), frees=True)
    def ignore(self, name: str) -> None:
        """Tell the caller no more. May be repeated."""
        self.unwatch(name)

    @query(keys=("name",))
    def leader(self, name: str) -> ElectionState:
        """Return who is elected, and how many wait."""
        elected = self._elected(name)
        if elected is None:
            return ElectionState(name, None, 0)
        client, claim = elected
        shown = Leader(client, claim.label, claim.token, claim.value, claim.since)
        return ElectionState(name, shown, len(self.rooms[name].line))

    def session_ended(self, client: int) -> None:
        """Resign for this client, and tell it no more."""
        self.watcher_ended(client)
        super().session_ended(client)

    def pending_notifications(self) -> Iterable[tuple[int, Any]]:
        """Return what every client may have missed."""
        return self.pending_notifications_for({**self.clients, **self.watched})

    def pending_notifications_for(self, clients: Collection[int]) -> Iterator[tuple[int, Any]]:
        """Return what these clients may have missed."""
        return chain(super().pending_notifications_for(clients), self.untold(clients))

    def granted(self, name: str) -> None:
        """Tell those that observe that another one is elected."""
        self.tell(name)

    def tidy(self, name: str, room: Any) -> None:
        """Tell those that observe that nobody is elected."""
        if not room.claims:
            self.tell(name)
        super().tidy(name, room)

    def _elected(self, name: str) -> tuple[int, Claim] | None:
        """Return the client that is elected and its claim."""
        room = self.rooms.get(name)
        if room is None or not room.holders:
            return None
        key = next(iter(room.holders))
        return key[0], room.claims[key]
