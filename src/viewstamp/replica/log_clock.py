"""The clock of the cluster.

`LogClock` is the cluster's own clock, made of the leader's elapsed monotonic time. No wall clock can expire a
session, and while no node leads no time passes (docs/design/seam.md). A new leader continues from the time of
the last entry that it applied, so no lease is cut short by a change of leaders.
"""

from viewstamp.core.ids import Instant, LogTime


class LogClock:
    """The log time of one replica while it leads."""

    __slots__ = ("_anchor", "_since")

    def __init__(self) -> None:
        self._anchor = LogTime(0)
        self._since: Instant | None = None
        """When the log time was `_anchor`; None while this replica does not lead."""

    def start(self, now: Instant, applied: LogTime) -> None:
        """Continue from the time of the last applied entry; without effect where the clock runs already."""
        if self._since is None:
            self._since, self._anchor = now, applied

    def elapsed(self, now: Instant, since: LogTime) -> int | None:
        """Return how long a log time has been past; None while this replica does not lead."""
        return None if self._since is None else max(0, self._anchor + (now - self._since) - since)

    def instant_of(self, moment: LogTime) -> Instant | None:
        """Return when a log time comes, as this replica's clock runs; None while it does not lead."""
        return None if self._since is None else Instant(self._since + (moment - self._anchor))

    def stop(self) -> None:
        """Stand still: another replica leads, or none does."""
        self._since = None

    def read(self, now: Instant, applied: LogTime) -> LogTime:
        """Return the time to stamp an entry with: never before that of the last applied one."""
        if self._since is None:
            self._since, self._anchor = now, applied
        elapsed = now - self._since
        if self._anchor + elapsed < applied:
            # Entries of an earlier leader were still to be applied when this one started its clock.
            self._since, self._anchor = now, applied
            return applied
        return LogTime(self._anchor + elapsed)
