"""Handing over leadership (thesis 3.10).

The leader stops accepting, brings its successor up to date, and tells it to campaign at once. If that does
not come about within an election timeout, it goes on leading.
"""

from viewstamp.core.effects import Settled
from viewstamp.core.events import DirectiveToken, TransferLeadership
from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.raft.leader import Leader
from viewstamp.protocols.raft.messages import TimeoutNow
from viewstamp.protocols.raft.state import Role, State
from viewstamp.protocols.replication.node_state import NEVER
from viewstamp.protocols.replication.sender import Progress


class LeadershipTransfer:
    """At most one transfer at a time."""

    __slots__ = ("_replication", "_state", "_timeout_now_sent", "_token", "abort_at", "target")

    def __init__(self, state: State, replication: Leader) -> None:
        self._state = state
        self._replication = replication
        self._token: DirectiveToken | None = None
        self.target: NodeId | None = None
        """The node that is to lead; while it is set, no command is accepted."""
        self._timeout_now_sent = False
        """Whether the target was told to campaign since the last heartbeat."""
        self.abort_at = NEVER

    def direct(self, token: DirectiveToken, directive: TransferLeadership) -> None:
        """An operator wants another leader."""
        state = self._state
        refusal = self._refusal(directive.to)
        if refusal is not None or directive.to == state.node:
            state.outbox.emit(Settled(token, refusal))
            return
        target = directive.to if directive.to is not None else self._fittest()
        if target is None:
            state.outbox.emit(Settled(token, "no other voter is up to date: try again later"))
            return
        self._token = token
        self._begin(target)

    def hand_over(self) -> None:
        """The leader is to leave the cluster: let a member lead that stays, and try until one does."""
        if self.target is None:
            target = self._fittest()
            if target is not None:
                self._begin(target)

    def _begin(self, target: NodeId) -> None:
        self.target = target
        self.abort_at = Instant(self._state.now + self._state.options.election_timeout_us)
        self._timeout_now_sent = False
        self.proceed()

    def tick(self) -> None:
        """A heartbeat interval has passed: what the target was told may be lost."""
        self._timeout_now_sent = False
        self.proceed()

    def proceed(self) -> None:
        """Tell the target to campaign once it has everything, and give up when it left the configuration."""
        if self.target is None or self._state.role is not Role.LEADER:
            return
        progress = self._replication.progress.get(self.target)
        if progress is None or self.target not in self._state.membership.voters:
            self._settle(f"node {self.target} is no longer a voter")
        elif progress.matched == self._state.log.last_seqno and not self._timeout_now_sent:
            self._timeout_now_sent = True
            # Early: this asks for a campaign, it promises nothing.
            self._state.outbox.send_early(
                self.target, TimeoutNow(term=self._state.term, to=progress.incarnation)
            )

    def on_led(self) -> None:
        """A leader became known: it is the target, or the transfer failed."""
        if self.target is not None:
            leader = self._state.leader
            if leader != self.target:
                self._settle(f"node {leader} leads instead of node {self.target}")
            else:
                self._settle(None)

    def abort(self) -> None:
        """The time is over: go on as before."""
        self._settle(f"node {self.target} did not take over in time")

    def _refusal(self, to: NodeId | None) -> str | None:
        state = self._state
        if state.role is not Role.LEADER:
            leader = "nobody" if state.leader is None else f"node {state.leader}"
            return f"node {state.node} does not lead: {leader} does"
        if self.target is not None:
            return f"leadership is being transferred to node {self.target}"
        if to is not None and to not in state.membership.staying:
            return f"node {to} is not a voter"
        return None

    def _fittest(self) -> NodeId | None:
        """Return the voter heard lately that has most of the log, and stays when a change is done."""
        silent = self._replication.silent_voters(self._state.options.election_timeout_us)
        fit: list[Progress] = [
            progress
            for node, progress in sorted(self._replication.progress.items())
            if node in self._state.membership.staying and node not in silent
        ]
        return max(fit, key=lambda progress: progress.matched).node if fit else None

    def _settle(self, refusal: str | None) -> None:
        if self._token is not None:
            self._state.outbox.emit(Settled(self._token, refusal))
        self._token = self.target = None
        self.abort_at = NEVER
