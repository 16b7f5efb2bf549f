"""Disasters that are aimed: each a short story told to whoever leads, lags or has just forgotten.

Random faults reach a state that needs four accidents in order once in a million seeds. A story arranges the
first three and leaves the fourth to chance: how long each step takes is drawn, and all other faults go on.

Rules of this file: a story is a generator that yields how long to wait, in microseconds; it begins and ends
with nothing cut by it; it loses a disk only where the atlas allows; one story is told at a time.
"""

from collections.abc import Callable, Collection, Iterator
from random import Random
from typing import Final

from viewstamp.core.events import TakeSnapshot, TransferLeadership
from viewstamp.core.ids import NodeId
from viewstamp.core.quorum import majority
from viewstamp.sim.faults.faults import FaultInjector
from viewstamp.sim.world.network import Link
from viewstamp.sim.world.world import log_uniform

_MS: Final = 1_000
_SECOND: Final = 1_000_000
_POLLS_MAX: Final = 400
_BY: Final = "story"

Story = Iterator[int]


class Storyteller:
    """Tells the stories that a run has drawn, one after the other."""

    def __init__(self, injector: FaultInjector) -> None:
        self.injector = injector
        self.cluster = injector.cluster
        self.rng: Random = self.cluster.tree.stream("faults", "stories")
        self._options = self.cluster.options.stories

    def begin(self) -> None:
        """Schedule the first story, if this run has any."""
        if self._options.rate and self._options.kinds and len(self.cluster.members) > 1:
            self._later()

    def _later(self) -> None:
        delay = int(self.rng.expovariate(self._options.rate) * _SECOND) + 1
        self.cluster.world.after(delay, self._tell)

    def _tell(self) -> None:
        if self.injector.stopped:
            return
        kind = self.rng.choice(self._options.kinds)
        self.cluster.trace.note(self.cluster.world.now_us, "story", -1, of=kind)
        self._go_on(kind, STORIES[kind](self))

    def _go_on(self, kind: str, story: Story) -> None:
        if self.injector.stopped:
            return
        wait_us = next(story, None)
        if wait_us is not None:
            self.cluster.world.after(wait_us, self._go_on, kind, story)
            return
        self.cut(())
        self.cluster.counts[f"story {kind}"] += 1
        self._later()

    # What stories are made of

    def within(self, low_ms: float, high_ms: float) -> int:
        """Draw a time, each order of magnitude equally likely; return microseconds."""
        return int(log_uniform(self.rng, low_ms * _MS, high_ms * _MS))

    def chance(self, probability: float) -> bool:
        """Draw."""
        return self.rng.random() < probability

    def leader(self) -> NodeId | None:
        """Return who leads, the one of the highest view where several believe it."""
        leaders = self.cluster.leaders()
        return leaders[0] if leaders else None

    def others(self, *but: NodeId) -> list[NodeId]:
        """Return all members but these, in random order."""
        others = [node for node in self.cluster.members if node not in but]
        self.rng.shuffle(others)
        return others

    def cut(self, links: Collection[Link]) -> None:
        """Cut exactly these links; those that this story cut before carry again."""
        self.cluster.network.cut(set(links), _BY)

    def part(self, side: Collection[NodeId], *, clients: bool, one_way: bool = False) -> None:
        """Cut these members off from the others, perhaps from the clients too, perhaps in one direction."""
        rest: list[int] = [node for node in self.cluster.members if node not in side]
        if clients:
            rest += self.cluster.clients
        away = {(inside, outside) for inside in side for outside in rest}
        back = {(outside, inside) for inside, outside in away}
        self.cut((away if self.chance(0.5) else back) if one_way else away | back)

    def crash(self, node: NodeId, *, wipe: bool = False) -> None:
        """Crash a server if it is up, and lose its disk if that is asked for; it stays down."""
        if self.cluster.processes[node].running:
            self.cluster.crash(node)
        if wipe:
            self.injector.wipe(node)

    def start(self, node: NodeId) -> None:
        """Start a server that is down."""
        self.injector.revive(node)

    def pause(self, node: NodeId, length_us: int) -> None:
        """Stop a server for a while."""
        if self.cluster.processes[node].running:
            self.cluster.processes[node].pause(length_us)
            self.cluster.counts["pause"] += 1

    def view(self, node: NodeId) -> int:
        """Return the view of a server, 0 where it is down."""
        core = self.cluster.judge.ghosts.nodes[node].core
        return 0 if core is None else core.view


def depose(teller: Storyteller) -> Story:
    """The leader is cut off from the members, and goes on hearing clients for a while."""
    leader = teller.leader()
    if leader is None:
        return
    teller.part([leader], clients=teller.chance(0.2), one_way=teller.chance(0.2))
    yield teller.within(300, 2_500)
    if teller.chance(0.3):
        teller.crash(leader)
        teller.injector.restart_later(leader)
        yield teller.within(10, 300)


def pause(teller: Storyteller) -> Story:
    """The leader stands still until another one leads, and finds what was sent to it meanwhile."""
    leader = teller.leader()
    if leader is None:
        return
    length_us = teller.within(250, 2_500)
    teller.pause(leader, length_us)
    yield length_us + teller.within(1, 100)


