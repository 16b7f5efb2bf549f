"""The log as JSON: one event a line, of a closed vocabulary, at a bounded rate.

A program that reads the log needs to know what happened without understanding sentences. Each line has
`time`, `level`, `event`, `message`, and where they are known `cluster`, `node`, `view` and `seqno`. The event
is one of `EVENTS`; the sentence is for people and may change. A test finds every sentence of the library that
has no name here.

Events that are not errors are limited: after `BURST` of one name, one each `REFILL_S`. What was left out is
counted in `suppressed` of the next line of that name.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from viewstamp.cli.output import printable

BURST: Final = 50
REFILL_S: Final = 1.0
MESSAGE_LENGTH_MAX: Final = 4_096
OTHER: Final = "other"

NAMES: Final = {
    "node %d of cluster %s serves": "serving",
    "node %d: view %d, %s": "leader_changed",
    "node %d: %s": "noticed",
    "%s %s": "stranger",
    "%s: %s more in the last %d s": "stranger",
    "connection to node %d ended: %s": "peer_lost",
    "connection to node %d is given up: %s": "peer_lost",
    "node %d at %s refuses us: %s": "peer_refuses",
    "node %d is reached at %s from now on": "peer_moved",
    "node %d runs with other options than node %d": "peer_differs",
    "node %d permits other calls than node %d": "peer_differs",
    "node %d runs other code of %s than node %d": "peer_differs",
    "node %d at %s: %s": "peer_refuses",
    "node %d stops, nothing acknowledged is lost": "failed",
    "node %d leaves a snapshot before it stops": "stopping",
    "node %d stops without handing leadership over": "stopping",
    "node %d stops without a last snapshot": "stopping",
    "no snapshot at %s, the log is kept instead: %s": "snapshot_failed",
    "the snapshot at %s was not received: %s": "snapshot_failed",
    "the state at entry %d cannot be compared": "state_not_compared",
    "node %d refuses commands that need room": "disk_low",
    "node %d takes commands again": "disk_cleared",
    "node %d cannot see how much room": "disk_unknown",
    "only %d files may be open": "files_limited",
    "node %d: %d grants are in force now": "policy_loaded",
    "node %d: it accepts the tokens of %d keys now": "policy_loaded",
    "node %d: grants and keys of tokens stay as they were": "policy_refused",
    "%s: %s: %s": "request_failed",
    "%s": "class_doubtful",
    "the function that returns the token failed": "token_failed",
    "the lock %r was lost": "lock_lost",
    "the hook before the release of the lock %r": "lock_hook_failed",
    "not all locks went back": "locks_not_returned",
    "the %s %r is lost, and another may hold it": "claim_lost",
    "not all went back within": "claims_not_returned",
    "a callback of the %s %r failed": "callback_failed",
    "an item of %r: %s": "item_lost",
    "an item of %r: nobody confirmed it in time": "item_doubtful",
    "an item of %r was not done": "item_failed",
    "no server answers: the locks of this mount": "locks_not_returned",
    "the kernel has not forgotten an inode": "kernel_stuck",
}
"""How a sentence of the library begins, and the name of what it tells. The longest beginning counts."""

EVENTS: Final = frozenset({*NAMES.values(), OTHER})
_LONGEST_FIRST: Final = sorted(NAMES, key=len, reverse=True)


class Place(msgspec.Struct, frozen=True):
    """Where a node is when it writes a line."""

    cluster: str
    node: int
    view: int | None = None
    seqno: int | None = None


def event_of(sentence: str) -> str:
    """Return the name of what a sentence tells, as it stands in the program, before its values are put in."""
    if sentence in NAMES:
        return NAMES[sentence]
    found = (NAMES[beginning] for beginning in _LONGEST_FIRST if sentence.startswith(beginning))
    return next(found, OTHER)


class _Bucket:
    __slots__ = ("filled_at", "suppressed", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = float(BURST)
        self.filled_at = now
        self.suppressed = 0


class JsonFormatter(logging.Formatter):
    """Makes a line of JSON of each record."""

    def __init__(self) -> None:
        super().__init__()
        self.place: Callable[[], Place | None] = lambda: None
        """Where the node is now; set when it is known."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": event_of(str(record.msg)),
        }
        place = self.place()
        if place is not None:
            known = msgspec.structs.asdict(place)
            line.update((name, value) for name, value in known.items() if value is not None)
        if suppressed := getattr(record, "suppressed", 0):
            line["suppressed"] = suppressed
        line["message"] = printable(record.getMessage())[:MESSAGE_LENGTH_MAX]
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class RateLimit(logging.Filter):
    """Leaves out events that come too often, unless they are errors, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self._buckets: dict[str, _Bucket] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        event, now = event_of(str(record.msg)), record.created
        bucket = self._buckets.setdefault(event, _Bucket(now))
        bucket.tokens = min(BURST, bucket.tokens + max(0.0, now - bucket.filled_at) / REFILL_S)
        bucket.filled_at = now
        if bucket.tokens < 1 and record.levelno < logging.ERROR:
            bucket.suppressed += 1
            return False
        bucket.tokens = max(0.0, bucket.tokens - 1)
        record.suppressed, bucket.suppressed = bucket.suppressed, 0
        return True
