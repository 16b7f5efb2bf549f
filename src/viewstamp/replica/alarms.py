"""When the leader orders an entry because the machine has an alarm in log time.

Every entry rings what is due at its log time (`replicated_state`); where clients send none, the leader
proposes an empty one. It does so once for each: the next is proposed when that one is applied, after a pause.
"""

from typing import Final

from viewstamp.core.ids import MICROSECONDS_PER_MS, Instant, LogTime
from viewstamp.replica.log_clock import LogClock
from viewstamp.replica.replicated_state import ReplicatedState

PAUSE_US: Final = 10 * MICROSECONDS_PER_MS
"""Between two entries that are ordered for alarms: a machine whose alarm does not move on costs no more."""


class Alarms:
    """The alarms of a replica that leads."""

    __slots__ = ("_clock", "_not_before", "_stamped")

    def __init__(self, clock: LogClock) -> None:
        self._clock = clock
        self._not_before = Instant(0)
        self._stamped = LogTime(-1)
        """Log time of the last entry that was proposed for an alarm."""

    def moment(self, state: ReplicatedState) -> Instant | None:
        """Return when an entry is to be ordered; None: not as things are."""
        runner = state.runner
        if not runner.has_alarms or state.log_time < self._stamped:
            return None
        alarm = runner.next_alarm()
        due = None if alarm is None else self._clock.instant_of(LogTime(alarm))
        return None if due is None else max(due, self._not_before)

    def is_due(self, state: ReplicatedState, now: Instant) -> bool:
        """Return whether an entry is to be ordered now, and count it as ordered."""
        due = self.moment(state)
        if due is None or due > now:
            return False
        self._stamped = self._clock.read(now, state.log_time)
        self._not_before = Instant(now + PAUSE_US)
        return True

    def reset(self) -> None:
        """Forget what was ordered: the leader has changed, and it may be lost."""
        self._stamped = LogTime(-1)
