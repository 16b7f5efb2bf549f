"""The breakpoints and the partition of the course's tests, at the points where the core offers them.

Breakpoint 1 ends a primary after its first backup has a request, and a backup after it has it; 2 ends a node
that enters a view; 3 and 4 end a proposer after phase 1 and after phase 2. A partition is only armed by the
test: it strikes where breakpoint 1 would.
"""

import os
import sys
from collections.abc import Callable
from typing import Final, NoReturn, assert_never

from viewstamp.protocols.viewstamped.state import Point

BREAKPOINTS: Final = (1, 2, 3, 4)
EXIT_BREAKPOINT: Final = 1
"""What the original exits with."""


def die(number: int) -> NoReturn:
    """End this process at once, as a crash would."""
    sys.stdout.write(f"dying at breakpoint {number}\n")
    sys.stdout.flush()
    os._exit(EXIT_BREAKPOINT)


class Breakpoints:
    """What the test port has armed. The core's `Failpoints`."""

    def __init__(self, silence: Callable[[bool], None], end: Callable[[int], None] = die) -> None:
        """`silence` pulls this node's cables, or plugs them in again; `end` must not return."""
        self._silence = silence
        self._end = end
        self._breakpoints: set[int] = set()
        self._partition = False

    def break_at(self, number: int) -> bool:
        """Arm a breakpoint; return whether there is one of this number."""
        if number not in BREAKPOINTS:
            return False
        self._breakpoints.add(number)
        return True

    def partition(self) -> None:
        """Arm the partition."""
        self._partition = True

    def heal(self) -> None:
        """End the partition, or disarm it."""
        self._partition = False
        self._silence(False)

    def armed(self, point: Point) -> bool:
        """Return whether something shall happen at this point."""
        if point is Point.FIRST_BACKUP_HAS_IT and self._partition:
            return True
        return _number(point) in self._breakpoints

    def reached(self, point: Point) -> None:
        """Let it happen."""
        number = _number(point)
        if number in self._breakpoints:
            self._end(number)
        elif self._partition:
            self._partition = False
            self._silence(True)


def _number(point: Point) -> int:
    match point:
        case Point.FIRST_BACKUP_HAS_IT | Point.BACKUP_HAS_IT:
            return 1
        case Point.VIEW_ENTERED:
            return 2
        case Point.PREPARED:
            return 3
        case Point.CHOSEN:
            return 4
        case _:
            assert_never(point)
