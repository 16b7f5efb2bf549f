"""Lines about strangers in the log: bounded in number and in length, whatever the strangers do.

Each kind of line has a bucket of tokens. A line that finds none is counted, and one line says later how many
there were. What one stranger does again and again is told once an hour: a program that retries each second
must not fill the log, nor take the tokens of what others do.
"""

import logging
from typing import Final

from viewstamp.core.ids import Instant
from viewstamp.link.handshake import REASON_LENGTH_MAX, printable
from viewstamp.runtime.system import Clock

BURST: Final = 20
"""Lines of one kind that may come at once."""
REFILL_US: Final = 1_000_000
"""After this time there may be one more."""
AGAIN_US: Final = 3_600_000_000
"""What was told is not told again within this time."""
TOLD_MAX: Final = 1_024
"""How many of them are remembered, the latest ones."""


class _Bucket:
    __slots__ = ("filled_at", "since", "suppressed", "tokens")

    def __init__(self, now: Instant) -> None:
        self.tokens = BURST
        self.filled_at = now
        self.suppressed = 0
        self.since = now
        """When the first line was suppressed that no line has told of yet."""


class _Told:
    __slots__ = ("at", "repeats")

    def __init__(self, now: Instant) -> None:
        self.at = now
        self.repeats = 0
        """How often it happened again since then."""


class BoundedLog:
    """Writes to a logger, at most one line of each kind a second after the first few."""

    __slots__ = ("_buckets", "_clock", "_log", "_told")

    def __init__(self, log: logging.Logger, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        """By kind of line; the kinds are those of this program."""
        self._told: dict[tuple[str, str], _Told] = {}
        """By kind and what it was about, the one that was told first at the beginning."""

    @property
    def owes(self) -> bool:
        """Whether lines were suppressed of which none has told yet: call `flush` now and then."""
        return any(bucket.suppressed for bucket in self._buckets.values())

    def write(self, level: int, kind: str, text: str, *, once: str = "") -> None:
        """Write `kind` and a text, in which a stranger may be quoted, or count it.

        `once` says who did what: the same is written once an hour, with how often it was.
        """
        now = self._clock()
        once = once[:REASON_LENGTH_MAX]
        told = self._told.get((kind, once)) if once else None
        if told is not None:
            if now - told.at < AGAIN_US:
                told.repeats += 1
                return
            text = f"({told.repeats:,} times more in the last hour) {text}" if told.repeats else text
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._buckets[kind] = _Bucket(now)
        self._refill(kind, bucket, now)
        if bucket.tokens:
            bucket.tokens -= 1
            self._log.log(level, "%s %s", kind, printable(text, REASON_LENGTH_MAX))
            if once:
                self._note((kind, once), now)
            return
        if not bucket.suppressed:
            bucket.since = now
        bucket.suppressed += 1

    def flush(self) -> None:
        """Tell of what was suppressed, where a line may be written again."""
        now = self._clock()
        for kind, bucket in self._buckets.items():
            self._refill(kind, bucket, now)

    def _note(self, what: tuple[str, str], now: Instant) -> None:
        self._told.pop(what, None)
        if len(self._told) >= TOLD_MAX:
            del self._told[next(iter(self._told))]
        self._told[what] = _Told(now)

    def _refill(self, kind: str, bucket: _Bucket, now: Instant) -> None:
        fresh = (now - bucket.filled_at) // REFILL_US
        if fresh <= 0:
            return
        bucket.tokens = min(BURST, bucket.tokens + fresh)
        bucket.filled_at = Instant(bucket.filled_at + fresh * REFILL_US)
        waited_s = (now - bucket.since) // 1_000_000
        if bucket.suppressed and waited_s >= SUMMARY_S:
            bucket.tokens -= 1
            self._log.warning("%s: %s more in the last %d s", kind, f"{bucket.suppressed:,}", waited_s)
            bucket.suppressed = 0


SUMMARY_S: Final = 10
"""So long are suppressed lines counted before one line says how many there were."""
