"""How long a lease is certain to live, by this process's own clock. Without input or output.

Rules of this file:

- the cluster cannot end a lease before its time has passed since a confirmed question was *sent*: log time
  never runs faster than a clock. A tenth is left for clocks of different speed;
- the clock goes on while the machine is suspended, for the cluster's does;
- a lease that was not confirmed in time is doubtful, not lost: only the cluster knows.
"""

import math
from typing import Final, Literal

from viewstamp.core.durations import number
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import MICROSECONDS_PER_MS, MICROSECONDS_PER_SECOND, Instant
from viewstamp.runtime.system import Clock

CERTAIN_SHARE: Final = 0.9
KEEP_ALIVE_SHARE: Final = 1 / 3
"""After this part of its time a lease is kept alive again."""
RETRY_SHARE: Final = 1 / 10
"""After this part of its time it is tried again, where nothing was heard."""

Standing = Literal["held", "doubtful", "lost", "revoked"]


class LeaseClock:
    """What is known of one lease."""

    __slots__ = ("_certain_until", "_clock", "ended", "lease", "ttl_s")

    def __init__(self, lease: int, ttl_s: float, sent: Instant, clock: Clock) -> None:
        self.lease = lease
        self.ttl_s = ttl_s
        self._clock = clock
        self._certain_until = sent
        self.ended: Literal["", "lost", "revoked"] = ""
        """How it has ended, as far as the cluster has said; empty: it has not."""
        self.confirmed(sent, ttl_s)

    def confirmed(self, sent: Instant, ttl_s: float) -> None:
        """The cluster answered a question about it that was sent at this moment."""
        self.ttl_s = ttl_s
        until = Instant(sent + int(ttl_s * CERTAIN_SHARE * MICROSECONDS_PER_SECOND))
        self._certain_until = max(self._certain_until, until)

    @property
    def certain_s(self) -> float:
        """For how many seconds it lives for certain; 0: it is doubtful, or has ended."""
        if self.ended:
            return 0.0
        return max(0.0, (self._certain_until - self._clock()) / MICROSECONDS_PER_SECOND)

    @property
    def standing(self) -> Standing:
        """held: it lives. doubtful: it may have ended. lost: it has. revoked: by this process."""
        if self.ended:
            return self.ended
        return "held" if self.certain_s > 0 else "doubtful"

    @property
    def pause_s(self) -> float:
        """After how many seconds to keep it alive, once that was confirmed."""
        return self.ttl_s * KEEP_ALIVE_SHARE

    @property
    def retry_s(self) -> float:
        """After how many seconds to try it again, and how long one attempt may take at least."""
        return self.ttl_s * RETRY_SHARE


def ttl_ms(ttl_s: float) -> int:
    """Return a time to live as the store takes it; how long it may be, the store says.

    Raises:
        ConfigurationError: it is not a number of seconds. Nothing was sent.
    """
    seconds = number(ttl_s, "ttl_s")
    if not math.isfinite(seconds):
        raise ConfigurationError(f"ttl_s is {seconds}: give seconds; nothing was sent")
    return round(max(0.0, min(seconds, 1e12)) * 1_000)


__all__ = ["MICROSECONDS_PER_MS", "LeaseClock", "Standing", "ttl_ms"]
