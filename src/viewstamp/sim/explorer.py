"""An exhaustive search of a small world: every order of events, within bounds, over the real cores.

Cores are values here (`copies.py`): what a core does with an event is computed once and remembered, so a
state of the world is a few numbers: which value each node is, which messages are under way, what may still
happen. The network keeps no order; what is not delivered is lost. Clocks run apart: a node's time passes
when its deadline is reached, and only there. Reached by any path, a state is visited once.

Snapshots are left out: explore with options that never take one.
"""

from collections import deque
from collections.abc import Iterator
from random import Random
from time import perf_counter
from typing import Any, Final, cast

import msgspec

from viewstamp.core.effects import Apply, Entry, Persist, Send
from viewstamp.core.events import Event, Persisted, Proposed, Received, Woke
from viewstamp.core.ids import Incarnation, Instant, NodeId, PersistSeq
from viewstamp.core.judge import AgreedView, DurableImage, InvariantViolated, Oracle, ViewOracle
from viewstamp.core.protocol import Core, CoreSetup, ProtocolDefinition, Recovered
from viewstamp.sim.structural_copy import Copier

_INCARNATIONS: Final = 1_000
_SETTLE_STEPS_MAX: Final = 10_000

Writes = tuple[tuple[bytes, ...], ...]


class NoChance(Random):
    """A generator without state: node by node another fixed share of any range."""

    def __init__(self, node: NodeId, members: int) -> None:
        super().__init__(0)
        self._share = (node, members + 1)

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """Return the node's share of the range."""
        low, high = (0, start) if stop is None else (start, stop)
        return low + (high - low) * (self._share[0] + 1) // (self._share[1] + 1) // step * step

    def getrandbits(self, k: int) -> int:  # noqa: ARG002  the signature is that of `Random`
        """Return the node's number."""
        return self._share[0]


class Bounds(msgspec.Struct, frozen=True):
    """How much may happen on any one path."""

    timeouts: int = 3
    """How often a deadline may pass, over all nodes."""
    proposals: int = 1
    crashes: int = 1
    """How often a node may crash; it may restart at any later time."""
    wipes: int = 0
    """How often a node may lose its disk."""
    doubles: int = 0
    """How often a message may be delivered and stay in flight."""
    messages_max: int = 6
    """Messages in flight at a time; what is sent beyond that is lost."""
    slow_disks: bool = False
    """Whether a write becomes durable at any later time, and is lost in a crash before that."""
    depth_first: bool = False
    """Follow each path to its end first: long paths early, where breadth first tries the short ones."""
    states_max: int = 1_000_000


class NodeValue(msgspec.Struct, frozen=True):
    """One node in one state. Never stepped: steps are made on copies."""

    node: NodeId
    core: Any
    """None: it is down."""
    now: Instant
    writes: Writes
    """What is durable in its journal."""
    pending: Writes
    """What is written and not durable."""
    incarnation: Incarnation
    applied: int


class Turn(msgspec.Struct, frozen=True):
    """What a node does with an event."""

    value: int
    """Which value the node is then."""
    sent: tuple[int, ...]
    applied: tuple[Entry, ...]
    led: int | None
    """The view that it leads afterwards, as far as its status says so."""
    views: tuple[int, ...]
    """The views that it knows then to be agreed on, by their numbers among all values of views."""


class World(msgspec.Struct, frozen=True):
    """A state of everything, by the numbers of its parts. Equal worlds have equal futures."""

    nodes: tuple[int, ...]
    messages: tuple[int, ...]
    budget: tuple[int, int, int, int, int]
    """Timeouts, proposals, crashes, wipes and duplicates left."""
    chosen: tuple[Entry, ...]
    """The one history: what any node has ever applied."""
    leaders: tuple[tuple[int, NodeId], ...]
    """(view, leader) of each node that ever led."""
    views: tuple[int, ...]
    """The one sequence of views that were agreed on."""


class Exploration(msgspec.Struct, frozen=True):
    """The result of a search."""

    states: int
    transitions: int
    values: int
    """Different states of single nodes."""
    depth: int
    complete: bool
    """Whether every reachable state within the bounds was visited."""
    seconds: float
    violation: str | None
    path: tuple[str, ...]
    """The steps to the violation, one a line."""


