"""When the log is compacted, what of it stays, and how much is applied in one step."""

import msgspec
import pytest

from tests.mutants.lone import Lone
from viewstamp.core.effects import Apply, Capture, Release, Settled
from viewstamp.core.events import Captured, DirectiveToken, SnapshotToken
from viewstamp.core.ids import Instant
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.protocols.raft import RaftOptions
from viewstamp.protocols.raft.state import State
from viewstamp.protocols.replication.compaction import (
    FOLLOWER_SILENCE_US,
    HELD_LIMITS_MAX,
    Compaction,
    apply_committed,
    needed_after,
)
from viewstamp.protocols.replication.snapshot_transfer import SnapshotTokens

RETRY_US = 1_000


def made(state: State) -> BytesSnapshot:
    """Return the snapshot that was asked for."""
    (capture,) = [effect for effect in state.outbox.take() if isinstance(effect, Capture)]
    return BytesSnapshot(capture.viewstamp, capture.header, b"machine")


@pytest.fixture
def state() -> State:
    """The state of a node with ten entries, all applied, in a log that is limited to their size."""
    options = RaftOptions(log_bytes_max=100, applies_per_step_max=4)
    state: State = Lone([1] * 10, options=options).state
    state.committed = state.applied = 10
    state.outbox.take()
    return state


@pytest.fixture
def compaction(state: State) -> Compaction:
    return Compaction(state, SnapshotTokens().new, lambda: None, retry_after_us=RETRY_US)


def test_snapshot_is_due_when_the_log_takes_half_of_its_limit(state: State, compaction: Compaction) -> None:
    assert 2 * state.log.size_bytes > 100
    assert compaction.is_due()
    compaction.capture()
    assert not compaction.is_due(), "one at a time"


def test_snapshot_is_not_due_when_nothing_of_the_log_is_applied(state: State, compaction: Compaction) -> None:
    state.applied = 0
    assert not compaction.is_due()


def test_suffix_stays_when_followers_lag(state: State, compaction: Compaction) -> None:
    compaction.capture()
    compaction.on_captured(Captured(SnapshotToken(1), made(state)), matched_by_all=0)
    assert 0 < state.log.base_seqno < 10
    assert state.log.bytes_after(state.log.base_seqno) <= 25, "a quarter of the limit"
    assert state.snapshot_seqno == 10


def test_everything_goes_when_all_followers_have_it(state: State, compaction: Compaction) -> None:
    compaction.capture()
    compaction.on_captured(Captured(SnapshotToken(1), made(state)), matched_by_all=10)
    assert state.log.base_seqno == 10
    assert not any(isinstance(effect, Release) for effect in state.outbox.take()), "not before it is durable"


def test_snapshot_that_could_not_be_made_is_tried_again_later(state: State, compaction: Compaction) -> None:
    compaction.capture()
    compaction.on_captured(Captured(SnapshotToken(1), None), matched_by_all=10)
    assert (state.log.base_seqno, compaction.is_due()) == (0, False)
    state.now = type(state.now)(state.now + RETRY_US)
    assert compaction.is_due()


def test_snapshot_when_it_is_an_old_one_changes_nothing(state: State, compaction: Compaction) -> None:
    compaction.capture()
    compaction.on_captured(Captured(SnapshotToken(9), made(state)), matched_by_all=10)
    assert (state.log.base_seqno, state.snapshot) == (0, None)


def test_directive_when_nothing_is_applied_is_refused(state: State, compaction: Compaction) -> None:
    state.applied = 0
    compaction.direct(DirectiveToken(5))
    (settled,) = state.outbox.take()
    assert isinstance(settled, Settled)
    assert "nothing is applied yet" in (settled.refusal or "")


def test_entries_are_applied_in_pieces_when_many_are_committed(state: State) -> None:
    state.applied = 0
    apply_committed(state)
    applied = [effect for effect in state.outbox.take() if isinstance(effect, Apply)]
    assert [effect.entry.viewstamp.seqno for effect in applied] == [1, 2, 3, 4]
    assert state.applied == 4


def test_an_operator_is_told_why_no_snapshot_is_made(state: State, compaction: Compaction) -> None:
    compaction.direct(DirectiveToken(7))
    compaction.on_captured(Captured(SnapshotToken(1), None, "members differ"), matched_by_all=10)
    assert Settled(DirectiveToken(7), "members differ") in state.outbox.take()


class Fed(msgspec.Struct):
    """A follower of which this is known."""

    needed_after: int | None
    heard_at: Instant | None = Instant(0)


def test_log_is_needed_after_the_least_that_one_has_who_catches_up() -> None:
    assert needed_after([Fed(7), Fed(5), Fed(None)], 3, Instant(1)) == 5
    assert needed_after([Fed(None)], 3, Instant(1)) is None
    assert needed_after([Fed(7), Fed(2)], 3, Instant(1)) == 7, "a snapshot must give what is before the base"


def test_log_is_not_held_for_one_who_is_silent_for_long() -> None:
    late = [Fed(5, heard_at=None), Fed(6, heard_at=Instant(10))]
    assert needed_after(late, 3, Instant(9 + FOLLOWER_SILENCE_US)) == 6
    assert needed_after(late, 3, Instant(10 + FOLLOWER_SILENCE_US)) is None


def holding(state: State, after: int) -> Compaction:
    return Compaction(state, SnapshotTokens().new, lambda: after, retry_after_us=RETRY_US)


def test_log_stays_after_what_one_has_who_catches_up(state: State) -> None:
    compaction = holding(state, after=3)
    compaction.capture()
    compaction.on_captured(Captured(SnapshotToken(1), made(state)), matched_by_all=10)
    assert (state.log.base_seqno, state.snapshot_seqno) == (3, 10)


def test_no_snapshot_is_due_while_it_would_release_nothing(state: State) -> None:
    assert not holding(state, after=0).is_due()
    assert holding(state, after=10).is_due()


def test_what_is_held_for_followers_has_a_bound_in_bytes(state: State) -> None:
    small = msgspec.structs.replace(state.options, log_bytes_max=16)
    state.options = small
    held = holding(state, after=0)
    assert state.log.size_bytes > HELD_LIMITS_MAX * 16 > 16
    assert held.is_due(), "what is beyond the limit may go"
    held.capture()
    held.on_captured(Captured(SnapshotToken(1), made(state)), matched_by_all=10)
    kept_bytes = state.log.bytes_after(state.log.base_seqno)
    assert 0 < kept_bytes <= 16, "and no more than the limit, where the snapshot is smaller"


def test_what_is_held_is_as_much_as_the_snapshot_takes_within_the_bound(state: State) -> None:
    state.options = msgspec.structs.replace(state.options, log_bytes_max=16)
    held = holding(state, after=0)
    held.capture()
    capture = next(effect for effect in state.outbox.take() if isinstance(effect, Capture))
    large = BytesSnapshot(capture.viewstamp, capture.header, bytes(1_000))
    held.on_captured(Captured(SnapshotToken(1), large), matched_by_all=10)
    kept_bytes = state.log.bytes_after(state.log.base_seqno)
    assert 16 < kept_bytes <= HELD_LIMITS_MAX * 16
