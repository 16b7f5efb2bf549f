"""Scripts that tell a classic story of Raft, and the prose they are compared with.

A transcript is what happened, line by line; a reader that knows the paper can judge its diff. Rewrite them
all with
`VIEWSTAMP_REWRITE_TRANSCRIPTS=1 pytest tests/protocols/raft/test_transcripts.py`, and commit the difference
only if you can explain it.
"""

from pathlib import Path
from random import Random
from typing import Any

from tests.protocols.raft.harness import Cluster, Letter
from tests.protocols.transcripts import check_transcript
from viewstamp.core.effects import Effect, Persist, Release, Restore, Send
from viewstamp.core.events import (
    Captured,
    Directed,
    Event,
    PeerDown,
    PeerUp,
    Persisted,
    Proposed,
    Queried,
    Received,
    Staged,
    Woke,
)
from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.raft import RaftOptions
from viewstamp.protocols.raft.journal import HardState, Marker
from viewstamp.protocols.raft.judge.describe import describe_configuration
from viewstamp.protocols.raft.messages import Recognize
from viewstamp.protocols.raft.status import role_of
from viewstamp.protocols.replication.configuration import Configuration
from viewstamp.protocols.replication.log import COMMAND, EMPTY, EntryRecord, encode_record


class Fixed(Random):
    """No chance at all: node 1 is the least patient."""

    def __init__(self, node: NodeId) -> None:
        super().__init__(0)
        self._node = node

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """A tenth of the range for each number of the node."""
        span = start if stop is None else stop - start
        return (0 if stop is None else start) + span * min(9, self._node) // 10

    def getrandbits(self, k: int) -> int:
        """A round number."""
        return 1000 * self._node


class Story(Cluster):
    """A cluster that writes down what happens to it."""

    def __init__(self, size: int, *, options: RaftOptions | None = None, start: bool = True) -> None:
        self.lines: list[str] = []
        super().__init__(size, options=options, start=False, rng=Fixed)
        if start:
            for node in self.members:
                self.start(node)

    def say(self, text: str) -> None:
        """A heading of the script."""
        self.lines += ["", f"== {text}"]

    def wake_up(self, number: int) -> None:
        """Time passes until this node's deadline; the others sleep on."""
        deadline = self.core(number).deadline
        assert deadline is not None
        self.now = Instant(max(self.now, deadline))
        self.wake(number)

    def pass_ms(self, milliseconds: int) -> None:
        """Time passes, and nobody notices."""
        self.now = Instant(self.now + 1_000 * milliseconds)

    def deliver(self, letter: Letter) -> bool:
        """Deliver, and say if that was not possible."""
        delivered = super().deliver(letter)
        if not delivered:
            self.lines.append(f"{letter.source} -> {letter.to} is lost: {self._told(letter.message)}")
        return delivered

    def lose_all(self) -> None:
        """Everything under way is lost."""
        self.letters.clear()

    def feed(self, number: int, event: Event) -> list[Effect]:
        """One step, told."""
        node = self.nodes[NodeId(number)]
        said = self._event(number, event)
        before = self._account(number)
        position = len(self.lines)
        effects = super().feed(number, event)
        told = [said, *self._effects(number, effects)] if said else self._effects(number, effects)
        if node.core is not None:
            told += _changes(before, self._account(number))
        self.lines[position:position] = told
        return effects

    def _event(self, number: int, event: Event) -> str:
        match event:
            case Received():
                return f"{event.source} -> {number}: {self._told(event.message)}"
            case Woke():
                return f"node {number} wakes"
            case Proposed():
                return f"node {number} is to order {event.data.decode()!r}"
            case Queried():
                return f"node {number} is asked to read ({event.token})"
            case Directed():
                return f"node {number} is told by the operator: {event.directive}"
            case PeerUp() | PeerDown():
                what = "stands" if isinstance(event, PeerUp) else "broke"
                return f"node {number}: the connection with {event.peer} {what}"
            case Captured():
                return f"node {number}: its snapshot is durable"
            case Staged():
                return f"node {number}: the snapshot received is durable"
            case Persisted():
                return f"node {number}: its disk has everything" if self._disk_was_held(number) else ""

    def _disk_was_held(self, number: int) -> bool:
        return NodeId(number) in self.slow

    slow: frozenset[NodeId] = frozenset()
    """Nodes of whose disk the story tells."""

    def _told(self, message: Any) -> str:
        return self.oracle.describe(message)

    def _effects(self, number: int, effects: list[Effect]) -> list[str]:
        told = []
        for effect in effects:
            match effect:
                case Restore():
                    told.append(f"    {number} restores its machine to {effect.snapshot.meta.viewstamp}")
                case Release():
                    told.append(f"    {number} lets its journal forget")
                case Persist() | Send():
                    pass
                case _:
                    told += _small_effect(number, effect)
        return told

    def _account(self, number: int) -> dict[str, str]:
        state = self.core(number).state
        return {
            "is": f"{number} is {role_of(state)} of term {state.term}",
            "log": f"{number} has the log {self._log(number)}",
            "committed": f"{number} knows that everything up to {state.committed} is committed",
            "configuration": f"{number} goes by {describe_configuration(state.membership.current)}",
        }

    def _log(self, number: int) -> str:
        log = self.core(number).state.log
        entries = [log.entry(seqno) for seqno in range(log.base_seqno + 1, log.last_seqno + 1)]
        base = f"[snapshot {log.base}] " if log.base_seqno else ""
        return base + (" ".join(_name(entry) for entry in entries) or "(empty)")

    def compare(self, name: str) -> None:
        """Compare with the transcript of this name, or rewrite it.

        Raises:
            AssertionError: they differ; the message says how to look at it.
        """
        check_transcript(Path(__file__).parent, name, self.lines)