class Explorer:
    """One search. The world starts with all nodes up and, where asked for, everything delivered."""

    def __init__(
        self,
        definition: ProtocolDefinition,
        *,
        options: Any,
        bounds: Bounds,
        size: int = 3,
        settle_first: bool = True,
        settle_rounds: int = 0,
    ) -> None:
        """Make a world. `settle_rounds`: how often all deadlines pass before the search begins."""
        self._definition = definition
        self._options = options
        self._bounds = bounds
        self._settle_first = settle_first
        self._settle_rounds = settle_rounds
        self._members = tuple(NodeId(number) for number in range(1, size + 1))
        self._copier = Copier()
        self._oracle: Oracle = definition.make_oracle(self._members)
        self._values: list[NodeValue] = []
        self._value_numbers: dict[Any, int] = {}
        self._messages: list[tuple[NodeId, NodeId, Any]] = []
        self._message_numbers: dict[tuple[NodeId, NodeId, bytes], int] = {}
        self._turns: dict[tuple[int, str, int], Turn] = {}
        self._images: dict[tuple[NodeId, Writes], DurableImage] = {}
        self._agreed: dict[AgreedView, int] = {}
        self._encode = msgspec.msgpack.Encoder().encode

    def explore(self) -> Exploration:
        """Visit every state within the bounds; breadth first, the path to a violation is the shortest."""
        begun = perf_counter()
        first = self._first_world()
        parents: dict[World, tuple[World, str] | None] = {first: None}
        queue = deque([(first, 0)])
        transitions = depth = 0
        violation: str | None = None
        path: tuple[str, ...] = ()
        while queue and violation is None and len(parents) < self._bounds.states_max:
            world, distance = queue.pop() if self._bounds.depth_first else queue.popleft()
            depth = max(depth, distance)
            for action, turn_key in self._actions(world):
                transitions += 1
                try:
                    after = self._after(world, action, turn_key)
                except AssertionError as broken:
                    violation, path = _name(broken), (*_path(parents, world), self._tell(action, turn_key))
                    break
                if after not in parents:
                    parents[after] = (world, self._tell(action, turn_key))
                    queue.append((after, distance + 1))
        return Exploration(
            states=len(parents),
            transitions=transitions,
            values=len(self._values),
            depth=depth,
            complete=not queue and violation is None,
            seconds=perf_counter() - begun,
            violation=violation,
            path=path,
        )

    # What can happen.

    def _actions(self, world: World) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield (kind, (position or message, argument)) of everything that can happen next."""
        doubles = world.budget[4]
        for message in sorted(set(world.messages)):
            if self._values[world.nodes[self._messages[message][1] - 1]].core is not None:
                yield "deliver", (message, 0)
                if doubles:
                    yield "double", (message, 0)
        for position, number in enumerate(world.nodes):
            yield from self._actions_of(self._values[number], position, world.budget)

    def _actions_of(
        self, value: NodeValue, position: int, budget: tuple[int, int, int, int, int]
    ) -> Iterator[tuple[str, tuple[int, int]]]:
        timeouts, proposals, crashes, wipes, _ = budget
        if value.core is None:
            yield "start", (position, 0)
        else:
            if timeouts and value.core.deadline is not None:
                yield "wake", (position, 0)
            if proposals and value.core.accepting:
                yield "propose", (position, proposals)
            if value.pending:
                yield "sync", (position, 0)
            if crashes:
                yield "crash", (position, 0)
            if wipes:
                yield "wipe", (position, 0)

    def _after(self, world: World, action: str, key: tuple[int, int]) -> World:
        """Return the state after this happened.

        Raises:
            InvariantViolated: it must not be.
        """
        budget = list(world.budget)
        messages = list(world.messages)
        position = key[0]
        if action in {"deliver", "double"}:
            position = self._messages[key[0]][1] - 1
            if action == "deliver":
                messages.remove(key[0])
            else:
                budget[4] -= 1
        elif action in {"wake", "propose", "crash", "wipe"}:
            budget[("wake", "propose", "crash", "wipe").index(action)] -= 1
        turn = self._turn(world.nodes[position], action, key)
        if action in {"crash", "wipe"}:
            messages = [message for message in messages if self._messages[message][1] - 1 != position]
        nodes = (*world.nodes[:position], turn.value, *world.nodes[position + 1 :])
        return World(
            nodes=nodes,
            messages=tuple(sorted((messages + list(turn.sent))[: self._bounds.messages_max])),
            budget=(budget[0], budget[1], budget[2], budget[3], budget[4]),
            chosen=self._chosen(world, nodes, turn),
            leaders=self._leaders(world, turn),
            views=self._views(world, turn),
        )

    def _chosen(self, world: World, nodes: tuple[int, ...], turn: Turn) -> tuple[Entry, ...]:
        chosen = world.chosen
        for entry in turn.applied:
            seqno = entry.viewstamp.seqno
            if seqno <= len(chosen):
                if chosen[seqno - 1] != entry:
                    raise InvariantViolated(
                        "I4 StateMachineSafety", f"{entry.viewstamp} and {chosen[seqno - 1].viewstamp}"
                    )
                continue
            if seqno != len(chosen) + 1:
                raise InvariantViolated("I27 NoGap", f"{entry.viewstamp} after {len(chosen)} entries")
            chosen = (*chosen, entry)
            images = {value.node: self._image(value) for value in map(self._values.__getitem__, nodes)}
            if not world.budget[3] < self._bounds.wipes and not self._oracle.committed_by(
                entry.viewstamp, images
            ):
                raise InvariantViolated("I5 CommittedDurable", f"{entry.viewstamp}")
        return chosen

    def _leaders(self, world: World, turn: Turn) -> tuple[tuple[int, NodeId], ...]:
        if turn.led is None:
            return world.leaders
        leader = (turn.led, self._values[turn.value].node)
        known = dict(world.leaders).setdefault(*leader)
        if known != leader[1]:
            raise InvariantViolated("I1 ElectionSafety", f"{known} and {leader[1]} lead view {leader[0]}")
        return world.leaders if leader in world.leaders else tuple(sorted((*world.leaders, leader)))

    def _views(self, world: World, turn: Turn) -> tuple[int, ...]:
        for place, (known, told) in enumerate(zip(world.views, turn.views, strict=False), 1):
            if known != told:
                node = self._values[turn.value].node
                raise InvariantViolated("I24 ViewAgreement", f"node {node} knows another view {place}")
        return max(world.views, turn.views, key=len)

    # What a node does, computed once.

    def _turn(self, number: int, action: str, key: tuple[int, int]) -> Turn:
        kind = "deliver" if action == "double" else action
        known = (number, kind, key[0] if kind == "deliver" else key[1])
        turn = self._turns.get(known)
        if turn is None:
            turn = self._turns[known] = self._compute(self._values[number], kind, key)
        return turn

    def _compute(self, value: NodeValue, action: str, key: tuple[int, int]) -> Turn:
        match action:
            case "deliver":
                source, _, message = self._messages[key[0]]
                return self._step(value, Received(source, message), value.now)
            case "wake":
                deadline = value.core.deadline
                return self._step(value, Woke(), Instant(max(deadline, value.now)))
            case "propose":
                return self._step(value, Proposed(b"command %d" % key[1]), value.now)
            case "sync":
                return self._sync(value)
            case "start":
                return self._start(value)
            case "crash":
                return self._down(msgspec.structs.replace(value, core=None, pending=()))
            case _:
                incarnation = Incarnation(value.incarnation + 1)
                wiped = NodeValue(value.node, None, value.now, (), (), incarnation, 0)
                return self._down(wiped)

    def _down(self, value: NodeValue) -> Turn:
        return Turn(self._intern(value), (), (), None, ())

    def _start(self, value: NodeValue) -> Turn:
        setup = CoreSetup(
            node=value.node,
            members=self._members,
            incarnation=value.incarnation,
            rng=NoChance(value.node, len(self._members)),
            options=self._options,
            recovered=Recovered(
                writes=[(PersistSeq(seq), records) for seq, records in enumerate(value.writes, 1)],
                written=PersistSeq(len(value.writes)),
            ),
            now=value.now,
        )
        core: Core = self._definition.make_core(setup)
        return self._carry_on(msgspec.structs.replace(value, core=core, applied=0), Woke(), value.now)

    def _step(self, value: NodeValue, event: Event, now: Instant) -> Turn:
        copied = msgspec.structs.replace(value, core=self._copier.copy(value.core))
        return self._carry_on(copied, event, now, before=value.core)

    def _sync(self, value: NodeValue) -> Turn:
        durable = (*value.writes, *value.pending)
        synced = msgspec.structs.replace(value, writes=durable, pending=())
        return self._step(synced, Persisted(PersistSeq(len(durable))), value.now)

    def _carry_on(self, value: NodeValue, event: Event, now: Instant, before: Any = None) -> Turn:
        """Step a core that is not shared, and with fast disks go on until everything is durable."""
        sent: list[int] = []
        applied: list[Entry] = []
        writes, pending, core = value.writes, value.pending, value.core
        self._oracle.forget(value.node)
        if before is not None:
            self._oracle.check_step(value.node, before)
        following: Event | None = event
        while following is not None:
            effects, following = core.step(following, now), None
            self._oracle.check_node(core)
            self._oracle.check_step(value.node, core)
            image = self._image(msgspec.structs.replace(value, writes=writes))
            for effect in effects:
                match effect:
                    case Send():
                        sent.append(self._post(value.node, effect, image))
                    case Persist():
                        pending = (*pending, effect.records)
                        assert effect.seq == len(writes) + len(pending), effect
                    case Apply():
                        applied.append(effect.entry)
                    case _:
                        pass
            if pending and not self._bounds.slow_disks:
                writes, pending = (*writes, *pending), ()
                following = Persisted(PersistSeq(len(writes)))
        return self._end_turn(value, core, now, writes, pending, sent, applied)

    def _end_turn(
        self,
        value: NodeValue,
        core: Core,
        now: Instant,
        writes: Writes,
        pending: Writes,
        sent: list[int],
        applied: list[Entry],
    ) -> Turn:
        for count, entry in enumerate(applied, value.applied + 1):
            if entry.viewstamp.seqno != count:
                raise InvariantViolated("I27 NoGap", f"{value.node} applies {entry.viewstamp} as {count}")
        after = NodeValue(
            value.node, core, now, writes, pending, value.incarnation, value.applied + len(applied)
        )
        leads = core.leader == value.node
        views = self._views_of(core)
        return Turn(self._intern(after), tuple(sent), tuple(applied), core.view if leads else None, views)

    def _views_of(self, core: Core) -> tuple[int, ...]:
        if not self._definition.guarantees.agreed_views:
            return ()
        agreed = cast("ViewOracle", self._oracle).agreed(core)
        return tuple(self._agreed.setdefault(view, len(self._agreed)) for view in agreed)

    def _post(self, source: NodeId, effect: Send, image: DurableImage) -> int:
        broken = self._oracle.broken_promise(source, effect.message, image)
        if broken is not None:
            raise InvariantViolated("I11 AckDurable", f"node {source} promises {broken}")
        key = (source, effect.to, self._encode(effect.message))
        number = self._message_numbers.get(key)
        if number is None:
            number = self._message_numbers[key] = len(self._messages)
            self._messages.append((source, effect.to, effect.message))
        return number

    def _image(self, value: NodeValue) -> DurableImage:
        key = (value.node, value.writes)
        image = self._images.get(key)
        if image is None:
            image = self._images[key] = self._oracle.make_image()
            for seq, records in enumerate(value.writes, 1):
                image.write(PersistSeq(seq), records)
        return image

    def _intern(self, value: NodeValue) -> int:
        mark = None if value.core is None else self._copier.fingerprint(value.core, value.now)
        key = (value.node, mark, value.writes, value.pending, value.incarnation, value.applied)
        number = self._value_numbers.get(key)
        if number is None:
            number = self._value_numbers[key] = len(self._values)
            self._values.append(value)
        return number

    # The start of a search, and its report.

    def _first_world(self) -> World:
        bounds = self._bounds
        budget = (bounds.timeouts, bounds.proposals, bounds.crashes, bounds.wipes, bounds.doubles)
        values = []
        for node in self._members:
            down = NodeValue(node, None, Instant(0), (), (), Incarnation(_INCARNATIONS * node), 0)
            values.append(self._intern(down))
        world = World(tuple(values), (), budget, (), (), ())
        for position in range(len(values)):
            world = self._before_the_search(world, "start", (position, 0))
        if self._settle_first:
            world = self._settle(world)
        for _ in range(self._settle_rounds):
            for position in range(len(values)):
                world = self._before_the_search(world, "wake", (position, 0))
            world = self._settle(world)
        return msgspec.structs.replace(world, messages=tuple(sorted(world.messages))[: bounds.messages_max])

    def _before_the_search(self, world: World, action: str, key: tuple[int, int]) -> World:
        """Take a step outside all budgets, without losing a message."""
        position = key[0] if action != "deliver" else self._messages[key[0]][1] - 1
        turn = self._turn(world.nodes[position], action, key)
        nodes = (*world.nodes[:position], turn.value, *world.nodes[position + 1 :])
        messages = world.messages[1:] if action == "deliver" else world.messages
        chosen, leaders, views = (
            self._chosen(world, nodes, turn),
            self._leaders(world, turn),
            self._views(world, turn),
        )
        return World(nodes, (*messages, *turn.sent), world.budget, chosen, leaders, views)

    def _settle(self, world: World) -> World:
        """Deliver everything in order, write it to disk: the search begins with a cluster at rest."""
        for _ in range(_SETTLE_STEPS_MAX):
            slow = next(
                (place for place, value in enumerate(world.nodes) if self._values[value].pending), None
            )
            if slow is not None:
                world = self._before_the_search(world, "sync", (slow, 0))
            elif world.messages:
                world = self._before_the_search(world, "deliver", (world.messages[0], 0))
            else:
                return world
        raise AssertionError("the cluster does not come to rest")

    def _tell(self, action: str, key: tuple[int, int]) -> str:
        if action in {"deliver", "double"}:
            source, to, message = self._messages[key[0]]
            twice = " (and it stays under way)" if action == "double" else ""
            return f"{source} -> {to}: {self._oracle.describe(message)}{twice}"
        return f"node {key[0] + 1}: {action}"


def _name(broken: AssertionError) -> str:
    return str(broken) if isinstance(broken, InvariantViolated) else f"Assertion: {broken}"


def _path(parents: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    lines: list[str] = []
    step = parents[world]
    while step is not None:
        lines.append(step[1])
        step = parents[step[0]]
    return tuple(reversed(lines))
