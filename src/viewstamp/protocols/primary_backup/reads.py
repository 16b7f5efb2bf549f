"""Linearizable reads at the primary, without writing: in batches, each confirmed by a majority.

A newer epoch needs a majority. So a majority that is still in this epoch after the reads arrived shows that
nothing newer was acknowledged before. Other members refuse; stale reads are answered by any of them.

Rules of this file:

- A round of confirmation begins after the reads that it serves have arrived. Reads that come while one is
  under way wait for the next.
- The index is that of an entry committed in the primary's own epoch, or of a later one.
"""

from viewstamp.core.effects import Answer, Refuse
from viewstamp.core.events import ReadToken
from viewstamp.protocols.primary_backup.replication import Replication
from viewstamp.protocols.primary_backup.state import State


class Reads:
    """Reads that this primary has to confirm."""

    __slots__ = ("_confirming", "_index", "_replication", "_round", "_state", "_waiting")

    def __init__(self, state: State, replication: Replication) -> None:
        self._state = state
        self._replication = replication
        self._waiting: list[ReadToken] = []
        """Arrived after the round under way began, or before the primary could begin one."""
        self._confirming: list[ReadToken] = []
        self._round = 0
        self._index = 0
        """The read index of those being confirmed."""

    def ask(self, token: ReadToken) -> None:
        """Confirm that we are primary, then answer this read."""
        if len(self._waiting) >= self._state.options.reads_max:
            self._state.outbox.emit(Refuse(token))
            return
        self._waiting.append(token)
        self.proceed()

    def proceed(self) -> None:
        """Finish the round that is confirmed, begin the next."""
        replication = self._replication
        while self._confirming or self._waiting:
            if self._confirming:
                if not replication.has_confirmed(self._round) or self._state.applied < self._index:
                    return
                self._answer()
            elif replication.has_committed:
                self._begin()
            else:
                return

    def refuse_all(self) -> None:
        """We are primary no more."""
        for token in (*self._confirming, *self._waiting):
            self._state.outbox.emit(Refuse(token))
        self._confirming, self._waiting = [], []

    def _begin(self) -> None:
        self._confirming, self._waiting = self._waiting, []
        self._index = self._state.committed
        self._replication.round += 1
        self._round = self._replication.round
        self._replication.beat()

    def _answer(self) -> None:
        for token in self._confirming:
            self._state.outbox.emit(Answer(token))
        self._confirming = []
