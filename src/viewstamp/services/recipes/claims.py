"""Claims: parts of something that has a size, granted in the order of asking, held by sessions.

A semaphore, a read-write lock and an election are all this: a name has a *size*, each claim a *weight*, and
what is granted together weighs no more than the size. The claim that is first in line is granted first: one
that does not fit yet stops those behind it, so that a heavy one is not passed by forever.

Rules of this file:

- a claim is its client's number and one that the client drew; it is in `claims` of its name from the first
  request until it is released, or its session has ended; its token is 0 exactly while it waits;
- `line` holds the waiting claims of a name, highest priority first, then first come first;
- `used` is the sum of the weights of what is granted, and never above `size` but after a reduction: then
  nothing is granted until it is below again;
- a client repeats a request under its number as often as it likes: it is told how things stand. It makes
  one call at a time for each claim, and its session executes each once, so no late copy can come;
- a name without claims is forgotten, unless it was given its size by a command of its own.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, ClassVar, Final

import msgspec

from viewstamp.machine.state_machine import StateMachine
from viewstamp.services.locks import InvalidName, NoSession
from viewstamp.services.recipes.names import (
    WAITING,
    Ask,
    Claimed,
    Key,
    Mismatch,
    Released,
    TooLarge,
    TooMany,
    check,
    check_sequence,
    no_session,
    quoted,
)

SIZE_MAX: Final = 1 << 31
SHOWN_MAX: Final = 100
"""Claims of one name that an answer shows."""


class ClaimLimits(msgspec.Struct, frozen=True):
    """What one service bears. Equal on all members: a refusal is a result like any other."""

    names_max: int = 1_000_000
    claims_per_client_max: int = 10_000
    """Claims of one client that are held or wait."""
    waiting_max: int = 10_000
    """Claims that wait for one name: as many as one command may grant."""


class Claim(msgspec.Struct):
    """A claim of one client."""

    weight: int
    label: str
    priority: int
    arrival: int
    token: int = 0
    since: int = 0
    """Log time of the grant, in microseconds."""
    value: bytes = b""
    """What its client published."""


class Room(msgspec.Struct):
    """A name with its claims."""

    size: int
    kept: bool = False
    """It was given its size by a command, and stays without claims."""
    used: int = 0
    arrivals: int = 0
    claims: dict[Key, Claim] = {}
    line: list[tuple[int, int, Key]] = []
    """(priority below zero, arrival, claim) of those that wait, sorted."""
    holders: dict[Key, None] = {}
    """Those that are granted, in the order of the grants."""
    round: int = 0
    """Of a countdown: the token of the command that began it."""
    reached: int = 0
    """Of a countdown: the token of the command that took it to zero."""


class Held(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A claim that is granted, as it is shown."""

    client: int
    label: str
    weight: int
    token: int
    since: int


class RoomState(msgspec.Struct, frozen=True, array_like=True):
    """A name as it is now: its size, what is granted, the first of the claims that hold it, how many wait."""

    name: str
    size: int
    used: int
    held: list[Held]
    waiting: int


