"""Short scripted plays: what a cluster lives through while single messages go wrong (`search.py`).

Each play brings about one transition that a protocol must get right whatever happens to one message of it: a
snapshot for a member that was left behind, a member that comes back with or without its memory, another
leader after a loss, a cut or a request, two who want to lead at once, a restart of all.

Rules of this file: a play is told in the words of `Stage`, for any protocol; messages are numbered from
`begin` on; at its end it leaves nothing cut, and nobody down whom it took down itself.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from viewstamp.core.events import TransferLeadership
from viewstamp.core.ids import ClientAddress, Instant, NodeId
from viewstamp.core.messages import AdminRequest, encode_message
from viewstamp.replica.events import Outcome, Requested, Returned
from viewstamp.sim.cluster.scenario import Scenario
from viewstamp.sim.faults.single_faults import Mishaps
from viewstamp.sim.workloads.clients import Plan, SimClient
from viewstamp.sim.workloads.workload import Tally
from viewstamp.sim.world.options import DiskOptions, NetworkOptions

_CALL_US: Final = 2_000_000
_THINK_US: Final = 25_000
_KEYS: Final = 4
_LEFT_BEHIND_S: Final = 1.2
"""Long enough that the others go on without a member and forget what it would need."""
_PATIENCE_S: Final = 5.0
_SLACK: Final = 3
"""So many entries a member may be behind while there is load."""
_CALM: Final = NetworkOptions()
_SLOW_DISK: Final = DiskOptions(slow_snapshots=1.0, stall_max_us=600_000)
_SMALL: Final = {"log_bytes_max": 800, "snapshot_chunk_bytes": 40, "snapshot_window_chunks": 2}
"""A snapshot every dozen entries or so, and three pieces to each."""


class Stage:
    """A small cluster under a little load, of whose messages some go wrong."""

    def __init__(self, protocol: str, servers: int, planned: Mapping[int, str], seed: int) -> None:
        self.scenario = Scenario(Tally, servers, seed=seed, network=_CALM, protocol=protocol, **_SMALL)
        self.cluster = self.scenario.cluster
        self.by_operator = self.cluster.definition.decided_by == "operator"
        """Whether nobody leads without having been told to."""
        self.mishaps = Mishaps(self.scenario, planned)
        self.answered = 0
        """Calls that have their results."""
        self.lost: set[NodeId] = set()
        """Whose disk the play has wiped."""
        self.loading = True
        self._made = 0
        self._client = self.cluster.add_client(self)
        self._call()

    # Load

    def completed(self, client: SimClient, plan: Plan | None, outcome: Outcome) -> None:
        """A call ended: make the next one soon."""
        del client, plan
        self.answered += isinstance(outcome, Returned)
        self.scenario.world.after(_THINK_US, self._call)

    def _call(self) -> None:
        if self.loading:
            self._made += 1
            key = f"k{self._made % _KEYS}"
            read = Plan("linearizable", "read", key)
            self._client.invoke(
                read if self._made % _KEYS == 0 else Plan("command", "add", key, (1,)), _CALL_US
            )

    @property
    def calls(self) -> int:
        """How many calls are open."""
        return len(self._client.calls)

    # How things stand

    def leader(self) -> NodeId:
        """Return who leads, in the highest view where several believe it."""
        assert self.scenario.wait(lambda: bool(self.cluster.leaders()), _PATIENCE_S), "nobody leads"
        return self.cluster.leaders()[0]

    def others(self) -> list[NodeId]:
        """Return the members that do not lead, lowest first."""
        leader = self.leader()
        return [node for node in self.scenario.members if node != leader]

    def behind(self, node: NodeId) -> int:
        """Return how many committed entries a server that is up has not applied."""
        replica = self.cluster.processes[node].replica
        assert replica is not None
        return self.cluster.judge.ghosts.committed.length - replica.applied.seqno

    def is_settled(self) -> bool:
        """Tell whether all are up and up to date, wait for nothing, and follow one leader in one view."""
        ghosts, members = self.cluster.judge.ghosts, self.scenario.members
        cores = [core for node in members if (core := ghosts.nodes[node].core) is not None]
        if len(cores) < len(members) or not ghosts.committed.length:
            return False
        if any(core.status(Instant(0)).waiting_for for core in cores):
            return False
        following = {(core.view, core.leader) for core in cores}
        led = {leader for _, leader in following} == set(self.cluster.leaders())
        return len(following) == 1 and led and all(self.behind(node) <= _SLACK for node in members)

    # What plays are made of

    def begin(self) -> None:
        """From now on messages are numbered."""
        self.mishaps.begin()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.scenario.run(seconds)

    def settle(self, more_s: float = 0.1) -> None:
        """Wait until all is well again, or a while in vain, and a moment more."""
        self.run(0.05)
        self.scenario.wait(self.is_settled, _PATIENCE_S)
        self.run(more_s)

    def succeed(self, leader: NodeId) -> None:
        """Wait until somebody else leads, or a while in vain."""
        self.scenario.wait(lambda: set(self.cluster.leaders()) - {leader} != set(), _PATIENCE_S)

    def crash(self, *nodes: NodeId, wipe: bool = False) -> None:
        """Take servers down; their disks may be lost."""
        for node in nodes:
            self.scenario.crash(node)
            if wipe:
                self.cluster.processes[node].wipe()
                self.lost.add(node)

    def start(self, *nodes: NodeId) -> None:
        """Start servers that are down."""
        for node in nodes:
            self.mishaps.start(node)

    def slow_disk(self, node: NodeId) -> None:
        """Let snapshots, and each piece of one, take this disk several heartbeats from now on."""
        self.cluster.processes[node].disk_options = _SLOW_DISK

    def steady(self) -> None:
        """Nothing is cut any more, and all disks are as fast as others."""
        self.scenario.heal()
        for process in self.cluster.processes.values():
            process.disk_options = DiskOptions()

    def pause(self, node: NodeId, seconds: float) -> None:
        """Stop a server for a while, and wait."""
        self.cluster.processes[node].pause(int(seconds * 1_000_000))
        self.run(seconds)

    def tell_to_lead(self, heir: NodeId) -> None:
        """Let an operator ask for this leader: the one who leads now, or where nobody elects the heir."""
        asked = heir if self.by_operator else self.leader()
        if self.cluster.processes[asked].running:
            message = AdminRequest(1, TransferLeadership(heir))
            address = ClientAddress(next(self.cluster.host.addresses))
            self.cluster.processes[asked].feed(Requested(address, message, encode_message(message)))


def _lagging(stage: Stage) -> None:
    """A member was cut off for long, and comes back while commands go on."""
    late = stage.others()[-1]
    stage.scenario.disconnect(late)
    stage.run(_LEFT_BEHIND_S)
    stage.begin()
    stage.scenario.connect(late)
    stage.settle(0.3)


def _lagging_down(stage: Stage) -> None:
    """A member was down for long."""
    late = stage.others()[-1]
    stage.crash(late)
    stage.run(_LEFT_BEHIND_S)
    stage.begin()
    stage.start(late)
    stage.settle(0.3)


def _lagging_slow_disk(stage: Stage) -> None:
    """A member comes back whose snapshot is on its way for long, and then in its disk."""
    late = stage.others()[-1]
    stage.crash(late)
    stage.slow_disk(late)
    stage.run(_LEFT_BEHIND_S)
    stage.begin()
    stage.start(late)
    stage.settle(0.3)


def _member_paused(stage: Stage) -> None:
    """A member stops until the others are about to go on without it."""
    node = stage.others()[-1]
    stage.begin()
    stage.pause(node, 0.45)
    stage.settle()


def _leader_paused(stage: Stage) -> None:
    """The leader stops until the others have another one, or nearly."""
    node = stage.leader()
    stage.begin()
    stage.pause(node, 0.6)
    stage.settle()


def _wiped(stage: Stage) -> None:
    """A member comes back without its memory, before anybody has missed it."""
    lost = stage.others()[-1]
    stage.begin()
    stage.crash(lost, wipe=True)
    stage.run(0.02)
    stage.start(lost)
    stage.settle(0.3)


def _wiped_leader(stage: Stage) -> None:
    """The leader comes back without its memory."""
    lost = stage.leader()
    stage.begin()
    stage.crash(lost, wipe=True)
    stage.run(0.02)
    stage.start(lost)
    stage.settle(0.3)


def _restarted(stage: Stage) -> None:
    """A member restarts quickly."""
    node = stage.others()[-1]
    stage.begin()
    stage.crash(node)
    stage.run(0.05)
    stage.start(node)
    stage.settle()


def _restarted_leader(stage: Stage) -> None:
    """The leader restarts quickly."""
    node = stage.leader()
    stage.begin()
    stage.crash(node)
    stage.run(0.05)
    stage.start(node)
    stage.settle()


def _leader_lost(stage: Stage) -> None:
    """The leader dies, another one leads, and it comes back."""
    node = stage.leader()
    stage.begin()
    stage.crash(node)
    stage.succeed(node)
    stage.run(0.2)
    stage.start(node)
    stage.settle()


def _leader_cut_off(stage: Stage) -> None:
    """The leader is cut off, another one leads, and it is heard again."""
    node = stage.leader()
    stage.begin()
    stage.scenario.disconnect(node)
    stage.succeed(node)
    stage.run(0.6)
    stage.scenario.connect(node)
    stage.settle()


def _member_lost(stage: Stage) -> None:
    """A member dies, and comes back after the others have gone on without it."""
    node = stage.others()[-1]
    stage.begin()
    stage.crash(node)
    stage.run(0.9)
    stage.start(node)
    stage.settle()


def _two_lost(stage: Stage) -> None:
    """The leader and a member die one right after the other, and come back in the other order."""
    leader, other = stage.leader(), stage.others()[-1]
    stage.begin()
    stage.crash(other)
    stage.run(0.005)
    stage.crash(leader)
    stage.run(1.5)
    stage.start(leader)
    stage.run(0.1)
    stage.start(other)
    stage.settle()


def _two_proposers(stage: Stage) -> None:
    """Two members want to lead at once, and the one who led is gone."""
    leader, (first, second, *_) = stage.leader(), stage.others()
    stage.begin()
    stage.tell_to_lead(first)
    if stage.by_operator:
        stage.tell_to_lead(second)
    stage.run(0.003)
    stage.crash(leader)
    stage.run(1.0)
    stage.start(leader)
    stage.settle()


def _transfer(stage: Stage) -> None:
    """Leadership is handed over."""
    heir = stage.others()[0]
    stage.begin()
    stage.tell_to_lead(heir)
    stage.run(0.3)
    stage.settle()


def _all_restart(stage: Stage) -> None:
    """All crash at once, and start at once."""
    stage.begin()
    stage.crash(*stage.scenario.members)
    stage.run(0.02)
    stage.start(*stage.scenario.members)
    stage.settle()


class Play(msgspec.Struct, frozen=True):
    """What happens, among how many."""

    tell: Callable[[Stage], None]
    servers: int = 3


PLAYS: Final[dict[str, Play]] = {
    "lagging": Play(_lagging),
    "lagging-down": Play(_lagging_down),
    "lagging-slow-disk": Play(_lagging_slow_disk),
    "wiped": Play(_wiped),
    "wiped-leader": Play(_wiped_leader),
    "restarted": Play(_restarted),
    "restarted-leader": Play(_restarted_leader),
    "leader-lost": Play(_leader_lost),
    "leader-lost-of-4": Play(_leader_lost, 4),
    "leader-cut-off": Play(_leader_cut_off),
    "leader-paused": Play(_leader_paused),
    "member-paused": Play(_member_paused),
    "member-paused-of-5": Play(_member_paused, 5),
    "member-lost": Play(_member_lost),
    "member-lost-of-4": Play(_member_lost, 4),
    "member-lost-of-5": Play(_member_lost, 5),
    "two-lost-of-5": Play(_two_lost, 5),
    "two-proposers": Play(_two_proposers),
    "two-proposers-of-5": Play(_two_proposers, 5),
    "transfer": Play(_transfer),
    "all-restart": Play(_all_restart),
}
"""Every play by its name."""
