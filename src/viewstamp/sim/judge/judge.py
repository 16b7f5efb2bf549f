"""Watches every step of every core and calls the invariants at their moments.

The judge sits at the inner seam: `WatchedCore` stands between a replica and its protocol core, so that what
is judged is exactly what the core received and what it returned, before any of it is carried out.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from viewstamp.core.effects import Answer, Apply, Capture, Effect, Entry, Refuse, Restore, Send, Stage
from viewstamp.core.events import Event, PeerDown, PeerUp, Persisted, Queried, Received
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq, View, Viewstamp
from viewstamp.core.judge import DurableImage, InvariantViolated, MembershipOracle, Oracle
from viewstamp.core.messages import ClientMessage, ServerMessage
from viewstamp.core.protocol import Core, Guarantees, WrappedCore
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.replica.events import ReplicaEvent
from viewstamp.replica.replica import Replica
from viewstamp.sim.judge.ghosts import Ghosts, NodeGhost
from viewstamp.sim.judge.invariants import ALL, Invariant

_Hooks = tuple[Callable[..., None], ...]


RARE_STATES: Final = (
    "committed in a later view",
    "disk lost",
    "leader crashed",
    "leader elected",
    "read refused",
    "snapshot",
    "snapshot installed",
    "snapshot piece staged",
    "two leaders at once",
)
"""What every protocol can come to; a campaign says which of these none of its seeds reached."""


class Judge:
    """Keeps the ghosts of one run and asks the invariants."""

    __slots__ = (
        "_answered",
        "_applied",
        "_applying",
        "_crashed",
        "_durable",
        "_executed",
        "_leading",
        "_queried",
        "_recovered",
        "_requested",
        "_responded",
        "_restored",
        "_sent",
        "_served",
        "_snapshot",
        "_staged",
        "_state",
        "_stepped",
        "ghosts",
        "rare",
    )

    def __init__(
        self,
        members: tuple[NodeId, ...],
        oracle: Oracle,
        guarantees: Guarantees,
        invariants: Sequence[type[Invariant]] = ALL,
    ) -> None:
        self.ghosts = Ghosts(members, oracle)
        self.rare: Counter[str] = Counter()
        """How often each rare state was seen: what a campaign reports as its coverage."""
        chosen = [kind(self.ghosts) for kind in invariants if kind.applies(guarantees)]
        self._sent = _hooks(chosen, "sent")
        self._applying = _hooks(chosen, "applying")
        self._applied = _hooks(chosen, "applied")
        self._restored = _hooks(chosen, "restored")
        self._queried = _hooks(chosen, "queried")
        self._answered = _hooks(chosen, "answered")
        self._leading = _hooks(chosen, "leading")
        self._stepped = _hooks(chosen, "stepped")
        self._durable = _hooks(chosen, "durable")
        self._recovered = _hooks(chosen, "recovered")
        self._crashed = _hooks(chosen, "crashed")
        self._requested = _hooks(chosen, "requested")
        self._responded = _hooks(chosen, "responded")
        self._executed = _hooks(chosen, "executed")
        self._served = _hooks(chosen, "served")
        self._staged = _hooks(chosen, "staged")
        self._state = _hooks(chosen, "state")
        self._snapshot = _hooks(chosen, "snapshot")

    def listen(self, listener: Invariant) -> None:
        """Call this one too, after the invariants, at the moments that it overrides."""
        for moment in _MOMENTS:
            hooks: _Hooks = getattr(self, f"_{moment}")
            setattr(self, f"_{moment}", (*hooks, *_hooks([listener], moment)))

    def watch(self, node: NodeId, core: Core) -> "WatchedCore":
        """Return the core with the judge at its side; from now on it is the node's present life."""
        ghost = self.ghosts.nodes[node]
        ghost.core = core
        return WatchedCore(core, ghost, self)

    def step(self, ghost: NodeGhost, core: Core, event: Event, effects: Sequence[Effect]) -> None:
        """Check one step of a core."""
        if type(event) is Queried:
            for hook in self._queried:
                hook(ghost, event.token)
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                for hook in self._sent:
                    hook(ghost, effect)
            elif kind is Apply:
                self._apply(ghost, effect.entry, core.view)  # type: ignore[union-attr]
            elif kind in _LESS_FREQUENT:
                self._look_at(ghost, effect)
        if core.leader == ghost.node and core.view != ghost.led:
            self._lead(ghost, core.view)
        for hook in self._stepped:
            hook(ghost, core)

    def wrote(self, node: NodeId, writes: Iterable[tuple[PersistSeq, tuple[bytes, ...]]]) -> None:
        """Atomic writes of this node became durable by one sync."""
        ghost = self.ghosts.nodes[node]
        for seq, records in writes:
            ghost.image.write(seq, records)
            ghost.synced = seq
        for hook in self._durable:
            hook(ghost)

    def saved(self, node: NodeId, meta: SnapshotMeta) -> None:
        """A snapshot of this node became durable."""
        ghost = self.ghosts.nodes[node]
        ghost.image.snapshot(meta)
        self.rare["snapshot"] += 1
        for hook in self._snapshot:
            hook(ghost, meta.viewstamp, meta.digest)
        for hook in self._durable:
            hook(ghost)

    def crashed(self, node: NodeId) -> None:
        """A node went down, and lost what was not durable."""
        ghost = self.ghosts.nodes[node]
        if ghost.core is not None and ghost.core.leader == node:
            self.rare["leader crashed"] += 1
        ghost.running = False
        ghost.core = None
        ghost.led = ghost.executed = None
        for hook in self._crashed:
            hook(ghost)

    def recovered(
        self,
        node: NodeId,
        image: DurableImage,
        *,
        lost: bool,
        applied: int = 0,
        written: int = 0,
    ) -> None:
        """A node found this on its disk: writes up to `written`, and a snapshot up to `applied`.

        `lost` says that the disk was emptied since the node went down.
        """
        ghost = self.ghosts.nodes[node]
        before = ghost.image
        if lost:
            ghost.lost = before
            self.rare["disk lost"] += 1
        ghost.image = image
        ghost.running = True
        ghost.applied = applied
        ghost.written = PersistSeq(written)
        self.ghosts.collect_images()
        for hook in self._recovered:
            hook(ghost, before, lost=lost)
        ghost.synced = ghost.written

    def listed(self) -> Mapping[NodeId, Incarnation] | None:
        """Return the members by the newest configuration on any disk; None: all nodes are."""
        oracle = self.ghosts.oracle
        return oracle.listed(self.ghosts.images) or None if isinstance(oracle, MembershipOracle) else None

    def removed(self, node: NodeId, incarnation: Incarnation | None) -> None:
        """A node ended because it takes itself for removed: no configuration may list that incarnation."""
        self.rare["member removed"] += 1
        if (self.listed() or {}).get(node) == incarnation:
            raise InvariantViolated("I12 ConfigSafety", f"node {node} takes itself for removed: it is not")

    def requested(self, node: NodeId, message: ClientMessage) -> None:
        """A client's message reaches a node."""
        for hook in self._requested:
            hook(self.ghosts.nodes[node], message)

    def responded(self, node: NodeId, message: ServerMessage) -> None:
        """A node answers a client."""
        for hook in self._responded:
            hook(self.ghosts.nodes[node], message)

    def served(self, node: NodeId, replica: Replica, event: ReplicaEvent | None = None) -> None:
        """A node's replica took a step, because of this event: look at what the step may have changed."""
        ghost = self.ghosts.nodes[node]
        executed = replica.state.applied
        if executed is not ghost.executed:
            ghost.executed = executed
            for hook in self._executed:
                hook(ghost, replica)
        elif type(event) in _GROW_NOTHING:
            return
        for hook in self._served:
            hook(ghost, replica)

    def state(self, node: NodeId, viewstamp: Viewstamp, digest: int) -> None:
        """The hash of a node's state."""
        for hook in self._state:
            hook(self.ghosts.nodes[node], viewstamp, digest)

    def _apply(self, ghost: NodeGhost, entry: Entry, view: View) -> None:
        for hook in self._applying:
            hook(ghost, entry)
        ghost.applied = entry.viewstamp.seqno
        committed = self.ghosts.committed
        if ghost.applied > committed.length:
            committed.add(entry, view)
            if entry.viewstamp.view < view:
                self.rare["committed in a later view"] += 1
            for hook in self._applied:
                hook(ghost, entry)

    def _look_at(self, ghost: NodeGhost, effect: Effect) -> None:
        match effect:
            case Answer():
                for hook in self._answered:
                    hook(ghost, effect.token)
            case Restore():
                viewstamp = effect.snapshot.meta.viewstamp
                for hook in self._restored:
                    hook(ghost, viewstamp)
                if viewstamp.seqno > ghost.applied:
                    self.rare["snapshot installed"] += 1
                ghost.applied = viewstamp.seqno
            case Refuse():
                self.rare["read refused"] += 1
            case Stage():
                self.rare["snapshot piece staged"] += 1
                for hook in self._staged:
                    hook(ghost, effect)
            case _:
                pass

    def _lead(self, ghost: NodeGhost, view: View) -> None:
        ghost.led = view
        self.rare["leader elected"] += 1
        if len([node for node in self.ghosts.nodes.values() if node.led is not None and _leads(node)]) > 1:
            self.rare["two leaders at once"] += 1
        for hook in self._leading:
            hook(ghost, view)


