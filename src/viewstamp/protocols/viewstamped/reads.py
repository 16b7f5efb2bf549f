"""Linearizable reads: after they arrived, the primary asks every member whether it is still in this view.

One answer from each is enough: whoever serves a later view needed them all in it, so nothing newer can have
been acknowledged before they answered. A view of one needs nobody. Reads that arrive during a round wait for
the next one, so a thousand of them cost no more messages than one.
"""

from collections import deque
from collections.abc import Collection

from viewstamp.core.effects import Answer, Refuse
from viewstamp.core.events import ReadToken
from viewstamp.core.ids import NodeId, Seqno, View
from viewstamp.protocols.viewstamped.messages import Probe
from viewstamp.protocols.viewstamped.state import State


class Reads:
    """Reads at the primary of one view."""

    __slots__ = ("_confirmed", "_index", "_queued", "_round", "_state", "_tokens", "_waiting")

    def __init__(self, state: State) -> None:
        self._state = state
        self._queued: list[ReadToken] = []
        """Arrived after the round under way began."""
        self._tokens: list[ReadToken] = []
        """What the round under way is for."""
        self._waiting: set[NodeId] = set()
        """Who has not answered it."""
        self._index = Seqno(0)
        """What was committed when it began."""
        self._round = 0
        self._confirmed: deque[tuple[Seqno, list[ReadToken]]] = deque()
        """Safe to answer once this seqno is applied."""

    @property
    def count(self) -> int:
        """How many reads wait."""
        return len(self._queued) + len(self._tokens) + sum(len(tokens) for _, tokens in self._confirmed)

    @property
    def are_waiting(self) -> bool:
        """Whether there are any."""
        return bool(self._queued or self._tokens or self._confirmed)

    def add(self, token: ReadToken) -> None:
        """Take in a read."""
        self._queued.append(token)

    def refuse_all(self) -> None:
        """This node is not the primary of a served view any more."""
        waiting = [
            *(token for _, tokens in self._confirmed for token in tokens),
            *self._tokens,
            *self._queued,
        ]
        for token in waiting:
            self._state.outbox.emit(Refuse(token))
        self._queued, self._tokens = [], []
        self._confirmed.clear()
        self._waiting = set()

    def advance(self, view: View, others: Collection[NodeId], committed: Seqno, applied: Seqno) -> None:
        """End a round that all have answered, begin the next, and answer what may be answered."""
        self._end_round()
        if self._queued and not self._tokens:
            self._tokens, self._queued = self._queued, []
            self._index = committed
            self._round += 1
            self._waiting = set(others)
            self.ask(view)
            self._end_round()
        while self._confirmed and self._confirmed[0][0] <= applied:
            for token in self._confirmed.popleft()[1]:
                self._state.outbox.emit(Answer(token))

    def _end_round(self) -> None:
        if self._tokens and not self._waiting:
            self._confirmed.append((self._index, self._tokens))
            self._tokens = []

    def ask(self, view: View) -> None:
        """Send the probe of this round to those that have not answered."""
        for node in sorted(self._waiting):
            # Early: a question promises nothing.
            self._state.outbox.send_early(node, Probe(self._state.group, view, self._round))

    def confirm(self, node: NodeId, round_number: int) -> None:
        """A member is still in the view."""
        if round_number == self._round:
            self._waiting.discard(node)
