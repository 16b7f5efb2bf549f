"""Countdowns: wait until a number of things have happened. By generation.

A countdown is started with a number, arrivals take it down, and at zero all that wait are let through. To
start it again begins a new generation: those that wait for one that never came to zero are told so.
"""

from typing import ClassVar, Final

import msgspec

from viewstamp.machine.state_machine import command, query
from viewstamp.services.recipes.claims import SIZE_MAX, Claim, ClaimService, Room, new_claim
from viewstamp.services.recipes.names import Ask, Claimed, Key, Mismatch, Released, TooLarge, check, quoted

_REPLACED: Final = -1
"""Token of a claim whose generation was replaced before it came to zero."""


class NoCountdown(Exception):
    """There is no such countdown, or not in this generation. Nothing was changed."""


class CountdownState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A countdown as it is now."""

    name: str
    generation: int
    """0: there is none."""
    count: int
    """What it began with."""
    left: int
    """What is missing; 0: all that wait are let through."""
    waiting: int


class CountdownService(ClaimService):
    """Named countdowns. The claims of a session that ended wait no more; what arrived stays."""

    recipe: ClassVar[str] = "countdown"
    raises: ClassVar[tuple[type[Exception], ...]] = (*ClaimService.raises, NoCountdown)

    @command(keys=("name",))
    def start(self, name: str, count: int, replace: bool = False) -> CountdownState:  # noqa: FBT001, FBT002
        """Begin a countdown; with `replace` also where one is under way.

        Where one of this count is under way it is the one: any of several processes may start it.

        Raises:
            Mismatch: one of another count is under way.
            InvalidName, TooMany, TooLarge: see there.
        """
        check(name)
        if not 0 < count <= SIZE_MAX:
            raise TooLarge(f"a countdown begins with 1 to {SIZE_MAX}, not {count}: nothing was changed")
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = self.room_for(name, count)
        elif room.round and room.used < room.size and not replace:
            if room.size != count:
                raise Mismatch(
                    f"{quoted(name)} counts down from {room.size}, not {count}: nothing was changed"
                )
            return self.stat(name)
        self._end(name, room, _REPLACED)
        room.size, room.used, room.kept, room.round = count, 0, True, self.context.token
        return self.stat(name)

    @command(keys=("name",))
    def arrive(self, name: str, generation: int = 0, times: int = 1) -> CountdownState:
        """Count down by `times`; of this generation, or with 0 of whichever is the present one.

        Raises:
            NoCountdown: there is none, or it is of another generation.
            TooLarge: `times` is below 1.
        """
        room = self._room(name, generation)
        if not 0 < times <= SIZE_MAX:
            raise TooLarge(f"a countdown goes down by 1 to {SIZE_MAX}, not by {times}: nothing was changed")
        if room.used < room.size:
            room.used = min(room.used + times, room.size)
            if room.used == room.size:
                room.reached = self.context.token
                self._end(name, room, room.reached)
        return self.stat(name)

    @command(keys=("name",))
    def wait(self, name: str, sequence: int, generation: int = 0, label: str = "") -> Claimed:
        """Wait for zero, under a number of the caller's choosing, new for each claim.

        The same number again asks how things stand. Granted: it came to zero.

        Raises:
            NoCountdown: there is none, or it is of another generation, or was replaced before zero.
            InvalidName, NoSession, TooMany: see there.
        """
        key = self.caller(sequence)
        wanted = new_claim(name, label)
        known = self.rooms[name].claims.get(key) if name in self.rooms else None
        if known is not None and known.token == _REPLACED:
            self.give_back(name, key)
            # viewstamp: allow VS013 the claim is over, and its client is told so
            raise NoCountdown(f"{quoted(name)} was started again before it came to zero")
        room = self.rooms[name] if known is not None else self._room(name, generation)
        return self.claim(name, key, room, wanted)

    @command(keys=("name",), frees=True)
    def leave(self, name: str, sequence: int) -> Released:
        """Wait no more, or be done. May be repeated."""
        return self.give_back(name, self.caller(sequence))

    @command(keys=("name",), frees=True)
    def forget(self, name: str) -> bool:
        """Remove a countdown; return whether there was one. Those that wait are told."""
        room = self.rooms.get(name)
        if room is None or not room.kept:
            return False
        self._end(name, room, _REPLACED)
        room.kept, room.round, room.used = False, 0, 0
        self.tidy(name, room)
        return True

    @query(keys=("name",))
    def stat(self, name: str) -> CountdownState:
        """Return how far it is; one that does not exist has the generation 0."""
        room = self.rooms.get(name)
        if room is None or not room.round:
            return CountdownState(name, 0, 0, 0, 0)
        return CountdownState(name, room.round, room.size, room.size - room.used, len(room.line))

    def admit(self, name: str, room: Room, but: Key | None = None) -> None:
        """Let a claim through that comes after zero."""
        if room.round and room.used == room.size:
            self._end(name, room, room.reached, but)

    def freed(self, room: Room, key: Key, gone: Claim) -> None:
        """A claim that was let through takes up no room."""

    def _room(self, name: str, generation: int) -> Room:
        room = self.rooms.get(name)
        if room is None or not room.round:
            raise NoCountdown(f"there is no countdown {quoted(name)}: start it first")
        if generation not in {0, room.round}:
            raise NoCountdown(f"{quoted(name)} is in generation {room.round}, not {generation}")
        return room

    def _end(self, name: str, room: Room, token: int, but: Key | None = None) -> None:
        """Let all that wait go on, or tell them that they wait in vain."""
        for _, _, key in room.line:
            claim = room.claims[key]
            claim.token, claim.since = token, int(self.context.now)
            if key != but:
                self.context.notify(key[0], Ask(self.recipe, name, key[1]))
        room.line.clear()