def handover(teller: Storyteller) -> Story:
    """Leadership is handed over, and something happens to one of the two in that moment."""
    leader = teller.leader()
    if leader is None:
        return
    heir = teller.others(leader)[0]
    teller.injector.direct(TransferLeadership(heir), "transfer", to=leader)
    yield teller.within(1, 200)
    victim = heir if teller.chance(0.5) else leader
    drawn = teller.rng.random()
    if drawn < 0.35:
        teller.crash(victim)
        teller.injector.restart_later(victim)
    elif drawn < 0.7:
        teller.part([victim], clients=teller.chance(0.5))
    else:
        teller.pause(victim, teller.within(50, 1_500))
    yield teller.within(100, 1_500)


def candidate(teller: Storyteller) -> Story:
    """A member enters a new view in order to lead, and nobody hears of it for a while."""
    leader = teller.leader()
    if leader is None:
        return
    heir = teller.others(leader)[0]
    teller.injector.direct(TransferLeadership(heir), "transfer", to=leader)
    for _ in range(_POLLS_MAX):
        yield _MS
        if teller.view(heir) > teller.view(leader):
            break
    teller.part([heir], clients=False)
    yield teller.within(500, 5_000)


def strand(teller: Storyteller) -> Story:
    """A member is left behind; it may have led, and hold what nobody else has.

    It comes back when only a snapshot helps it, or in the very moment in which its successor leaves.
    """
    leader = teller.leader()
    if leader is None:
        return
    stranded = leader if teller.chance(0.7) else teller.others(leader)[0]
    teller.part([stranded], clients=False)
    yield teller.within(50, 1_500)
    if stranded == leader:
        yield from _succession(teller, leader)
    if teller.chance(0.4):
        yield teller.within(5, 300)
    else:
        yield from _leave_behind(teller, stranded)
        teller.cut(())
        yield teller.within(1, 300)
        if teller.chance(0.3):
            return
    successor = teller.leader()
    if successor is not None and successor != stranded:
        teller.part([successor], clients=teller.chance(0.5))
        yield teller.within(300, 2_000)


def _succession(teller: Storyteller, leader: NodeId) -> Story:
    """Wait until somebody else leads, for a while."""
    for _ in range(_POLLS_MAX):
        if teller.leader() not in {None, leader}:
            return
        yield 5 * _MS


def _leave_behind(teller: Storyteller, stranded: NodeId) -> Story:
    """Let the others forget what the stranded one would need."""
    for _ in range(teller.rng.randint(1, 2)):
        for node in teller.cluster.leaders():
            if node != stranded:
                teller.injector.direct(TakeSnapshot(), "snapshot asked for", to=node)
        yield teller.within(10, 600)


def forget(teller: Storyteller) -> Story:
    """A member loses its disk while a minority is cut off; then those that remember are cut off instead.

    The minority and the one that forgot are a majority in number: they must not be one in fact. In a variant
    only the leader and the one that forgot are together, so that what the leader does about it is undone.
    """
    leader = teller.leader()
    members = len(teller.cluster.members)
    if leader is None:
        return
    others = teller.others(leader)
    victims = _may_forget(teller, others)
    if not victims:
        return
    together = teller.chance(0.3)
    lagging = [node for node in others if node not in victims]
    if not together:
        lagging = lagging[: members - majority(members)]
        teller.part(lagging, clients=teller.chance(0.3))
        yield teller.within(50, 1_000)
    for victim in victims:
        teller.crash(victim, wipe=teller.injector.may_lose(victim))
    yield teller.within(10, 400)
    if together:
        teller.part(lagging, clients=teller.chance(0.3))
    for victim in victims:
        teller.start(victim)
    yield from _return(teller, victims)
    if teller.chance(0.7):
        teller.part([*lagging, *victims], clients=False)
        yield teller.within(300, 2_500)


def _return(teller: Storyteller, victims: list[NodeId]) -> Story:
    """Let those that forgot come back, among echoes of what they said before; perhaps only just."""
    only_just = teller.chance(0.4)
    for _ in range(_POLLS_MAX):
        if all(teller.view(victim) for victim in victims):
            break
        yield 2 * _MS
    for _ in range(teller.rng.randint(0, 1 if only_just else 8)):
        for victim in victims:
            teller.cluster.network.repeat(victim, teller.rng.randint(1, 20))
        yield teller.within(2, 20 if only_just else 400)


def _may_forget(teller: Storyteller, among: list[NodeId]) -> list[NodeId]:
    """Return one member, or in a larger cluster two, whose disks may be lost now."""
    wanted = 2 if len(among) > 3 and teller.chance(0.4) else 1
    atlas = teller.injector.atlas
    able = [node for node in among if teller.injector.may_lose(node)]
    lost = [node for node in able if node in atlas.lost]
    fresh = [node for node in able if node not in atlas.lost][: atlas.left]
    if teller.cluster.definition.guarantees.dynamic_membership:
        wanted = 1  # a second one could leave too few that remember
    return (fresh + lost)[:wanted] if teller.chance(0.5) else (lost + fresh)[:wanted]


STORIES: Final[dict[str, Callable[[Storyteller], Story]]] = {
    "candidate": candidate,
    "depose": depose,
    "forget": forget,
    "handover": handover,
    "pause": pause,
    "strand": strand,
}
