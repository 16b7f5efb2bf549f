"""What the members can do, as they announced it, and raising what is in force to that.

A member announces with each connection that it opens. The entry that raises is proposed by the leader when an
operator asks for it, and only when every other member, learners included, has announced that it can. It says
level, version and interface as of the leader's code. A member that comes back with older code afterwards
waits for newer code, and costs nobody anything.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.events import Finalize, SetLimit
from viewstamp.core.ids import LEVEL, LEVEL_MIN, ClientAddress, Instant, NodeId
from viewstamp.core.messages import AdminReply
from viewstamp.core.protocol import Core, Status
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.evolution import version_of
from viewstamp.machine.interface import interface_digest, own_interface
from viewstamp.replica.events import Announced
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.replica.responses import Responses
from viewstamp.replica.versions import Declaration

OTHER_LEADER: Final = (
    "another node leads now, and the change may still happen: see `viewstamp upgrade status`, and ask again"
)


class Raise(msgspec.Struct, frozen=True):
    """What an entry is to raise."""

    level: int
    declares: Declaration


class Upgrades:
    """What one replica knows of the others' code, and the operators that wait for a raise."""

    __slots__ = ("_configured", "_definition", "_node", "announced", "waiting")

    def __init__(self, node: NodeId, configured: tuple[NodeId, ...], definition: MachineDefinition) -> None:
        self._node = node
        self._configured = configured
        self._definition = definition
        self.announced: dict[NodeId, Announced] = {}
        """What each member said when it last opened a connection to this one."""
        self.waiting: list[tuple[ClientAddress, int]] = []
        """Operators that are answered when the entry that raises is applied: connection and request."""

    def stamp(self, state: ReplicatedState) -> tuple[int, Declaration | None]:
        """Return the level to write an entry at, and what it has to declare."""
        if state.versions is not None:
            return state.versions.level, None
        level = min([LEVEL, *(max(one.level, LEVEL_MIN) for one in self.announced.values())])
        return level, self._declaration(raises=False) if level > LEVEL_MIN else None

    def settle(self, responses: Responses, outcome: str | None = None) -> None:
        """Tell operators that wait how it ended: as an entry did that was applied, or as `outcome` says."""
        ended = self.waiting
        if outcome is None:  # entries are applied in the order in which they were asked for
            outcome, responses.answers.raised = responses.answers.raised, None
            ended = self.waiting[:1]
        if outcome is not None:
            for source, request in ended:
                responses.say(source, AdminReply(request, outcome or None))
            self.waiting = self.waiting[len(ended) :]

    def entry_for(
        self, directive: Finalize | SetLimit, state: ReplicatedState, core: Core, now: Instant
    ) -> Raise | str | None:
        """Return what to propose, or why it cannot be done; None: it is so already."""
        if isinstance(directive, Finalize):
            return self.raise_to(directive.level, state, core, now)
        if not core.accepting:
            return f"node {self._node} does not lead, or has no room for another entry: ask the leader"
        if state.versions is None:
            return "nothing was changed: no entry was executed yet; try again"
        limits = state.sessions.limits
        try:
            if limits.changed(directive.name, directive.value) == limits:
                return None
        except ConfigurationError as error:
            return f"nothing was changed: {error}"
        level, machine = state.versions.level, state.versions.machine
        return Raise(level, Declaration(machine, {}, limit=(directive.name, directive.value)))

    def raise_to(
        self, level: int | None, state: ReplicatedState, core: Core, now: Instant
    ) -> Raise | str | None:
        """Return what to propose, or why it cannot be raised; None: all of it is in force already."""
        level = LEVEL if level is None else level
        if not core.accepting:
            return f"node {self._node} does not lead, or has no room for another entry: ask the leader"
        if not LEVEL_MIN < level <= LEVEL:
            return f"nothing was raised: this code can raise to level {LEVEL}, not to {level}"
        declares = self._declaration(raises=True)
        if (versions := state.versions) is not None:
            if level < versions.level:
                return f"nothing was raised: level {versions.level} is in force, and it never goes down"
            if declares.machine < versions.machine:
                return f"nothing was raised: version {versions.machine} is in force; this code is older"
            is_same = dict(state.runner.in_force.interface) == declares.interface
            known = state.runner.in_force.declared is not None
            if (level, declares.machine) == (versions.level, versions.machine) and is_same and known:
                return None
        missing = ", ".join(self._cannot(core.status(now), level, declares))
        return f"nothing was raised: {missing}" if missing else Raise(level, declares)

    def _declaration(self, *, raises: bool) -> Declaration:
        cls = self._definition.cls
        return Declaration(version_of(cls), dict(own_interface(cls)), raises)

    def _cannot(self, status: Status, level: int, declares: Declaration) -> Iterator[str]:
        """Yield, for each other member, voter or learner, why it cannot do what is to be raised."""
        digest = interface_digest(declares.interface)
        for node in sorted(self._members(status)):
            said = self.announced.get(node)
            if said is None:
                yield f"node {node} has not been heard of since this node started: start it"
            elif said.level < level:
                yield f"node {node} knows level {max(said.level, LEVEL_MIN)}, not {level}: upgrade it"
            elif said.machine < declares.machine:
                yield f"node {node} has version {said.machine} of the class, not {declares.machine}: upgrade"
            elif said.interface != digest:
                yield f"node {node} runs another class than node {self._node}: run the same code on both"

    def _members(self, status: Status) -> set[NodeId]:
        members = {*status.members, *(peer.node for peer in status.peers)}
        if status.membership is None:
            members.update(self._configured)
        else:
            groups = (status.membership.voters, status.membership.learners, status.membership.outgoing)
            members.update(node for group in groups for node, _ in group)
        return members - {self._node}
