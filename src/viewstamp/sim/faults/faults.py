"""The faults of a run: what happens when and to which node, within what the protocol promises to survive.

Each kind of fault has its own random stream and its own clock, so leaving one out (as shrinking does) changes
no other. The *atlas* (`Atlas`) keeps the faults survivable: it never lets more disks be lost than may be, so
that a valid copy of everything committed remains and a quorum can come back.
"""

from collections.abc import Callable
from random import Random
from typing import Final

from viewstamp.core.events import Directive, TakeSnapshot, TransferLeadership
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Guarantees
from viewstamp.core.quorum import majority
from viewstamp.sim.cluster.cluster import Cluster
from viewstamp.sim.faults.member_changes import MemberChanges
from viewstamp.sim.world.network import Link
from viewstamp.sim.world.options import PartitionMode
from viewstamp.sim.world.world import log_uniform

_SECOND: Final = 1_000_000
_OPERATE_TIMEOUT_US: Final = 3_000_000
Action = Callable[[], None]


class Atlas:
    """Which disks were lost so far, and how many more may be."""

    __slots__ = ("_limit", "lost")

    def __init__(self, nodes: int, guarantees: Guarantees) -> None:
        self._limit = nodes - (majority(nodes) if guarantees.tolerates == "minority" else 1)
        self.lost: set[NodeId] = set()
        """Nodes whose disk was wiped or damaged in this run."""

    @property
    def left(self) -> int:
        """How many disks that were never lost may still be."""
        return self._limit - len(self.lost)

    def may_lose(self, node: NodeId) -> bool:
        """Return whether this node's disk may be lost now."""
        return node in self.lost or self.left > 0

    def lose(self, node: NodeId) -> None:
        """Record that it was lost."""
        self.lost.add(node)


