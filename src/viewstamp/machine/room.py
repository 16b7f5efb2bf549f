"""Equal room for the user's code: how deep a command may recurse is measured from one known frame.

A command runs on many paths: after the leader's own sync, after an acknowledgement, on a follower, at a
replay, in the simulator. Each stands at another depth of the stack, and `sys.setrecursionlimit` counts from
the bottom. Without this one replica got a value and another a `RecursionError` for the same command.

Python 3.12 and later count calls in C apart, by a constant of the interpreter; what is bounded there is the
nesting of arguments and results (`machine.nesting`).
"""

import re
import sys
from typing import Final

FRAMES: Final = 1_000
"""Frames that a command may use, counted from where its entry is applied."""
_DEPTH: Final = re.compile(r"recursion depth (\d+)")


def depth() -> int:
    """Return how deep the stack is, as the interpreter counts it."""
    try:
        sys.setrecursionlimit(1)
    except RecursionError as error:
        # The interpreter refuses a limit below the depth, and names the depth: exact, and without a walk.
        found = _DEPTH.search(str(error))
        if found is not None:
            return int(found[1])
    raise AssertionError("this interpreter does not tell the depth of its stack")


class Room:
    """Gives the code that runs between `enter` and `leave` the same number of frames on every path."""

    __slots__ = ("_before",)

    def __init__(self) -> None:
        self._before = 0

    def enter(self) -> None:
        """Let the caller's callees have `FRAMES` frames. Call it from the frame that everything starts in."""
        self._before = sys.getrecursionlimit()
        sys.setrecursionlimit(depth() + FRAMES)

    def leave(self) -> None:
        """Restore the limit of the process."""
        sys.setrecursionlimit(self._before)
