"""What operators ask of one replica, and what comes of it: status, directives, changes that hold for all."""

from abc import abstractmethod
from typing import assert_never

from viewstamp.core.events import (
    Directed,
    Event,
    Finalize,
    HashState,
    MoveMember,
    Proposed,
    Queried,
    SetLimit,
)
from viewstamp.core.ids import ClientAddress
from viewstamp.core.messages import (
    AdminReply,
    AdminRequest,
    AskStatus,
    OperatorMessage,
    ReadLog,
    ReadPosition,
    ReadSnapshot,
    StatusReply,
)
from viewstamp.core.permissions import may_send
from viewstamp.replica.account import Account
from viewstamp.replica.directives import NOT_AN_OPERATOR, TOO_MANY
from viewstamp.replica.events import Moved
from viewstamp.replica.exports import turned_away
from viewstamp.replica.snapshot_body import Snapshots
from viewstamp.replica.upgrades import Raise, Upgrades
from viewstamp.replica.versions import directive_refusal


class Operated(Account):
    """The part of a replica that operators talk to. `replica.Replica` is the rest of it."""

    __slots__ = ("_snapshots", "_upgrades")

    _snapshots: Snapshots
    _upgrades: Upgrades

    @abstractmethod
    def _drive(self, event: Event) -> None:
        """Feed the core and carry out what it asks for."""

    def _operated(self, source: ClientAddress, message: OperatorMessage, principal: str) -> None:
        permitted = may_send(principal, message)
        match message:
            case AskStatus():
                self._responses.say(source, StatusReply(message.request, self.status(self._now)))
            case AdminRequest() if not permitted:
                self._responses.say(source, AdminReply(message.request, NOT_AN_OPERATOR))
            case AdminRequest():
                self._directed(source, message)
            case ReadPosition() | ReadSnapshot() | ReadLog() if not permitted:
                self._responses.say(source, turned_away(message, NOT_AN_OPERATOR))
            case ReadPosition() | ReadSnapshot() | ReadLog():
                token = self._exports.on_request(source, message, self._state, self._snapshots.newest)
                if token is not None:
                    self._drive(Queried(token))
            case _:
                assert_never(message)

    def _directed(self, source: ClientAddress, message: AdminRequest) -> None:
        directive = message.directive
        if isinstance(directive, Finalize | SetLimit):
            self._change(source, message.request, directive)
            return
        if (refusal := directive_refusal(self._state.versions, directive)) is not None:
            self._responses.say(source, AdminReply(message.request, refusal))
            return
        if isinstance(directive, MoveMember | HashState):
            if isinstance(directive, HashState):
                self._divergence.hash_state(self._now)
            else:
                self._responses.effects.append(Moved(directive))
            self._responses.say(source, AdminReply(message.request, None))
            return
        token = self._directives.begin(source, message.request)
        if token is None:
            self._responses.say(source, AdminReply(message.request, TOO_MANY))
            return
        self._drive(Directed(token, directive))

    def _change(self, source: ClientAddress, request: int, directive: Finalize | SetLimit) -> None:
        """Change by an entry what holds for all members; answer when it is applied."""
        state, doubt = self._state, self._divergence.describe()
        raised = doubt or self._upgrades.entry_for(directive, state, self.core, self._now)
        if not isinstance(raised, Raise):
            self._responses.say(source, AdminReply(request, raised))
            return
        self._upgrades.waiting.append((source, request))
        log_time, check = self._clock.read(self._now, state.log_time), state.chain.position
        entries, _ = self._in_flight.propose(log_time, check, [], raised.level, raised.declares)
        self._drive(Proposed(entries[0]))
