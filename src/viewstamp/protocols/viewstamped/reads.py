"""Linearizable reads: after they arrived, the primary asks every member whether it is still in this view.

One answer from each is enough: a primary of a later view needed them all in it, so nothing newer can have
been acknowledged before they answered. A view of one asks nobody. The rounds are those of raft
(`replication.read_rounds`); what confirms a round is all members here and a majority there, and a round is a
message of its own, because this protocol's heartbeats go between other nodes.
"""

from collections.abc import Collection

from viewstamp.core.effects import Answer, Refuse
from viewstamp.core.events import ReadToken
from viewstamp.core.ids import NodeId, View
from viewstamp.protocols.viewstamped.messages import Probe
from viewstamp.protocols.viewstamped.state import State


class Confirmations:
    """What the backups of one view say. It satisfies `read_rounds.Rounds` and `read_rounds.Readers`."""

    __slots__ = ("_state", "_view", "_waiting", "backups", "has_committed", "round")

    def __init__(self, state: State, view: View, backups: Collection[NodeId]) -> None:
        self._state = state
        self._view = view
        self.backups = backups
        self.round = 0
        self.has_committed = False
        """Whether the view serves: an entry of it is committed then."""
        self._waiting: set[NodeId] = set()
        """The backups that have not answered the latest round."""

    def has_confirmed(self, number: int) -> bool:
        """Return whether all backups have answered this round or a later one."""
        assert number <= self.round, (number, self.round)
        return number < self.round or not self._waiting

    def send_heartbeat(self) -> None:
        """Ask every backup, in a round that has just begun."""
        self._waiting = set(self.backups)
        self.ask()

    def ask(self) -> None:
        """Send the probe of this round to those that have not answered."""
        for node in sorted(self._waiting):
            # Early: a question promises nothing.
            probe = Probe(group=self._state.group, view=self._view, round=self.round)
            self._state.outbox.send_early(node, probe)

    def confirm(self, node: NodeId, number: int) -> None:
        """A backup is still in the view. An answer to an earlier round was given before the reads came."""
        if number == self.round:
            self._waiting.discard(node)

    def answer(self, origin: ReadToken, index: int) -> None:
        """The read may be answered from what is applied, which reaches up to `index`."""
        del index
        self._state.outbox.emit(Answer(origin))

    def refuse(self, origin: ReadToken) -> None:
        """The read cannot be answered here."""
        self._state.outbox.emit(Refuse(origin))
