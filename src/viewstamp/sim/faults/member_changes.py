"""What operators of a simulated cluster do to its members: add, promote, remove, replace, revive.

They look at what the leader says, and are often wrong by the time they are heard: they ask while a change is
under way, ask a node that was deposed, ask again. They start a removed node again from its old directory, or
from an empty one, which is a spare from then on.
"""

from collections.abc import Callable
from random import Random
from typing import Final, Protocol

from viewstamp.core.events import ChangeMembers, Directive
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.protocol import MembershipStatus
from viewstamp.sim.cluster.cluster import Cluster

_SETTLED_US: Final = 2_000_000


class Injector(Protocol):
    """What is needed of the fault injector."""

    def direct(self, directive: Directive, what: str, *, to: NodeId) -> None:
        """Let an operator ask this of a server."""
        ...

    def revive(self, node: NodeId) -> None:
        """Start a server if it is down."""
        ...


class MemberChanges:
    """Asks for one change after the other, at random."""

    def __init__(self, cluster: Cluster, injector: Injector, rng: Random) -> None:
        self._cluster = cluster
        self._injector = injector
        self._rng = rng
        self.shrinks_until_us = 0
        """Until when fewer voters may come to decide: no disk is lost meanwhile, as none could be spared."""

    def change(self) -> None:
        """Ask for some change of the node that leads, or start a removed node again."""
        rng, cluster = self._rng, self._cluster
        processes = cluster.processes
        removed = [node for node, each in processes.items() if each.removed and not each.running]
        if removed and rng.random() < 0.4:
            self._revive(rng.choice(removed))
            return
        leader = next(iter(cluster.leaders()), None)
        known = None if leader is None else self._members_by(leader)
        if leader is None or known is None:
            return
        kinds: tuple[Callable[[MembershipStatus], ChangeMembers | None], ...] = (
            self._add,
            self._add_learner,
            self._promote,
            self._remove,
            self._replace,
        )
        kind = rng.choice(kinds)
        wanted = kind(known)
        if wanted is not None:
            if wanted.remove or wanted.replace:
                self.shrinks_until_us = cluster.world.now_us + _SETTLED_US
            to = leader if rng.random() < 0.9 else rng.choice(cluster.members)
            self._injector.direct(wanted, f"members: {kind.__name__.strip('_')}", to=to)

    def _revive(self, node: NodeId) -> None:
        process = self._cluster.processes[node]
        if self._rng.random() < 0.6:
            process.wipe()  # what a removed disk holds, nobody counts on
        self._injector.revive(node)

    def _members_by(self, leader: NodeId) -> MembershipStatus | None:
        process = self._cluster.processes[leader]
        return None if process.replica is None else process.replica.status(process.now).membership

    def _strangers(self, known: MembershipStatus) -> list[tuple[NodeId, Incarnation]]:
        """Return the nodes that run and are not members, with their incarnations."""
        listed = {node for node, _ in (*known.voters, *known.learners, *known.outgoing)}
        return [
            (node, incarnation)
            for node in self._cluster.running
            if node not in listed and (incarnation := self._cluster.processes[node].incarnation) is not None
        ]

    def _is_whole(self, node: NodeId, incarnation: Incarnation) -> bool:
        process = self._cluster.processes[node]
        return process.running and process.incarnation == incarnation

    def _add(self, known: MembershipStatus) -> ChangeMembers | None:
        strangers = self._strangers(known)
        if not strangers:
            return None
        chosen = self._rng.sample(strangers, self._rng.randint(1, len(strangers)))
        return ChangeMembers(add=tuple(chosen), promote=tuple(node for node, _ in chosen))

    def _add_learner(self, known: MembershipStatus) -> ChangeMembers | None:
        strangers = self._strangers(known)
        return ChangeMembers(add=(self._rng.choice(strangers),)) if strangers else None

    def _promote(self, known: MembershipStatus) -> ChangeMembers | None:
        if not known.learners:
            return None
        return ChangeMembers(promote=(self._rng.choice(known.learners)[0],))

    def _remove(self, known: MembershipStatus) -> ChangeMembers | None:
        """Remove some, unless a voter lost its disk: the others may not know yet what they can spare."""
        if not all(self._is_whole(*voter) for voter in known.voters):
            return None
        listed = (*known.voters, *known.learners)
        gone = self._rng.sample(listed, self._rng.randint(1, max(1, len(listed) // 2)))
        return ChangeMembers(remove=tuple(node for node, _ in gone))

    def _replace(self, known: MembershipStatus) -> ChangeMembers | None:
        """Replace as many as there are strangers: now and then all voters at once."""
        new = [*self._strangers(known), *known.learners]
        size = min(len(new), len(known.voters))
        if not size:
            return None
        count = self._rng.choice((1, size))
        pairs = zip(self._rng.sample(known.voters, count), self._rng.sample(new, count), strict=True)
        swapped = tuple((old, successor) for old, successor in pairs)
        return ChangeMembers(
            add=tuple(successor for _, successor in swapped if successor not in known.learners),
            replace=tuple((old[0], successor[0]) for old, successor in swapped),
        )