def _name(entry: EntryRecord) -> str:
    if entry.kind == COMMAND:
        return f"{entry.view}.{entry.seqno}={entry.data.decode()}"
    return f"{entry.view}.{entry.seqno}" + ("" if entry.kind == EMPTY else "=configuration")


def _small_effect(number: int, effect: Effect) -> list[str]:
    name = type(effect).__name__
    match name:
        case "Answer":
            return [f"    {number} answers read {effect.token}"]  # type: ignore[union-attr]
        case "Refuse":
            return [f"    {number} refuses read {effect.token}"]  # type: ignore[union-attr]
        case "LeaderChanged":
            leader = effect.leader  # type: ignore[union-attr]
            return [f"    {number} follows " + ("nobody" if leader is None else f"node {leader}")]
        case "Settled":
            refusal = effect.refusal  # type: ignore[union-attr]
            return [f"    {number} tells the operator: {refusal or 'done'}"]
        case "Capture":
            return [f"    {number} takes a snapshot of {effect.viewstamp}"]  # type: ignore[union-attr]
        case _:
            return []


def _changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [f"    {text}" for key, text in after.items() if before[key] != text]


def history(
    members: tuple[tuple[int, int], ...], terms: str, *, term: int, vote: int | None = None
) -> list[bytes]:
    """Return the records of a node whose log has these terms, such as "1114455", entry by entry."""
    configuration = Configuration(voters=tuple((NodeId(n), i) for n, i in members))  # type: ignore[misc]
    records = [
        encode_record(HardState(term, None if vote is None else NodeId(vote))),
        encode_record(Marker(0, 0, 0, configuration)),
    ]
    for seqno, digit in enumerate(terms, 1):
        data = f"{digit}{chr(ord('a') + seqno - 1)}".encode()
        records.append(encode_record(EntryRecord(int(digit), seqno, COMMAND, data)))
    return records


__all__ = ["Fixed", "Recognize", "Story", "history"]
