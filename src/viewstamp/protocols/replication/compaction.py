"""Keeping the log short: snapshots of the own machine, and releasing what they cover.

A new snapshot is asked for when the log takes half of its limit, so that what arrives until it is durable
fits into the other half. After it a suffix of at most a quarter of the limit stays for followers that lag: no
dead follower can make the log grow.

A follower that got a snapshot holds on to more until it has everything: what comes after that snapshot, and
then after its own log. Else a log that goes on under load is compacted past each snapshot while it travels,
and the follower gets one snapshot after another. While only such a follower stands in the way, no
snapshot is made: it would release nothing. What is held so has a bound, in bytes and in time.

Handing out what is committed, a bounded piece at a time.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from viewstamp.core.effects import Apply, Capture, Entry, Release, Settled
from viewstamp.core.events import Captured, DirectiveToken, SnapshotToken
from viewstamp.core.ids import Instant, Viewstamp
from viewstamp.protocols.replication.log import COMMAND
from viewstamp.protocols.replication.node_state import LogState

HELD_LIMITS_MAX: Final = 4
"""Followers that catch up hold at most N times `log_bytes_max`, and no more than a snapshot of that size is
worth: beyond its size another snapshot costs less than the log."""
FOLLOWER_SILENCE_US: Final = 60_000_000
"""One that was not heard for this long holds nothing of the log: it may be gone. One that restores a large
state answers nothing meanwhile."""


class Follower(Protocol):
    """What a leader knows of one that it feeds."""

    heard_at: Instant | None
    """When it last answered this leader."""

    @property
    def needed_after(self) -> int | None:
        """After which entry it needs the log, once it has the snapshot that travels to it.

        None: no snapshot was sent to it, or it had everything since.
        """
        ...


def needed_after(followers: Iterable[Follower], base: int, now: Instant) -> int | None:
    """Return after which entry those that catch up need a log with this base; None where none needs it.

    Whatever is before the base, a snapshot must give.
    """
    needs = [
        follower.needed_after
        for follower in followers
        if follower.heard_at is not None and now - follower.heard_at < FOLLOWER_SILENCE_US
    ]
    return min((need for need in needs if need is not None and need >= base), default=None)


class Compaction:
    """When to capture, and what to keep."""

    __slots__ = (
        "_needed_after",
        "_new_token",
        "_retry_after_us",
        "_retry_at",
        "_state",
        "_token",
        "_waiting",
    )

    def __init__(
        self,
        state: LogState,
        new_token: Callable[[], SnapshotToken],
        needed_after: Callable[[], int | None],
        *,
        retry_after_us: int,
    ) -> None:
        self._state = state
        self._new_token = new_token
        self._needed_after = needed_after
        """Returns after which entry followers that catch up need the log; None: no follower does."""
        self._retry_after_us = retry_after_us
        """The pause after a snapshot that could not be made."""
        self._token: SnapshotToken | None = None
        """Of the snapshot that is being made."""
        self._retry_at: Instant | None = None
        """A snapshot could not be made: not before this moment again."""
        self._waiting: list[DirectiveToken] = []
        """Directives to answer when it is made."""

    def is_due(self) -> bool:
        """Return whether the log has grown enough for a snapshot to help."""
        state = self._state
        limit = state.options.log_bytes_max
        if limit is None or 2 * (state.log.size_bytes + state.non_entry_bytes) <= limit:
            return False
        applied_bytes = state.log.size_bytes - state.log.bytes_after(state.applied)
        return (
            8 * applied_bytes >= limit
            and self._token is None
            and state.applied > state.snapshot_seqno
            and (self._retry_at is None or state.now >= self._retry_at)
            and self._would_release(limit)
        )

    def _would_release(self, limit: int) -> bool:
        """Return whether followers that catch up leave enough of the log to be released."""
        log, applied = self._state.log, self._state.applied
        held_after = self._held_after(applied)
        return held_after is None or 4 * (log.size_bytes - log.bytes_after(held_after)) >= limit

    def _held_after(self, covered: int) -> int | None:
        """Return after which entry the log stays for followers that catch up, when a snapshot covers this."""
        state = self._state
        log, needed_after = state.log, self._needed_after()
        if needed_after is None or not log.base_seqno <= needed_after < covered:
            return None
        limit = state.options.log_bytes_max or state.options.inflight_bytes_max
        size_bytes = state.snapshot.meta.size_bytes if state.snapshot is not None else 0
        held_bytes = min(max(limit, size_bytes), HELD_LIMITS_MAX * limit)
        return max(needed_after, log.earliest_within(covered, held_bytes))

    def capture(self) -> None:
        """Ask for a snapshot of what is applied."""
        state = self._state
        assert self._token is None, "one snapshot at a time"
        assert state.applied > 0
        self._retry_at = None
        self._token = self._new_token()
        position = state.log.viewstamp_at(state.applied)
        state.outbox.emit(Capture(self._token, position, state.snapshot_header()))

    def direct(self, token: DirectiveToken) -> None:
        """An operator wants a snapshot now."""
        state = self._state
        if state.applied == 0 or not state.bootstrapped:
            state.outbox.emit(
                Settled(token, "nothing is applied yet: there is nothing to take a snapshot of")
            )
        elif self._token is None and state.applied == state.snapshot_seqno:
            state.outbox.emit(Settled(token, None))
        else:
            self._waiting.append(token)
            if self._token is None:
                self.capture()

    def on_captured(self, captured: Captured, matched_by_all: int) -> None:
        """The snapshot is durable (or could not be made): forget what it covers and no follower needs."""
        state, token, snapshot = self._state, captured.token, captured.snapshot
        if token != self._token:
            return
        self._token = None
        if snapshot is None:
            state.drop("snapshot that could not be made")
            self._retry_at = Instant(state.now + self._retry_after_us)
        elif snapshot.meta.viewstamp.seqno > state.snapshot_seqno:
            state.snapshot = snapshot
            self._forget(snapshot.meta.viewstamp.seqno, matched_by_all)
        reason = captured.reason or "the snapshot could not be written: see the node's log, then try again"
        refusal = None if snapshot else reason
        for waiting in self._waiting:
            state.outbox.emit_durable(Settled(waiting, refusal))
        self._waiting.clear()

    def _forget(self, covered: int, matched_by_all: int) -> None:
        """Move the log's base up, write it, and release what came before once that is durable."""
        state = self._state
        log, limit = state.log, state.options.log_bytes_max
        # A suffix stays, so that a follower that lags a little is sent entries and not the whole snapshot.
        kept_bytes = limit // 4 if limit is not None else state.options.inflight_bytes_max
        needed = min(covered, matched_by_all)
        seqno = min(max(needed, log.earliest_within(covered, kept_bytes)), log.durable_seqno)
        held_after = self._held_after(covered)
        if held_after is not None:
            seqno = min(seqno, held_after)
        if seqno <= log.base_seqno:
            return
        base = state.log.viewstamp_at(seqno)
        write = state.move_base(base)
        log.compact(base)
        state.outbox.emit_durable(Release(log.first_write(otherwise=write)))


def apply_committed(state: LogState) -> None:
    """Hand out committed entries in order, at least one and a bounded number and size in one step."""
    last = min(state.committed, state.applied + state.options.applies_per_step_max)
    room_bytes = state.options.apply_bytes_per_step_max
    handed_out: list[Apply] = []
    for entry in state.log.entries(state.applied + 1, last):
        data = entry.data if entry.kind == COMMAND else b""
        # Seqno(seqno) would be a call: a restart applies a million entries.
        handed_out.append(Apply(Entry(Viewstamp(entry.view, entry.seqno), data)))  # type: ignore[arg-type]
        if (room_bytes := room_bytes - len(data)) <= 0:
            break
    state.applied += len(handed_out)
    state.outbox.emit_all(handed_out)
