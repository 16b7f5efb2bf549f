"""How a run of the course's form is judged: by what it promises on a whole network (docs/faults.md)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from viewstamp.core.ids import ORIGIN, Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.judge import DurableImage, InvariantViolated
from viewstamp.protocols.primary_backup.course.core import CourseCore
from viewstamp.protocols.primary_backup.course.messages import (
    Fetch,
    Fetched,
    Greet,
    Greeted,
    Replicate,
    Replicated,
)
from viewstamp.protocols.primary_backup.course.peers import Standing
from viewstamp.protocols.primary_backup.judge.oracle import BackupImage, make_image
from viewstamp.protocols.replication.judge.disk_image import DiskImage


class _Positions(NamedTuple):
    view: int
    committed: int
    applied: int


class CourseOracle:
    """Judges one run; satisfies `core.judge.Oracle`."""

    __slots__ = ("_before", "_committed", "_cores", "_members")

    def __init__(self, members: tuple[NodeId, ...]) -> None:
        self._members = members
        self._before: dict[NodeId, _Positions] = {}
        self._cores: dict[NodeId, CourseCore] = {}
        """The servers that run, since their first step."""
        self._committed = ORIGIN
        """The last entry that any of them knows to be committed."""

    def check_node(self, core: CourseCore) -> None:
        """I9: applied <= committed <= last; a primary has itself what it takes its backups to have."""
        applied, last = core.applied_index, core.last_index
        if not 0 <= applied <= core.committed_index <= last:
            raise InvariantViolated(
                "I9 Ordering",
                f"server {core.factory_id}: applied {applied}, committed {core.committed_index}, last {last}",
            )
        if core.in_flight not in {0, last}:
            raise InvariantViolated("I9 Ordering", f"server {core.factory_id}: {core.in_flight} is not last")
        for peer in core.peers.values():
            if not peer.matched <= peer.sent <= max(last, peer.matched):
                raise InvariantViolated("I9 Ordering", f"server {core.factory_id}: peer {peer.node}")
            live = peer.standing is Standing.LIVE
            if live and not core.is_primary:
                raise InvariantViolated("I1 ElectionSafety", f"server {core.factory_id} is not primary")
            if live and peer.matched < last - 1:
                raise InvariantViolated("I2 LogMatching", f"live backup {peer.node} lacks entries")

    def check_step(self, node: NodeId, core: CourseCore) -> None:
        """I8: positions never go back."""
        applied = core.applied_index
        after = _Positions(core.view, core.committed_index, applied)
        before = self._before.get(node, after)
        if any(old > new for old, new in zip(before, after, strict=True)):
            raise InvariantViolated("I8 Monotonic", f"server {node} was at {before} and is at {after}")
        self._before[node] = after
        self._cores[node] = core
        if core.committed_index > self._committed.seqno:
            view = core.log.entry(core.committed_index).view
            self._committed = Viewstamp(View(view), Seqno(core.committed_index))

    def forget(self, node: NodeId) -> None:
        """Forget a server that died: what it knew only in memory may go back."""
        self._before.pop(node, None)
        self._cores.pop(node, None)

    def make_image(self) -> BackupImage:
        """Return the image of an empty disk."""
        return make_image()

    def broken_promise(self, source: NodeId, message: Any, durable: DurableImage) -> str | None:
        """I11: an answer is a promise that the log is on disk up to there."""
        del source
        assert isinstance(durable, DiskImage), durable
        if isinstance(message, Greeted):
            last = Viewstamp(View(message.last_view), Seqno(message.last_index))
            if message.last_index and not durable.holds(last):
                return f"that its log ends with {last}; on disk it ends with {durable.last}"
        elif isinstance(message, Replicated) and message.last_index > durable.last.seqno:
            return f"entry {message.last_index}; on disk the log ends with {durable.last}"
        return None

    def committed_by(self, viewstamp: Viewstamp, images: Mapping[NodeId, DurableImage]) -> bool:
        """Return whether a primary and all that it counts as live have the entry on disk."""
        for node, core in self._cores.items():
            if core.is_primary and all(images[each].holds(viewstamp) for each in (node, *core.live)):
                return True
        return False

    def owes_progress(
        self, alive: Mapping[NodeId, Incarnation | None], images: Mapping[NodeId, DurableImage]
    ) -> bool:
        """Return whether some server that is up has everything committed: an operator can write to it."""
        return any(images[node].holds(self._committed) for node in alive)

    def describe(self, message: Any) -> str:
        """Return the message as a short line of prose."""
        return describe(message)


def describe(message: Any) -> str:
    """Return the message as a short line of prose, without its sender and receiver."""
    match message:
        case Greet():
            return (
                f"factory {message.factory_id} is primary (takeover {message.view}), its log ends at "
                f"{message.last_index}, committed {message.committed_index}: where does yours end?"
            )
        case Greeted():
            return f"my log ends at {message.last_index}, committed {message.committed_index}"
        case Replicate():
            return (
                f"write entry {message.last_index}, committed {message.committed_index} "
                f"(factory {message.factory_id})"
            )
        case Replicated():
            end = f"written up to {message.last_index}" if message.last_index else "you are no longer primary"
            return f"{end} (takeover {message.view})"
        case Fetch():
            return (
                f"your log is newer than mine: send entry {message.first_index} on (takeover {message.view})"
            )
        case Fetched():
            return f"entry {message.last_index} of my log (takeover {message.view})"
        case _:
            return f"not a primary_backup_course message: {type(message).__name__}"
