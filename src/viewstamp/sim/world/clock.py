"""A node's own monotonic clock: true time, bent by drift, moved forward by jumps.

The library reads no wall clock, so a wall clock's jump cannot reach it. What a monotonic clock can do is run
fast or slow, and leap forward when a virtual machine was suspended; it never goes back.
"""

from typing import Final

from viewstamp.core.ids import Instant

_MILLION: Final = 1_000_000


class NodeClock:
    """Converts true (virtual) microseconds to a node's local ones and back. Monotonic by construction."""

    __slots__ = ("_local_base", "_rate_ppm", "_true_base", "drift_ppm")

    def __init__(self, *, start_us: int, drift_ppm: int) -> None:
        """Show `start_us` at true time 0 and gain `drift_ppm` microseconds a second (above -1,000,000)."""
        assert drift_ppm > -_MILLION
        self._true_base = 0
        self._local_base = start_us
        self._rate_ppm = _MILLION + drift_ppm
        self.drift_ppm = drift_ppm
        """How fast it was made to gain; see `steady`."""

    def local(self, true_us: int) -> Instant:
        """Return what this clock shows at a true moment."""
        return Instant(self._local_base + (true_us - self._true_base) * self._rate_ppm // _MILLION)

    def true(self, local_us: int) -> int:
        """Return the first true moment at which this clock shows `local_us` or later."""
        return self._true_base + -(-(local_us - self._local_base) * _MILLION // self._rate_ppm)

    def jump(self, true_us: int, forward_us: int) -> None:
        """Leap forward by `forward_us` (0 or more) at this true moment."""
        assert forward_us >= 0
        self._rebase(true_us)
        self._local_base += forward_us

    def steady(self, true_us: int) -> None:
        """From this true moment on keep exact pace."""
        self._rebase(true_us)
        self._rate_ppm = _MILLION

    def _rebase(self, true_us: int) -> None:
        self._local_base = self.local(true_us)
        self._true_base = true_us