class ClaimService(StateMachine):
    """What the services of claims share. Not a service itself."""

    raises: ClassVar[tuple[type[Exception], ...]] = (InvalidName, NoSession, TooMany, TooLarge, Mismatch)
    """What clients get as these very exceptions."""
    limits: ClassVar[ClaimLimits] = ClaimLimits()
    recipe: ClassVar[str] = ""
    """What its notices are marked with."""
    rooms: dict[str, Room] = {}  # noqa: RUF012  StateMachine copies the default for each instance
    clients: dict[int, dict[tuple[str, int], None]] = {}  # noqa: RUF012
    """Of each client its claims: the name and the number. An index of the rooms."""

    def session_ended(self, client: int) -> None:
        """Withdraw what this client waits for and free what it holds."""
        claims = [(name, (client, sequence)) for name, sequence in self.clients.pop(client, {})]
        held = [one for one in claims if self.rooms[one[0]].claims[one[1]].token]
        gone = dict.fromkeys(held)
        for name, key in [*(one for one in claims if one not in gone), *held]:
            self.drop(name, key)

    def pending_notifications(self) -> Iterable[tuple[int, Any]]:
        """Return a notice for every claim: each client asks again what it may have missed."""
        return self.pending_notifications_for(self.clients)

    def pending_notifications_for(self, clients: Collection[int]) -> Iterator[tuple[int, Any]]:
        """Return a notice for every claim of these clients."""
        for client in sorted(clients):
            for name, sequence in self.clients.get(client, ()):
                yield client, Ask(self.recipe, name, sequence)

    # For the services

    def caller(self, sequence: int) -> Key:
        """Return the claim that the caller means by this number.

        Raises:
            NoSession, InvalidName: see there.
        """
        if not self.context.session:
            raise no_session()
        check_sequence(sequence)
        return self.context.client, sequence

    def room_for(self, name: str, size: int | None) -> Room:
        """Return the room of this name, if need be a new one of this size. It is not yet in `rooms`.

        Raises:
            Mismatch: it has another size, or there is none and no size is given.
            TooMany: there are as many names as may be.
        """
        room = self.rooms.get(name)
        if room is None:
            if size is None:
                raise Mismatch(f"{quoted(name)} does not exist yet: say its size; nothing was changed")
            if len(self.rooms) >= self.limits.names_max:
                raise TooMany(f"{self.limits.names_max} names are in use, as many as may be: try again later")
            return Room(size)
        if size is not None and size != room.size:
            raise Mismatch(
                f"{quoted(name)} has the size {room.size}, not {size}: leave the size out, or resize it first"
            )
        return room

    def claim(self, name: str, key: Key, room: Room, wanted: Claim) -> Claimed:
        """Answer a request: for a claim that is known, how it stands; else let it wait its turn.

        Raises:
            TooLarge: it will never fit.
            TooMany: too many wait, or this client has too many.
        """
        known = room.claims.get(key)
        if known is None:
            self._require(key[0], room, wanted.weight)
            self.rooms[name] = room
            room.arrivals += 1
            wanted.arrival = room.arrivals
            room.claims[key] = known = wanted
            self.clients.setdefault(key[0], {})[name, key[1]] = None
            insort(room.line, (-wanted.priority, wanted.arrival, key))
            self.admit(name, room, but=key)
        return Claimed("granted", known.token) if known.token else WAITING

    def give_back(self, name: str, key: Key) -> Released:
        """Free what a claim holds, or let it wait no more; may be repeated."""
        room = self.rooms.get(name)
        if room is None or key not in room.claims:
            return "unknown"
        held = room.claims[key].token > 0
        mine = self.clients[key[0]]
        del mine[name, key[1]]
        if not mine:
            del self.clients[key[0]]
        self.drop(name, key)
        return "released" if held else "withdrawn"

    def drop(self, name: str, key: Key) -> None:
        """Take a claim out of its room, which the caller has taken out of `clients`."""
        room = self.rooms[name]
        gone = room.claims.pop(key)
        if gone.token:
            self.freed(room, key, gone)
        else:
            del room.line[bisect_left(room.line, (-gone.priority, gone.arrival, key))]
        self.admit(name, room)
        self.tidy(name, room)

    def tidy(self, name: str, room: Room) -> None:
        """Forget a room that nobody uses."""
        if not room.claims and not room.kept:
            self.rooms.pop(name, None)

    def admit(self, name: str, room: Room, but: Key | None = None) -> None:
        """Grant what is first in line, as long as it fits. Tell each client, `but` the one that asks now."""
        context = self.context
        granted = 0
        for _, _, key in room.line:
            claim = room.claims[key]
            if room.used + claim.weight > room.size:
                break
            room.used += claim.weight
            room.holders[key] = None
            claim.token, claim.since = context.token, int(context.now)
            granted += 1
            if key != but:
                context.notify(key[0], Ask(self.recipe, name, key[1]))
        del room.line[:granted]
        if granted:
            self.granted(name)

    def granted(self, name: str) -> None:
        """Something was granted. For services that tell others."""

    def freed(self, room: Room, key: Key, gone: Claim) -> None:
        """Take back what a claim was granted that is no more."""
        room.used -= gone.weight
        del room.holders[key]

    def shown(self, name: str) -> RoomState:
        """Return a name as it is now; one that is not in use has the size 0."""
        room = self.rooms.get(name)
        if room is None:
            return RoomState(name, 0, 0, [], 0)
        first = ((key[0], room.claims[key]) for key in islice(room.holders, SHOWN_MAX))
        held = [Held(client, one.label, one.weight, one.token, one.since) for client, one in first]
        return RoomState(name, room.size, room.used, held, len(room.line))

    def _require(self, client: int, room: Room, weight: int) -> None:
        limits = self.limits
        most = room.size or SIZE_MAX  # with the size 0 all wait
        if not 0 < weight <= most:
            raise TooLarge(f"a claim weighs from 1 to {most} here, not {weight}: nothing was changed")
        if len(self.clients.get(client, ())) >= limits.claims_per_client_max:
            raise TooMany(f"a client may have {limits.claims_per_client_max} claims: give some back first")
        if len(room.line) >= limits.waiting_max:
            raise TooMany(f"{limits.waiting_max} claims wait here, as many as may be: try again later")


def new_claim(name: str, label: str, *, weight: int = 1, priority: int = 0, value: bytes = b"") -> Claim:
    """Return a claim that no room has yet; raise what `check` raises."""
    check(name, label, value)
    return Claim(weight, label, priority, 0, value=value)
