"""Linearizable reads without writing, in batches, each confirmed by a round of heartbeats (Raft thesis 6.4).

Rules of this file:

- A round of confirmation begins after the reads that it serves have arrived. Reads that come while one is
  under way wait for the next.
- The index is that of an entry committed in the leader's own view, or of a later one.
"""

from typing import Generic, Protocol, TypeVar

from viewstamp.protocols.replication.node_state import LogState

OriginT = TypeVar("OriginT")
OriginT_contra = TypeVar("OriginT_contra", contravariant=True)


class Rounds(Protocol):
    """What a leader's replication says of confirmations."""

    round: int
    """Number of the latest round."""

    @property
    def has_committed(self) -> bool:
        """Whether an entry of the leader's own view is committed: only then does it know what is."""
        ...

    def has_confirmed(self, number: int) -> bool:
        """Return whether enough members have answered this round or a later one."""
        ...

    def send_heartbeat(self) -> None:
        """Send every follower a heartbeat with the latest round."""
        ...


class Readers(Protocol[OriginT_contra]):
    """Answers reads to where they came from."""

    def answer(self, origin: OriginT_contra, index: int) -> None:
        """The read may be answered from what is applied up to `index`, which it is here."""
        ...

    def refuse(self, origin: OriginT_contra) -> None:
        """The read cannot be answered here."""
        ...


class ReadRounds(Generic[OriginT]):
    """Reads that a leader has to confirm."""

    __slots__ = ("_confirming", "_index", "_readers", "_round", "_rounds", "_state", "_waiting", "pending")

    def __init__(self, state: LogState, rounds: Rounds, readers: Readers[OriginT]) -> None:
        self._state = state
        self._rounds = rounds
        self._readers = readers
        self._waiting: list[OriginT] = []
        """Arrived after the round under way began, or before the leader could begin one."""
        self._confirming: list[OriginT] = []
        self._round = 0
        self._index = 0
        """The read index of those being confirmed."""
        self.pending = False
        """Whether any read waits or is being confirmed: else there is nothing to proceed with."""

    def ask(self, origin: OriginT) -> None:
        """Confirm that we lead, then answer this read."""
        if len(self._waiting) >= self._state.options.reads_max:
            self._readers.refuse(origin)
            return
        self._waiting.append(origin)
        self.pending = True
        self.proceed()

    def proceed(self) -> None:
        """Finish the round that is confirmed, begin the next."""
        rounds = self._rounds
        while self._confirming or self._waiting:
            if self._confirming:
                if not rounds.has_confirmed(self._round) or self._state.applied < self._index:
                    return
                self._answer()
            elif rounds.has_committed:
                self._begin()
            else:
                return
        self.pending = False

    def refuse_all(self) -> None:
        """This node no longer leads."""
        for origin in (*self._confirming, *self._waiting):
            self._readers.refuse(origin)
        self._confirming, self._waiting = [], []
        self.pending = False

    def _begin(self) -> None:
        assert self._waiting, "a round is begun for reads"
        assert not self._confirming, "one round at a time"
        # The reads that came after the last round began are not served by it: its answers may have been sent
        # before them, when another leader could not yet have committed what they must see.
        self._confirming, self._waiting = self._waiting, []
        self._index = self._state.committed
        self._rounds.round += 1
        self._round = self._rounds.round
        self._rounds.send_heartbeat()

    def _answer(self) -> None:
        for origin in self._confirming:
            self._readers.answer(origin, self._index)
        self._confirming = []
