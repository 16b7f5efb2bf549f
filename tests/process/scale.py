"""A class whose code changes between two starts: its factor comes from the environment."""

import os
from collections.abc import Iterator

from viewstamp.machine.state_machine import StateMachine, command, query

FACTOR = int(os.environ.get("SCALE_FACTOR", "1"))


class Scale(StateMachine):
    """Adds, and answers nothing that a digest of results would show."""

    total: int = 0

    @command
    def add(self, amount: int) -> None:
        """Add the amount, times what this version of the code takes."""
        self.total += amount * FACTOR

    @query
    def read(self) -> int:
        """Return the sum."""
        return self.total


class Endless(StateMachine):
    """Once something was added, a snapshot of it never ends."""

    total: int = 0

    @command
    def add(self, amount: int) -> None:
        """Add."""
        self.total += amount

    def snapshot(self) -> Iterator[bytes]:
        """Yield nothing, again and again."""
        yield b"%d" % self.total
        while self.total:
            yield b""

    def restore(self, snapshot: bytes) -> None:
        """Take the sum."""
        self.total = int(snapshot)
