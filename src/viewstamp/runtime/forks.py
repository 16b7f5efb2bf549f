"""What a child of `fork` must not use: connections, sessions and threads are its parent's.

A child has copies of its parent's clients. If it used them, two processes would write to one connection,
under one session and with the same sequence numbers: each would be told the results of the other's commands.
And it has none of its parent's threads, so that whatever waits for one waits without end. Therefore each
client is told in the child that it stays with the parent, and refuses its calls from then on.
"""

import os
from typing import Final, Protocol
from weakref import WeakSet

from viewstamp.core.errors import NotExecuted


class StaysBehind(Protocol):
    """Something that belongs to the process which made it."""

    def left_behind(self) -> None:
        """This process is a child, and its parent goes on using it: refuse everything from now on.

        Called before `fork` returns in the child. It touches no connection, no loop and no lock: the parent
        shares the first two, and a thread that is not here may have had the third.
        """
        ...


_OWNED: Final[WeakSet[StaysBehind]] = WeakSet()


def stays_behind(owner: StaysBehind) -> None:
    """Tell this object in each child that it stays with the parent."""
    _OWNED.add(owner)


def used_after_fork() -> NotExecuted:
    """Return the error of a call in a child."""
    return NotExecuted("the client was made before fork, and is the parent's: make one in this process")


def _in_child() -> None:
    for owner in [*_OWNED]:
        owner.left_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