class FaultInjector:
    """Injects the faults of a run until it is stopped."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = self._cluster = cluster
        self._world = cluster.world
        self._options = cluster.options
        self.atlas = Atlas(cluster.options.nodes, cluster.definition.guarantees)
        self.stopped = False
        cluster.on_death = self.restart_later
        tree = cluster.tree
        self._partitioning = tree.stream("faults", "partitions")
        self._clogging = tree.stream("faults", "clogs")
        self._resetting = tree.stream("faults", "resets")
        self._crashing = tree.stream("faults", "crashes")
        self._restarting = tree.stream("faults", "restarts")
        self._rotting = tree.stream("faults", "rot")
        self._pausing = tree.stream("faults", "pauses")
        self._jumping = tree.stream("faults", "jumps")
        self._directing = tree.stream("faults", "directives")
        self._misdirecting = tree.stream("faults", "misdirected")
        self._birth = tree.stream("faults", "birth")
        self._membering = tree.stream("faults", "members")
        self._changes = MemberChanges(cluster, self, self._membering)

    def begin(self) -> None:
        """Schedule the first fault of each kind that this run has."""
        options = self._options
        if options.partitions.mode != "none" and options.nodes > 1:
            self._next(self._partitioning, _SECOND / options.partitions.period_us, self._partition)
        self._next(self._clogging, options.partitions.clog_rate, self._clog)
        self._next(self._resetting, options.partitions.reset_rate, self._reset)
        self._next(self._crashing, options.processes.crash_rate, self._crash)
        self._next(self._crashing, options.processes.crash_all_rate, self._crash_all)
        self._next(self._pausing, options.processes.pause_rate, self._pause)
        self._next(self._jumping, options.processes.jump_rate, self._jump)
        self._next(self._directing, options.load.transfer_rate, self._transfer)
        self._next(self._directing, options.load.snapshot_rate, self._take_snapshot)
        self._next(self._misdirecting, options.disk.misdirect_rate, self._misdirect)
        self._next(self._membering, options.membership.rate, self._changes.change)

    def spoil_bootstrap(self) -> None:
        """Schedule crashes with a lost disk while the cluster bootstraps."""
        for _ in range(self._options.processes.bootstraps_spoiled):
            self._world.after(int(log_uniform(self._birth, 100, 500_000)), self._spoil_bootstrap)

    def stop(self) -> None:
        """Inject nothing more, and heal the network."""
        self.stopped = True
        self._replace_disks()
        self._cluster.network.heal()
        self._cluster.network.unclog()

    def _replace_disks(self) -> None:
        """Give an empty disk to each node that is down with a damaged one: it may refuse to start.

        Not to a member that the others cannot do without: it has started with that damage before.
        """
        for node, process in self._cluster.processes.items():
            if not process.running and process.files.rotten and self.may_lose(node):
                self.wipe(node)

    def _next(self, rng: Random, rate: float, action: Action) -> None:
        """Run the action after a random time; rate is per second, 0: never."""
        if rate:
            self._world.after(int(rng.expovariate(rate) * _SECOND) + 1, self._happen, rng, rate, action)

    def _happen(self, rng: Random, rate: float, action: Action) -> None:
        if not self.stopped:
            action()
            self._next(rng, rate, action)

    # Network

    def _partition(self) -> None:
        rng, options = self._partitioning, self._options.partitions
        members = list(self._cluster.members)
        rng.shuffle(members)
        links = cut_links(options.mode, members, rng)
        links |= self._cut_clients(links, rng)
        if options.one_way:
            links = {link for link in links if link < link[::-1]}
            self._cluster.counts["partition one way"] += 1
        self._cluster.network.cut(links)
        self._count("partition", mode=options.mode, links=len(links))
        self._world.after(int(rng.expovariate(1 / options.length_us)) + 1, self._heal, links)

    def _cut_clients(self, links: set[Link], rng: Random) -> set[Link]:
        """Put some clients on one side: behind the cut of a random member."""
        if rng.random() < 0.5:
            return set()
        clients = [name for name in self._cluster.clients if rng.random() < 0.5]
        behind = rng.choice(self._cluster.members)
        unreachable = {to for source, to in links if source == behind}
        pairs = {(client, server) for client in clients for server in unreachable}
        return pairs | {(server, client) for client, server in pairs}

    def _heal(self, links: set[Link]) -> None:
        if not self.stopped and links:
            self._cluster.network.cut(set())

    def _clog(self) -> None:
        rng, options = self._clogging, self._options.partitions
        members = list(self._cluster.members)
        rng.shuffle(members)
        chosen = members if rng.random() < options.swizzle else members[:1]
        self._count("swizzle" if len(chosen) > 1 else "clog", nodes=len(chosen))
        for node in chosen:
            until = self._world.now_us + rng.randrange(1, options.clog_max_us)
            for other in self._cluster.members:
                self._cluster.network.clog(other, node, until)
                self._cluster.network.clog(node, other, until)

    def _reset(self) -> None:
        rng = self._resetting
        node = rng.choice(self._cluster.members)
        if self._cluster.clients and rng.random() < 0.5:
            client = rng.choice(list(self._cluster.clients.values()))
            client.break_all(node)
            self._cluster.counts["client connection reset"] += 1
        elif len(self._cluster.running) > 1:
            self._cluster.reset(*rng.sample(self._cluster.running, 2))

    # Processes

    def _crash(self) -> None:
        running = self._cluster.running
        if running and self._may_stop_one():
            node = self._crashing.choice(running)
            leaders = self._cluster.leaders()
            if leaders and self._crashing.random() < 0.4:
                node = leaders[0]
            power = self._crashing.random() < 0.7
            if self._cluster.operator.may_stop(node):
                self._cluster.crash(node, power=power)
                self.restart_later(node)

    def _may_stop_one(self) -> bool:
        survives = self._cluster.definition.guarantees.survives_full_restart
        return survives or len(self._cluster.running) > 1

    def _crash_all(self) -> None:
        self._count("all crashed")
        for node in self._cluster.running:
            self._cluster.crash(node)
            self.restart_later(node)

    def restart_later(self, node: NodeId) -> None:
        """Start a server that is down after a drawn delay, perhaps with a lost or damaged disk."""
        options = self._options.processes
        delay = log_uniform(
            self._restarting, options.restart_min_us, max(options.restart_max_us, options.restart_min_us + 1)
        )
        self._world.after(int(delay), self._restart, node)

    def _spoil_bootstrap(self) -> None:
        cluster = self._cluster
        # Where views are agreed on, the first member is a cluster by itself until others join.
        fit = cluster.members[1 if cluster.definition.guarantees.agreed_views else 0 :]
        node = self._birth.choice(fit)
        # Before the first entry is committed there is nothing to lose, and no node owes progress yet.
        unborn = cluster.judge.ghosts.committed.length == 0
        may_lose = self.atlas.may_lose(node) if unborn else self.may_lose(node)
        if not self.stopped and self._cluster.processes[node].running and may_lose:
            self._cluster.crash(node)
            self.wipe(node)
            self._count("bootstrap spoiled", of=node)
            self._world.after(int(log_uniform(self._birth, 100, 300_000)), self.revive, node)

    def _restart(self, node: NodeId) -> None:
        process = self._cluster.processes[node]
        if self.stopped or process.running:
            return
        if self._restarting.random() < self._options.processes.amnesia and self.may_lose(node):
            self.wipe(node)
        elif self._rotting.random() < self._options.disk.bit_rot and self.may_lose(node):
            self._rot(node)
        self.revive(node)

    def revive(self, node: NodeId) -> None:
        """Start a server if it is down; one whose disk refuses comes back empty, as its message asks."""
        cluster = self._cluster
        process = cluster.processes[node]
        if self.stopped or process.running:
            return
        cluster.counts["restart"] += 1
        if process.files.misdirected:
            # Within the atlas: a log that lacks its end without a trace has to be known to be damaged.
            self.wipe(node)
        if not cluster.start(node) and process.damaged:
            # The operator does what the message says: away with the directory, the node comes back empty.
            self.wipe(node)
            self.restart_later(node)

    def may_lose(self, node: NodeId) -> bool:
        """Return whether this disk may be lost now: the others owe progress without what it holds."""
        cluster = self._cluster
        others = [
            other for other in cluster.members if other != node and not cluster.processes[other].damaged
        ]
        if self._changes.shrinks_until_us > cluster.world.now_us:
            return False
        return self.atlas.may_lose(node) and cluster.owes_progress(others)

    def wipe(self, node: NodeId) -> None:
        """Lose the disk of a server that is down."""
        self.atlas.lose(node)
        self._cluster.processes[node].wipe()
        self._cluster.counts["disk wiped"] += 1

    def _rot(self, node: NodeId) -> None:
        """Damage what a server that is down has on its disk, if it has anything."""
        if self._cluster.processes[node].rot():
            self.atlas.lose(node)
            self._cluster.counts["bit rot"] += 1

    def _misdirect(self) -> None:
        """Let the next write of a server land elsewhere, and end the server soon, so that it is read back."""
        rng = self._misdirecting
        fit = [node for node in self._cluster.running if self.may_lose(node)]
        if fit:
            node = rng.choice(fit)
            self.atlas.lose(node)
            self._cluster.processes[node].displace(rng.choice((-1, 1)) * rng.randint(1, 16))
            self._world.after(int(log_uniform(rng, 1_000, 3_000_000)), self._end_misdirected, node)

    def _end_misdirected(self, node: NodeId) -> None:
        if not self.stopped and self._cluster.processes[node].running and self._may_stop_one():
            self._cluster.crash(node, power=self._misdirecting.random() < 0.5)
            self.restart_later(node)

    def _pause(self) -> None:
        if self._cluster.running:
            rng = self._pausing
            node = rng.choice(self._cluster.running)
            self._cluster.processes[node].pause(rng.randrange(1, self._options.processes.pause_max_us))
            self._cluster.counts["pause"] += 1

    def _jump(self) -> None:
        rng = self._jumping
        node = rng.choice(self._cluster.members)
        forward = int(log_uniform(rng, 1_000, self._options.processes.jump_max_us))
        self._cluster.processes[node].clock.jump(self._world.now_us, forward)
        self._count("clock jump", of=node, forward_us=forward)

    # Operators

    def _transfer(self) -> None:
        self._direct(TransferLeadership(self._directing.choice((None, *self._cluster.members))), "transfer")

    def _take_snapshot(self) -> None:
        self._direct(TakeSnapshot(), "snapshot asked for")

    def _direct(self, directive: Directive, what: str) -> None:
        node = self._directing.choice(self._cluster.members)
        leaders = self._cluster.leaders()
        if leaders and self._directing.random() < 0.7:
            node = leaders[0]
        self.direct(directive, what, to=node)

    def direct(self, directive: Directive, what: str, *, to: NodeId) -> None:
        """Let an operator ask this of a server, over some client's connection."""
        clients = [client for client in self._cluster.clients.values() if not client.closed]
        if clients:
            self._directing.choice(clients).operate(to, directive, _OPERATE_TIMEOUT_US)
            self._cluster.counts[what] += 1

    def _count(self, what: str, **fields: object) -> None:
        self._cluster.counts[what] += 1
        self._cluster.trace.note(self._world.now_us, what, -1, **fields)


def cut_links(mode: PartitionMode, shuffled: list[NodeId], rng: Random) -> set[Link]:
    """Return the links that a partition of this kind cuts, both ways, among members in random order."""
    size = len(shuffled)
    apart: set[tuple[NodeId, NodeId]] = set()
    match mode:
        case "isolate":
            apart = {(shuffled[0], other) for other in shuffled[1:]}
        case "split":
            border = rng.randint(1, size - 1)
            apart = {(left, right) for left in shuffled[:border] for right in shuffled[border:]}
        case "bridge":
            # One member sees both halves, which do not see each other.
            middle = 1 + (size - 1) // 2
            apart = {(left, right) for left in shuffled[1:middle] for right in shuffled[middle:]}
        case "ring":
            # Each member sees only the next and the one before.
            apart = {
                (left, right)
                for place, left in enumerate(shuffled)
                for other, right in enumerate(shuffled)
                if left != right and (place - other) % size not in {1, size - 1}
            }
        case "none":
            pass
    return {*apart, *((right, left) for left, right in apart)}
