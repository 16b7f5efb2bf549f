"""What must hold of any node with a log, and what its messages say of it: the oracles' common part."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.judge import InvariantViolated
from viewstamp.protocols.replication.judge.disk_image import DiskImage
from viewstamp.protocols.replication.log import Log
from viewstamp.protocols.replication.messages import BaseAppendResponse
from viewstamp.protocols.replication.node_state import NodeState
from viewstamp.protocols.replication.sender import Progress


def check_ordering(state: NodeState, view: int) -> None:
    """I9: base <= snapshot <= applied <= committed <= last; what is durable is there; no later view is.

    Raises:
        InvariantViolated: one of the orderings does not hold.
    """
    log = state.log
    covered = state.snapshot_seqno
    if not log.base_seqno <= covered <= state.applied <= state.committed <= log.last_seqno:
        raise InvariantViolated(
            "I9 Ordering",
            f"node {state.node}: base {log.base_seqno}, snapshot {covered}, applied {state.applied}, "
            f"committed {state.committed}, last {log.last_seqno}",
        )
    if log.durable_seqno > log.last_seqno:
        raise InvariantViolated("I9 Ordering", f"node {state.node}: durable beyond the log")
    if log.last_view > view:
        raise InvariantViolated("I9 Ordering", f"node {state.node}: an entry of a later view than {view}")


def check_followers(state: NodeState, followers: Iterable[Progress]) -> None:
    """What a leader knows of its followers fits its own log, and its windows are kept (I20).

    Raises:
        InvariantViolated: it does not.
    """
    last = state.log.last_seqno
    for progress in followers:
        if not progress.matched < progress.next <= last + 1:
            raise InvariantViolated(
                "I9 Ordering",
                f"node {progress.node} at its leader: matched {progress.matched}, next {progress.next}, "
                f"last {last}",
            )
        too_many = len(progress.inflight) > state.options.inflight_messages_max
        if too_many or progress.inflight_bytes < 0:
            raise InvariantViolated("I20 Bounded", f"node {progress.node}: its window does not add up")
        if not progress.inflight and progress.inflight_bytes:
            raise InvariantViolated("I20 Bounded", f"node {progress.node}: bytes under way of no message")


def check_monotonic(node: NodeId, before: Any, after: Any, names: Sequence[str]) -> None:
    """I8: of two named tuples, no position with one of these names went back.

    Raises:
        InvariantViolated: one did.
    """
    for name in names:
        if getattr(after, name) < getattr(before, name):
            raise InvariantViolated(
                "I8 Monotonic",
                f"node {node}: {name} went from {getattr(before, name)} to {getattr(after, name)}",
            )


def check_committed_stays(state: NodeState, seqno: int, view: int) -> None:
    """I6: the entry that was committed at `seqno`, of this view, is still there or compacted away.

    Raises:
        InvariantViolated: another one stands there.
    """
    held = state.log.view_at(seqno)
    if held is not None and held != view:
        raise InvariantViolated("I6 CommittedImmutable", f"node {state.node} replaced entry {seqno}")


def matched_by(answer: BaseAppendResponse) -> tuple[Incarnation, Viewstamp]:
    """Return the incarnation that acknowledges, and up to which entry."""
    return answer.incarnation, Viewstamp(View(answer.matched_view), Seqno(answer.matched_seqno))


def broken_match(image: DiskImage[Any], answer: BaseAppendResponse) -> str | None:
    """I11: say which entry is acknowledged that this disk does not hold; None: it holds everything."""
    _, matched = matched_by(answer)
    if matched.seqno == 0 or image.holds(matched):
        return None
    return f"that entry {matched} is on disk; the log there ends with {image.last}"


def believed(
    log: Log, followers: Iterable[Progress]
) -> Iterator[tuple[NodeId, Incarnation, Seqno, View | None]]:
    """Return for each follower up to where its leader, with this log, takes its log for acknowledged."""
    for progress in followers:
        view = log.view_at(progress.matched)
        matched_view = None if view is None else View(view)
        yield progress.node, progress.incarnation, Seqno(progress.matched), matched_view
