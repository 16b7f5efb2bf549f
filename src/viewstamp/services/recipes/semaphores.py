"""Semaphores: a name has a number of permits, and no more are out. Weighted, and resized by command."""

from typing import ClassVar

from viewstamp.machine.state_machine import command, query
from viewstamp.services.recipes.claims import SIZE_MAX, ClaimService, RoomState, new_claim
from viewstamp.services.recipes.names import Ask, Claimed, Released, TooLarge, check


class SemaphoreService(ClaimService):
    """Named semaphores. Permits go back when they are released, or when the session of their holder ends."""

    recipe: ClassVar[str] = "semaphore"

    @command(keys=("name",))
    def acquire(
        self, name: str, sequence: int, permits: int | None = None, weight: int = 1, label: str = ""
    ) -> Claimed:
        """Ask for `weight` permits of a semaphore under a number of the caller's choosing, new each time.

        The same number again asks how things stand. `permits` is the semaphore's size: the first claim says
        it, later ones leave it out or say the same.

        Raises:
            Mismatch: the semaphore has another size, or does not exist and `permits` is not given.
            TooLarge: the weight is above the size.
            InvalidName, NoSession, TooMany: see there.
        """
        key = self.caller(sequence)
        wanted = new_claim(name, label, weight=weight)
        if permits is not None:
            _check_size(permits, least=1)
        room = self.room_for(name, None if name in self.rooms and key in self.rooms[name].claims else permits)
        return self.claim(name, key, room, wanted)

    @command(keys=("name",), frees=True)
    def release(self, name: str, sequence: int) -> Released:
        """Give permits back, or wait for them no more. May be repeated."""
        return self.give_back(name, self.caller(sequence))

    @command(keys=("name",))
    def resize(self, name: str, permits: int) -> RoomState:
        """Set how many permits there are; a semaphore that nobody uses is kept then, until `forget`.

        Where more are out than that, nobody gets one until enough came back. A claim that waits and weighs
        more than that is refused. With 0 permits nobody gets any.

        Raises:
            InvalidName, TooLarge, TooMany: see there.
        """
        check(name)
        _check_size(permits, least=0)
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = self.room_for(name, permits)
        room.size, room.kept = permits, True
        for entry in [entry for entry in room.line if permits and room.claims[entry[2]].weight > permits]:
            client, sequence = key = entry[2]
            self.give_back(name, key)
            self.context.notify(client, Ask(self.recipe, name, sequence))
        self.admit(name, room)
        return self.shown(name)

    @command(keys=("name",), frees=True)
    def forget(self, name: str) -> bool:
        """Keep the size of a semaphore no longer than somebody uses it; return whether it was kept."""
        room = self.rooms.get(name)
        if room is None or not room.kept:
            return False
        room.kept = False
        self.tidy(name, room)
        return True

    @query(keys=("name",))
    def stat(self, name: str) -> RoomState:
        """Return how many permits there are and are out, who has them, and how many claims wait."""
        return self.shown(name)


def _check_size(permits: int, *, least: int) -> None:
    if not least <= permits <= SIZE_MAX:
        raise TooLarge(f"a semaphore has from {least} to {SIZE_MAX} permits, not {permits}")
