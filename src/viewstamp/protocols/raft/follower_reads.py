"""Linearizable reads at a follower: it asks its leader up to where it must have applied (thesis 6.4).

A follower's requests are numbered from a random start, so that no answer to an earlier run of the process
can be taken for one to this.
"""

from collections import deque

from viewstamp.core.effects import Answer, Refuse
from viewstamp.core.events import ReadToken
from viewstamp.core.ids import Instant
from viewstamp.protocols.raft.messages import ReadIndex, ReadIndexAnswer
from viewstamp.protocols.raft.state import State
from viewstamp.protocols.replication.node_state import NEVER


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
        if answer.index is None:
            self._refuse(self._asked)
        else:
            self._confirmed.append((answer.index, self._asked))
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
        state.reply(state.leader, ReadIndex(term=state.term, request=self._request))

    def _patience(self) -> Instant:
        return Instant(self._state.now + self._state.options.election_timeout_us)

    def _refuse(self, tokens: list[ReadToken]) -> None:
        for token in tokens:
            self._state.outbox.emit(Refuse(token))
