"""What entries that were applied mean for the clients that wait for them."""

from typing import Final, TypeAlias

import msgspec

from viewstamp.core.messages import SessionOpened
from viewstamp.machine.context import Notification

ResultLine: TypeAlias = tuple[int, int, msgspec.Raw]
"""(sequence number, one of RESULT .. REFUSED, payload), as in `messages.Results`."""

SESSION_LINE: Final = 0
"""Sequence number of the line that is about the session itself.

EXPIRED: the payload is the session's number. REFUSED: none was opened; the payload is the explanation.
"""


class Answers:
    """What the entries applied in one step mean for clients that wait at this replica."""

    __slots__ = ("lines", "notifications", "opened", "positions", "raised")

    def __init__(self) -> None:
        self.lines: dict[int, list[ResultLine]] = {}
        """By client number."""
        self.positions: dict[int, int] = {}
        """Fencing token of the last command of each client in `lines`."""
        self.opened: list[SessionOpened] = []
        self.notifications: list[Notification] = []
        self.raised: str | None = None
        """Why an entry did not raise what it should; empty: it did; None: no entry should."""
