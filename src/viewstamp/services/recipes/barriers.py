"""Barriers: a number of parties wait for each other, then all go on. By generation.

The parties of a round get one token, that of the command which completed it. A claim of a completed round
stays until it is released, so that a party which hears late is still told that it may go on; those that come
meanwhile are of the next round.
"""

from typing import ClassVar

from viewstamp.machine.state_machine import command, query
from viewstamp.services.recipes.claims import Claim, ClaimService, Room, RoomState, new_claim
from viewstamp.services.recipes.names import Ask, Claimed, Key, Mismatch, Released, TooLarge, quoted


class BarrierService(ClaimService):
    """Named barriers. A party whose session ends while it waits is counted no more."""

    recipe: ClassVar[str] = "barrier"

    @command(keys=("name",))
    def enter(self, name: str, sequence: int, parties: int, label: str = "") -> Claimed:
        """Wait for the others under a number of the caller's choosing, new for each claim.

        The same number again asks how things stand. Granted: the round is complete; its token is the same for
        all its parties, and higher than that of all rounds of this barrier before.

        Raises:
            Mismatch: those that wait are of a round of another size.
            InvalidName, NoSession, TooMany, TooLarge: see there.
        """
        key = self.caller(sequence)
        wanted = new_claim(name, label)
        if not 0 < parties <= self.limits.waiting_max:
            raise TooLarge(f"a barrier has from 1 to {self.limits.waiting_max} parties, not {parties}")
        room = self.room_for(name, self.rooms[name].size if name in self.rooms else parties)
        if key not in room.claims and room.size != parties:
            if room.line:
                raise Mismatch(f"{quoted(name)} waits for {room.size} parties, not {parties}")
            room.size = parties
        return self.claim(name, key, room, wanted)

    @command(keys=("name",), frees=True)
    def leave(self, name: str, sequence: int) -> Released:
        """Wait no more, or be done with a round. May be repeated."""
        return self.give_back(name, self.caller(sequence))

    @query(keys=("name",))
    def stat(self, name: str) -> RoomState:
        """Return how many parties there are and how many wait."""
        return self.shown(name)

    def admit(self, name: str, room: Room, but: Key | None = None) -> None:
        """Let all go on if they are enough."""
        if len(room.line) < room.size:
            return
        for _, _, key in room.line:
            claim = room.claims[key]
            claim.token, claim.since = self.context.token, int(self.context.now)
            if key != but:
                self.context.notify(key[0], Ask(self.recipe, name, key[1]))
        room.line.clear()

    def freed(self, room: Room, key: Key, gone: Claim) -> None:
        """A party that went on takes up no room."""
