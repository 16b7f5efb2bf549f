"""When which of many names wants to be looked at, in log time: the part of a service's alarms."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from viewstamp.machine.state_machine import StateMachine

_STALE_MAX: Final = 64


class Alarms(StateMachine):
    """What services share whose names have moments at which something is due. Not a service itself.

    Of each name at most one moment is in force, the earliest; `alarm_heap` may hold others, which are out of
    date, but never as its first.
    """

    alarm_heap: list[tuple[int, str]] = []  # noqa: RUF012  StateMachine copies the default
    alarm_of: dict[str, int] = {}  # noqa: RUF012

    def next_alarm(self) -> int | None:
        """Return the earliest moment in force."""
        return self.alarm_heap[0][0] if self.alarm_heap else None

    def alarm(self) -> None:
        """Let the name look at what is due whose moment has come."""
        moment, name = self.alarm_heap[0]
        del self.alarm_of[name]
        self._prune()
        assert moment <= int(self.context.now), (moment, name)
        self.look_at_due(name)

    def look_at_due(self, name: str) -> None:
        """Do what is due of this name, and `set_alarm` for the rest. For services."""

    def set_alarm(self, name: str, moment: int | None) -> None:
        """Look at a name at this moment, and at no other; None: at none."""
        if self.alarm_of.get(name) == moment:
            return
        if moment is None:
            del self.alarm_of[name]
        else:
            self.alarm_of[name] = moment
            heappush(self.alarm_heap, (moment, name))
        if len(self.alarm_heap) > 2 * len(self.alarm_of) + _STALE_MAX:
            self.alarm_heap = [(at, one) for one, at in self.alarm_of.items()]
            heapify(self.alarm_heap)
        self._prune()

    def _prune(self) -> None:
        in_force: Callable[[str], int | None] = self.alarm_of.get
        while self.alarm_heap and in_force(self.alarm_heap[0][1]) != self.alarm_heap[0][0]:
            heappop(self.alarm_heap)
