"""I23, the lock oracle: what the holders of locks saw, in the true order of time.

It stands at the clients and not at the servers: a task is inside from the moment at which its client
admitted it until it left. A client whose session may be over knows that it may not be alone; until then it
must be.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from viewstamp.core.judge import InvariantViolated

NAME: Final = "I23 Fencing"


class Inside(msgspec.Struct, frozen=True):
    """A task that holds a lock."""

    client: int
    task: int
    token: int
    is_sure: Callable[[], bool]
    """Whether its client still counts on the lock."""


class LockOracle:
    """One for each run. Every lock has a resource that it guards, and that refuses older tokens."""

    def __init__(self) -> None:
        self._inside: dict[str, list[Inside]] = {}
        self._newest: dict[str, Inside] = {}
        """For each lock the holder with its highest token: what the guarded resource checks."""
        self.entries = 0
        self.unsure = 0
        """How often a task was admitted while another, no longer sure of the lock, was still inside."""

    def entered(self, name: str, one: Inside) -> None:
        """A task is admitted under a token: alone, and with a token above those of all other clients."""
        inside = self._inside.setdefault(name, [])
        for other in inside:
            if other.is_sure():
                raise InvariantViolated(
                    NAME, f"{_described(one)} is let into {name} while {_described(other)} is inside"
                )
        newest = self._newest.get(name)
        if newest is not None and not _follows(one, newest):
            raise InvariantViolated(
                NAME,
                f"{_described(one)} is let into {name} after {_described(newest)}, which has a higher token",
            )
        self.entries += 1
        self.unsure += bool(inside)
        inside.append(one)
        self._newest[name] = one

    def left(self, name: str, one: Inside) -> None:
        """It leaves, having used the guarded resource: while it is sure, no other came after it."""
        newest = self._newest[name]
        if newest.token > one.token and one.is_sure():
            raise InvariantViolated(
                NAME, f"{name} refuses {_described(one)}, which is sure of it, after {_described(newest)}"
            )
        self._inside[name].remove(one)


def _follows(one: Inside, newest: Inside) -> bool:
    return one.token > newest.token or (one.token == newest.token and one.client == newest.client)


def _described(one: Inside) -> str:
    return f"task {one.task} of client {one.client} with token {one.token}"
