"""Linearizable reads without writing: the read index (thesis 6.4), in batches, at any member.

Rules of this file:

- A round of confirmation begins after the reads that it serves have arrived. Reads that come while one is
  under way wait for the next.
- The index is that of an entry committed in the leader's own term, or of a later one.
- A follower's requests are numbered from a random start, so that no answer to an earlier life of the process
  can be taken for one to this.
"""

from collections import deque

from viewstamp.core.effects import Answer, Refuse
from viewstamp.core.events import ReadToken
from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.raft.messages import ReadIndex, ReadIndexAnswer
from viewstamp.protocols.raft.replication import Replication
from viewstamp.protocols.raft.state import NEVER, State

_Origin = tuple[NodeId | None, int]
"""Who reads: None and a token of our own replica, or a follower and its request."""


class LeaderReads:
    """Reads that this leader has to confirm, its own and its followers'."""

    __slots__ = ("_confirming", "_index", "_replication", "_round", "_state", "_waiting")

    def __init__(self, state: State, replication: Replication) -> None:
        self._state = state
        self._replication = replication
        self._waiting: list[_Origin] = []
        """Arrived after the round under way began, or before the leader could begin one."""
        self._confirming: list[_Origin] = []
        self._round = 0
        self._index = 0
        """The read index of those being confirmed."""

    def ask(self, origin: _Origin) -> None:
        """Confirm that we lead, then answer this read."""
        if len(self._waiting) >= self._state.options.reads_max:
            self._refuse(origin)
            return
        self._waiting.append(origin)
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
        """We do not lead any more."""
        for origin in (*self._confirming, *self._waiting):
            self._refuse(origin)
        self._confirming, self._waiting = [], []

    def _begin(self) -> None:
        self._confirming, self._waiting = self._waiting, []
        self._index = self._state.committed
        self._replication.round += 1
        self._round = self._replication.round
        self._replication.beat()

    def _answer(self) -> None:
        state = self._state
        for source, number in self._confirming:
            if source is None:
                state.outbox.emit(Answer(ReadToken(number)))
            else:
                state.reply(source, ReadIndexAnswer(state.term, number, self._index))
        self._confirming = []

    def _refuse(self, origin: _Origin) -> None:
        source, number = origin
        if source is None:
            self._state.outbox.emit(Refuse(ReadToken(number)))
        else:
            self._state.reply(source, ReadIndexAnswer(self._state.term, number, None))


class FollowerReads:
    """Reads that this follower lets its leader confirm, one request at a time for all that wait."""

    __slots__ = ("_asked", "_confirmed", "_request", "_state", "_waiting", "give_up_at")

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting: list[ReadToken] = []
        """Arrived after the request under way was sent."""
        self._asked: list[ReadToken] = []
        """Answered by the answer to `_request`."""
        self._request = state.rng.getrandbits(48)
        self._confirmed: deque[tuple[int, list[ReadToken]]] = deque()
        """(index, reads) to answer when so much is applied, the index ascending."""
        self.give_up_at = NEVER

    def ask(self, token: ReadToken) -> None:
        """Ask the leader about this read, with the next request."""
        if self._state.leader is None or len(self._waiting) >= self._state.options.reads_max:
            self._state.outbox.emit(Refuse(token))
            return
        self._waiting.append(token)
        if not self._asked:
            self._send()

    def on_answer(self, answer: ReadIndexAnswer) -> None:
        """The leader's answer to the request under way; any other is old."""
        if answer.request != self._request or not self._asked:
            self._state.drop("answer to no request")
            return
        if answer.seqno is None:
            self._refuse(self._asked)
        else:
            self._confirmed.append((answer.seqno, self._asked))
        self._asked = []
        self.give_up_at = self._patience() if self._confirmed else NEVER
        if self._waiting:
            self._send()

    def proceed(self) -> None:
        """More is applied: answer what waited for it."""
        confirmed, applied = self._confirmed, self._state.applied
        while confirmed and confirmed[0][0] <= applied:
            for token in confirmed.popleft()[1]:
                self._state.outbox.emit(Answer(token))
        if not confirmed and not self._asked:
            self.give_up_at = NEVER

    def refuse_all(self) -> None:
        """The leader is gone, or does not answer."""
        self._refuse(self._asked)
        self._refuse(self._waiting)
        for _, tokens in self._confirmed:
            self._refuse(tokens)
        self._asked, self._waiting = [], []
        self._confirmed.clear()
        self.give_up_at = NEVER

    def _send(self) -> None:
        state = self._state
        assert state.leader is not None
        self._asked, self._waiting = self._waiting, []
        self._request += 1
        self.give_up_at = self._patience()
        state.reply(state.leader, ReadIndex(state.term, self._request))

    def _patience(self) -> Instant:
        return Instant(self._state.now + self._state.options.election_timeout_us)

    def _refuse(self, tokens: list[ReadToken]) -> None:
        for token in tokens:
            self._state.outbox.emit(Refuse(token))
