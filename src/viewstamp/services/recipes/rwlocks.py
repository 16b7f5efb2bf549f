"""Read-write locks: any number of readers, or one writer, fair by arrival.

A reader weighs 1 and a writer as much as the whole lock, so the line of `claims` gives what is wanted: a
writer that waits stops the readers behind it, and no reader passes it.
"""

from typing import ClassVar, Final, Literal

from viewstamp.machine.state_machine import command, query
from viewstamp.services.recipes.claims import ClaimService, RoomState, new_claim
from viewstamp.services.recipes.names import Claimed, Released, quoted

READERS_MAX: Final = 1 << 20


class UpgradeRefused(Exception):
    """A claim to read cannot become one to write: two that tried would wait for each other for good."""


class ReadWriteLockService(ClaimService):
    """Named read-write locks. A session's end releases its claims."""

    recipe: ClassVar[str] = "rwlock"
    raises: ClassVar[tuple[type[Exception], ...]] = (*ClaimService.raises, UpgradeRefused)

    @command(keys=("name",))
    def acquire(self, name: str, sequence: int, mode: Literal["read", "write"], label: str = "") -> Claimed:
        """Ask to read or to write under a number of the caller's choosing, new for each claim.

        The same number again asks how things stand. A claim that holds `write` may go on as `read` under its
        number and token: then readers may enter; the reverse is refused.

        Raises:
            UpgradeRefused, InvalidName, NoSession, TooMany: see there.
        """
        key = self.caller(sequence)
        wanted = new_claim(name, label, weight=1 if mode == "read" else READERS_MAX)
        room = self.room_for(name, READERS_MAX)
        known = room.claims.get(key)
        if known is None or known.weight == wanted.weight:
            return self.claim(name, key, room, wanted)
        if not known.token or mode == "write":
            raise UpgradeRefused(f"the claim of {quoted(name)} was made for another mode: release it first")
        room.used -= known.weight - 1
        known.weight = 1
        self.admit(name, room)
        return Claimed("granted", known.token)

    @command(keys=("name",), frees=True)
    def release(self, name: str, sequence: int) -> Released:
        """Give a claim back, or wait no more. May be repeated."""
        return self.give_back(name, self.caller(sequence))

    @query(keys=("name",))
    def stat(self, name: str) -> RoomState:
        """Return who reads or writes (a writer weighs as much as the lock), and how many wait."""
        return self.shown(name)
