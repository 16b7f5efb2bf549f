"""What a watch does next and what it tells its caller, without input or output: both clients drive it.

Rules of this file:

- the cursor moves only when its answer was told, so that a question asked again, of whichever server, leaves
  nothing out and repeats nothing;
- an answer is trusted as far as it follows the rules: what is not beyond the cursor is not told again;
- progress is told where all before it was told, and never for a revision that nobody has reached;
- where the history no longer reaches back, the caller gets the whole range as a `Resync`, and handles it as a
  value: it is not an error.
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final, TypeAlias

import msgspec

from viewstamp.core.ids import NodeId
from viewstamp.core.messages import REFUSED, RESULT, Waited, WaitFor, decode_server_message
from viewstamp.machine.definition import MachineDefinition
from viewstamp.services.store.machine import CoordinationStore
from viewstamp.services.store.types import Compacted, Event, KeyValue, News, Watch

HOLD_S: Final = 5.0
"""How long a server may keep a question; then it tells the progress."""
ANSWER_S: Final = 2.0
"""How much longer its answer may take."""
PAUSE_S: Final = 0.05
"""After a question that no server answered; doubles up to the next one."""
PAUSE_MAX_S: Final = 2.0

_METHOD: Final = MachineDefinition.of(CoordinationStore).methods["kv_changes"]
_TEXT: Final = msgspec.msgpack.Decoder(str)


class Changes(msgspec.Struct, frozen=True):
    """What one command changed in the range."""

    revision: int
    events: list[Event]
    more: bool = False
    """This is a part: the next `Changes` goes on with the same revision."""


class Progress(msgspec.Struct, frozen=True):
    """Everything up to this revision was told."""

    revision: int


class Resync(msgspec.Struct, frozen=True):
    """The history did not reach back far enough. This is the whole range; what comes later follows."""

    revision: int
    items: list[KeyValue]
    """All keys of the range, in order."""


Told: TypeAlias = Changes | Progress | Resync


class Watching:
    """One watch."""

    __slots__ = (
        "_end",
        "_fragment",
        "_key",
        "_nodes",
        "_pause_s",
        "_prev",
        "_rng",
        "_skip",
        "_told",
        "after",
        "hold_s",
        "part",
    )

    def __init__(
        self,
        key: bytes,
        end: bytes,
        *,
        after: int,
        prev: bool,
        rng: Random,
        part: str = "",
        hold_s: float | None = None,
    ) -> None:
        """`hold_s` None: `HOLD_S`."""
        self.hold_s = HOLD_S if hold_s is None else hold_s
        self._key = key
        self._end = end
        self._prev = prev
        self._rng = rng
        self.part = part
        self.after = after
        """Everything up to here was told."""
        self._skip = 0
        self._told = after
        """The last revision that the caller heard of."""
        self._fragment = False
        """Whether the caller waits for the rest of a revision."""
        self._nodes: list[NodeId] = []
        """The servers that are to be asked, the next one first."""
        self._pause_s = PAUSE_S

    def question(self) -> WaitFor:
        """Return what to ask a server."""
        watch = Watch(self._key, self._end, self.after, self._skip, self._prev)
        call = _METHOD.encode_call((watch,), {})
        if self.part:
            name, *arguments = msgspec.msgpack.decode(call, type=list[msgspec.Raw])
            method = f"{self.part}.{msgspec.msgpack.decode(name, type=str)}"
            call = msgspec.msgpack.encode([method, *arguments])
        return WaitFor(0, int(self.hold_s * 1000), msgspec.Raw(call))

    def choose(self, reachable: Sequence[NodeId]) -> NodeId | None:
        """Return the server to ask: the one that answered last, while it can be reached; None: none can."""
        self._nodes = [node for node in self._nodes if node in reachable]
        if not self._nodes:
            self._nodes = list(reachable)
            self._rng.shuffle(self._nodes)
        return self._nodes[0] if self._nodes else None

    def failed(self, *, refused: bool = False) -> float:
        """The server did not answer, or refused: return after how many seconds to ask the next one.

        A server that refuses has no leader, or too many watches: others will say the same, and thousands of
        watches that ask on and on would keep the servers from what they need.
        """
        if self._nodes:
            self._nodes.pop(0)
        if self._nodes and not refused:
            return 0.0
        pause_s, self._pause_s = self._pause_s, min(PAUSE_MAX_S, 2 * self._pause_s)
        return pause_s * self._rng.uniform(0.5, 1.0)

    def answered(self, reply: bytes) -> "Answer":
        """Take an answer in."""
        waited = decode_server_message(reply)
        if not isinstance(waited, Waited):
            return Answer(refused="a server answered a question with something else")
        if waited.kind == REFUSED:
            return Answer(refused=_TEXT.decode(waited.payload))
        if waited.kind != RESULT:
            return Answer(failure=waited)
        self._pause_s = PAUSE_S
        told: News | Compacted = _METHOD.decode_result(bytes(waited.payload))
        if isinstance(told, Compacted):
            return Answer(must_list=True)
        return Answer(told=self._news(told))

    def _news(self, news: News) -> Iterator[Told]:
        told: list[Told] = []
        for change in news.changes:
            if change.revision <= self.after:
                continue
            if change.events or (self._fragment and not change.more):
                told.append(Changes(change.revision, change.events, change.more))
                self._fragment = change.more
                self._told = change.revision
        self.after, self._skip = max(self.after, news.revision), news.skip
        if self._told < self.after and not self._skip and not told:
            self._told = self.after
            told.append(Progress(self.after))
        yield from told

    def listed(self, revision: int, items: list[KeyValue]) -> Resync:
        """Take the whole range in, as it was at a revision."""
        self.after = self._told = revision
        self._skip, self._fragment = 0, False
        return Resync(revision, items)


class Answer(msgspec.Struct, frozen=True):
    """What a server's answer means."""

    told: Any = ()
    """What to tell the caller, in order."""
    must_list: bool = False
    """List the range, and tell the caller that."""
    refused: str = ""
    """Why this server does not answer now; ask another."""
    failure: Waited | None = None
    """Why no server will answer this question."""
