"""Faults that are aimed: each story is a short script for the member that leads, lags or lost its disk.

Random faults reach a state that needs four accidents in order once in a million seeds. A story arranges the
first three and leaves the fourth to chance: how long each step takes is drawn, and all other faults go on.

Rules of this file: a story is a generator that yields how long to wait, in microseconds; it begins and ends
with nothing cut by it; it loses a disk only where the atlas allows; one story runs at a time.
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


class StoryRunner:
    """Runs the stories that a seed has drawn, one after the other."""

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
        self.cluster.world.after(delay, self._begin_next)

    def _begin_next(self) -> None:
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

    # Steps of a story

    def within(self, low_ms: float, high_ms: float) -> int:
        """Draw a time, each order of magnitude equally likely; return microseconds."""
        return int(log_uniform(self.rng, low_ms * _MS, high_ms * _MS))

    def chance(self, probability: float) -> bool:
        """Draw."""
        return self.rng.random() < probability

    def leader(self) -> NodeId | None:
        """Return the leader, the one of the highest view where there are several."""
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


def depose(story: StoryRunner) -> Story:
    """The leader is cut off from the members, and goes on hearing clients for a while."""
    leader = story.leader()
    if leader is None:
        return
    story.part([leader], clients=story.chance(0.2), one_way=story.chance(0.2))
    yield story.within(300, 2_500)
    if story.chance(0.3):
        story.crash(leader)
        story.injector.restart_later(leader)
        yield story.within(10, 300)


def pause(story: StoryRunner) -> Story:
    """The leader pauses until another one leads, then reads what was sent to it in the meantime."""
    leader = story.leader()
    if leader is None:
        return
    length_us = story.within(250, 2_500)
    story.pause(leader, length_us)
    yield length_us + story.within(1, 100)


def handover(story: StoryRunner) -> Story:
    """Leadership is transferred, and at that moment one of the two has a fault."""
    leader = story.leader()
    if leader is None:
        return
    heir = story.others(leader)[0]
    story.injector.direct(TransferLeadership(heir), "transfer", to=leader)
    yield story.within(1, 200)
    victim = heir if story.chance(0.5) else leader
    drawn = story.rng.random()
    if drawn < 0.35:
        story.crash(victim)
        story.injector.restart_later(victim)
    elif drawn < 0.7:
        story.part([victim], clients=story.chance(0.5))
    else:
        story.pause(victim, story.within(50, 1_500))
    yield story.within(100, 1_500)


def candidate(story: StoryRunner) -> Story:
    """A member enters a new view in order to lead, and no other member hears of it for a while."""
    leader = story.leader()
    if leader is None:
        return
    heir = story.others(leader)[0]
    story.injector.direct(TransferLeadership(heir), "transfer", to=leader)
    for _ in range(_POLLS_MAX):
        yield _MS
        if story.view(heir) > story.view(leader):
            break
    story.part([heir], clients=False)
    yield story.within(500, 5_000)


def strand(story: StoryRunner) -> Story:
    """A member is left behind; it may have led, and hold entries that no other member has.

    It comes back when only a snapshot helps it, or at the moment at which its successor leaves.
    """
    leader = story.leader()
    if leader is None:
        return
    stranded = leader if story.chance(0.7) else story.others(leader)[0]
    story.part([stranded], clients=False)
    yield story.within(50, 1_500)
    if stranded == leader:
        yield from _succession(story, leader)
    if story.chance(0.4):
        yield story.within(5, 300)
    else:
        yield from _leave_behind(story, stranded)
        story.cut(())
        yield story.within(1, 300)
        if story.chance(0.3):
            return
    successor = story.leader()
    if successor is not None and successor != stranded:
        story.part([successor], clients=story.chance(0.5))
        yield story.within(300, 2_000)


def _succession(story: StoryRunner, leader: NodeId) -> Story:
    """Wait until another member leads, at most 2 s."""
    for _ in range(_POLLS_MAX):
        if story.leader() not in {None, leader}:
            return
        yield 5 * _MS


def _leave_behind(story: StoryRunner, stranded: NodeId) -> Story:
    """Let the others compact what the stranded member would need."""
    for _ in range(story.rng.randint(1, 2)):
        for node in story.cluster.leaders():
            if node != stranded:
                story.injector.direct(TakeSnapshot(), "snapshot asked for", to=node)
        yield story.within(10, 600)


def forget(story: StoryRunner) -> Story:
    """A member loses its disk while a minority is cut off; then the members with their disks are cut off.

    The minority and the member with the lost disk are a majority in number: they must not act as one. In a
    variant only the leader and that member are together, so that what the leader does about it is undone.
    """
    leader = story.leader()
    members = len(story.cluster.members)
    if leader is None:
        return
    others = story.others(leader)
    victims = _may_forget(story, others)
    if not victims:
        return
    together = story.chance(0.3)
    lagging = [node for node in others if node not in victims]
    if not together:
        lagging = lagging[: members - majority(members)]
        story.part(lagging, clients=story.chance(0.3))
        yield story.within(50, 1_000)
    for victim in victims:
        story.crash(victim, wipe=story.injector.may_lose(victim))
    yield story.within(10, 400)
    if together:
        story.part(lagging, clients=story.chance(0.3))
    for victim in victims:
        story.start(victim)
    yield from _return(story, victims)
    if story.chance(0.7):
        story.part([*lagging, *victims], clients=False)
        yield story.within(300, 2_500)


def _return(story: StoryRunner, victims: list[NodeId]) -> Story:
    """Let the members with lost disks come back, among echoes of what they sent before."""
    only_just = story.chance(0.4)
    for _ in range(_POLLS_MAX):
        if all(story.view(victim) for victim in victims):
            break
        yield 2 * _MS
    for _ in range(story.rng.randint(0, 1 if only_just else 8)):
        for victim in victims:
            story.cluster.network.repeat(victim, story.rng.randint(1, 20))
        yield story.within(2, 20 if only_just else 400)


def _may_forget(story: StoryRunner, among: list[NodeId]) -> list[NodeId]:
    """Return one member, or in a larger cluster two, whose disks may be lost now."""
    wanted = 2 if len(among) > 3 and story.chance(0.4) else 1
    atlas = story.injector.atlas
    able = [node for node in among if story.injector.may_lose(node)]
    lost = [node for node in able if node in atlas.lost]
    fresh = [node for node in able if node not in atlas.lost][: atlas.left]
    if story.cluster.definition.guarantees.dynamic_membership:
        wanted = 1  # a second lost disk could leave too few intact ones
    return (fresh + lost)[:wanted] if story.chance(0.5) else (lost + fresh)[:wanted]


STORIES: Final[dict[str, Callable[[StoryRunner], Story]]] = {
    "candidate": candidate,
    "depose": depose,
    "forget": forget,
    "handover": handover,
    "pause": pause,
    "strand": strand,
}