_MOMENTS: Final = tuple(name for name in vars(Invariant) if f"_{name}" in Judge.__slots__)
_GROW_NOTHING: Final = frozenset((Received, Persisted, PeerUp, PeerDown))
"""Events after which a replica that executed no entry keeps no more than before."""
_LESS_FREQUENT: Final = frozenset((Answer, Restore, Refuse, Stage, Capture))


def _leads(ghost: NodeGhost) -> bool:
    return ghost.core is not None and ghost.core.leader == ghost.node


def _hooks(invariants: Sequence[Invariant], moment: str) -> _Hooks:
    """Return the bound methods of those invariants that look at this moment."""
    idle = getattr(Invariant, moment)
    return tuple(
        getattr(invariant, moment) for invariant in invariants if getattr(type(invariant), moment) is not idle
    )


class WatchedCore(WrappedCore):
    """A protocol core whose every step the judge sees."""

    __slots__ = ("_ghost", "_judge", "_step")

    def __init__(self, core: Core, ghost: NodeGhost, judge: Judge) -> None:
        super().__init__(core)
        self._step = core.step
        self._ghost = ghost
        self._judge = judge

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        """As the core, and judged."""
        effects = self._step(event, now)
        self._judge.step(self._ghost, self._core, event, effects)
        return effects


def watched(make: Callable[[Any], Core], judge: Judge) -> Callable[[Any], Core]:
    """Return a `make_core` whose cores are watched."""
    return lambda setup: judge.watch(setup.node, make(setup))
