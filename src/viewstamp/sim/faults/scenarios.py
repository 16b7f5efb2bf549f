"""Short scripted scenarios, in which `search.py` lets single messages go wrong.

Each brings about one transition that a protocol must get right whatever happens to one message of it: a
snapshot for a member that was left behind, a member that comes back with or without its disk, another
leader after a crash, a cut or a request, two members that want to lead at once, a restart of all.

Rules of this file: a scenario uses only the methods of `ScenarioStage`, so it fits any protocol; messages are
numbered from `begin` on; at its end it leaves nothing cut, and no server down that it stopped itself.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from viewstamp.core.events import TransferLeadership
from viewstamp.core.ids import ClientAddress, Instant, NodeId
from viewstamp.core.messages import AdminRequest, encode_message
from viewstamp.core.principals import LOCAL_OPERATOR
from viewstamp.replica.events import Outcome, Requested, Returned
from viewstamp.sim.cluster.scenario import Scenario
from viewstamp.sim.faults.single_faults import SingleFaults
from viewstamp.sim.workloads.clients import Plan, SimClient
from viewstamp.sim.workloads.workload import Tally
from viewstamp.sim.world.options import DiskOptions, NetworkOptions

_CALL_US: Final = 2_000_000
_THINK_US: Final = 25_000
_KEYS: Final = 4
_LEFT_BEHIND_S: Final = 1.2
"""Long enough that the others go on without a member and compact what it would need."""
_PATIENCE_S: Final = 5.0
_SLACK: Final = 3
"""Entries that a member may be behind while there is load."""
_CALM: Final = NetworkOptions()
_SLOW_DISK: Final = DiskOptions(slow_snapshots=1.0, stall_max_us=600_000)
_SMALL: Final = {"log_bytes_max": 800, "snapshot_chunk_bytes": 40, "snapshot_window_chunks": 2}
"""A snapshot every dozen entries or so, and three pieces to each."""


class ScenarioStage:
    """A small cluster under a little load, in which the faults of a trial are injected."""

    def __init__(self, protocol: str, servers: int, planned: Mapping[int, str], seed: int) -> None:
        self.scenario = Scenario(Tally, servers, seed=seed, network=_CALM, protocol=protocol, **_SMALL)
        self.cluster = self.scenario.cluster
        self.by_operator = self.cluster.definition.decided_by == "operator"
        """Whether a member leads only after an operator asked it to."""
        self.faults = SingleFaults(self.scenario, planned)
        self.answered = 0
        """Calls that have their results."""
        self.lost: set[NodeId] = set()
        """Servers whose disk the scenario has wiped."""
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

    # State

    def leader(self) -> NodeId:
        """Return the leader, the one of the highest view where there are several."""
        assert self.scenario.wait(lambda: bool(self.cluster.leaders()), _PATIENCE_S), "there is no leader"
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
        """Return whether all are up and up to date, wait for nothing, and follow one leader in one view."""
        ghosts, members = self.cluster.judge.ghosts, self.scenario.members
        cores = [core for node in members if (core := ghosts.nodes[node].core) is not None]
        if len(cores) < len(members) or not ghosts.committed.length:
            return False
        if any(core.status(Instant(0)).waiting_for for core in cores):
            return False
        following = {(core.view, core.leader) for core in cores}
        led = {leader for _, leader in following} == set(self.cluster.leaders())
        return len(following) == 1 and led and all(self.behind(node) <= _SLACK for node in members)

    # Steps of a scenario

    def begin(self) -> None:
        """Number messages from now on."""
        self.faults.begin()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.scenario.run(seconds)

    def settle(self, more_s: float = 0.1) -> None:
        """Wait until the cluster is settled, at most 5 s, and a moment more."""
        self.run(0.05)
        self.scenario.wait(self.is_settled, _PATIENCE_S)
        self.run(more_s)

    def succeed(self, leader: NodeId) -> None:
        """Wait until another member leads, at most 5 s."""
        self.scenario.wait(lambda: set(self.cluster.leaders()) - {leader} != set(), _PATIENCE_S)

    def crash(self, *nodes: NodeId, wipe: bool = False) -> None:
        """Crash servers, and wipe their disks if asked to."""
        for node in nodes:
            self.scenario.crash(node)
            if wipe:
                self.cluster.processes[node].wipe()
                self.lost.add(node)

    def start(self, *nodes: NodeId) -> None:
        """Start servers that are down."""
        for node in nodes:
            self.faults.start(node)

    def slow_disk(self, node: NodeId) -> None:
        """From now on this disk needs several heartbeats for a snapshot, and for each piece of one."""
        self.cluster.processes[node].disk_options = _SLOW_DISK

    def steady(self) -> None:
        """Heal the network, and make all disks fast again."""
        self.scenario.heal()
        for process in self.cluster.processes.values():
            process.disk_options = DiskOptions()

    def pause(self, node: NodeId, seconds: float) -> None:
        """Stop a server for a while, and wait."""
        self.cluster.processes[node].pause(int(seconds * 1_000_000))
        self.run(seconds)

    def ask_to_lead(self, heir: NodeId) -> None:
        """Let an operator ask for this leader: the present leader is asked, or the heir where none elects."""
        asked = heir if self.by_operator else self.leader()
        if self.cluster.processes[asked].running:
            message = AdminRequest(1, TransferLeadership(heir))
            address = ClientAddress(next(self.cluster.host.addresses))
            self.cluster.processes[asked].feed(
                Requested(address, message, encode_message(message), LOCAL_OPERATOR)
            )


def _lagging(stage: ScenarioStage) -> None:
    """A member was cut off for long, and comes back while commands go on."""
    late = stage.others()[-1]
    stage.scenario.disconnect(late)
    stage.run(_LEFT_BEHIND_S)
    stage.begin()
    stage.scenario.connect(late)
    stage.settle(0.3)


def _lagging_down(stage: ScenarioStage) -> None:
    """A member was down for long."""
    late = stage.others()[-1]
    stage.crash(late)
    stage.run(_LEFT_BEHIND_S)
    stage.begin()
    stage.start(late)
    stage.settle(0.3)


def _lagging_slow_disk(stage: ScenarioStage) -> None:
    """A member comes back; its snapshot takes long to arrive and long to write."""
    late = stage.others()[-1]
    stage.crash(late)
    stage.slow_disk(late)
    stage.run(_LEFT_BEHIND_S)
    stage.begin()
    stage.start(late)
    stage.settle(0.3)


def _member_paused(stage: ScenarioStage) -> None:
    """A member stops until the others are about to go on without it."""
    node = stage.others()[-1]
    stage.begin()
    stage.pause(node, 0.45)
    stage.settle()


def _leader_paused(stage: ScenarioStage) -> None:
    """The leader stops until the others have elected another one, or nearly."""
    node = stage.leader()
    stage.begin()
    stage.pause(node, 0.6)
    stage.settle()


def _wiped(stage: ScenarioStage) -> None:
    """A member comes back with a wiped disk, before the others noticed that it was gone."""
    lost = stage.others()[-1]
    stage.begin()
    stage.crash(lost, wipe=True)
    stage.run(0.02)
    stage.start(lost)
    stage.settle(0.3)


def _wiped_leader(stage: ScenarioStage) -> None:
    """The leader comes back with a wiped disk."""
    lost = stage.leader()
    stage.begin()
    stage.crash(lost, wipe=True)
    stage.run(0.02)
    stage.start(lost)
    stage.settle(0.3)


def _restarted(stage: ScenarioStage) -> None:
    """A member restarts quickly."""
    node = stage.others()[-1]
    stage.begin()
    stage.crash(node)
    stage.run(0.05)
    stage.start(node)
    stage.settle()


def _restarted_leader(stage: ScenarioStage) -> None:
    """The leader restarts quickly."""
    node = stage.leader()
    stage.begin()
    stage.crash(node)
    stage.run(0.05)
    stage.start(node)
    stage.settle()


def _leader_lost(stage: ScenarioStage) -> None:
    """The leader crashes, another one leads, and it comes back."""
    node = stage.leader()
    stage.begin()
    stage.crash(node)
    stage.succeed(node)
    stage.run(0.2)
    stage.start(node)
    stage.settle()


def _leader_cut_off(stage: ScenarioStage) -> None:
    """The leader is cut off, another one leads, and it is connected again."""
    node = stage.leader()
    stage.begin()
    stage.scenario.disconnect(node)
    stage.succeed(node)
    stage.run(0.6)
    stage.scenario.connect(node)
    stage.settle()


def _member_lost(stage: ScenarioStage) -> None:
    """A member crashes, and comes back after the others have gone on without it."""
    node = stage.others()[-1]
    stage.begin()
    stage.crash(node)
    stage.run(0.9)
    stage.start(node)
    stage.settle()


def _two_lost(stage: ScenarioStage) -> None:
    """A member and the leader crash one right after the other, and come back in the other order."""
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


def _two_proposers(stage: ScenarioStage) -> None:
    """Two members want to lead at once, and the old leader is down."""
    leader, (first, second, *_) = stage.leader(), stage.others()
    stage.begin()
    stage.ask_to_lead(first)
    if stage.by_operator:
        stage.ask_to_lead(second)
    stage.run(0.003)
    stage.crash(leader)
    stage.run(1.0)
    stage.start(leader)
    stage.settle()


def _transfer(stage: ScenarioStage) -> None:
    """Leadership is handed over."""
    heir = stage.others()[0]
    stage.begin()
    stage.ask_to_lead(heir)
    stage.run(0.3)
    stage.settle()


def _all_restart(stage: ScenarioStage) -> None:
    """All crash at once, and start at once."""
    stage.begin()
    stage.crash(*stage.scenario.members)
    stage.run(0.02)
    stage.start(*stage.scenario.members)
    stage.settle()


class FaultScenario(msgspec.Struct, frozen=True):
    """A script and the number of servers that it needs."""

    script: Callable[[ScenarioStage], None]
    servers: int = 3


SCENARIOS: Final[dict[str, FaultScenario]] = {
    "lagging": FaultScenario(_lagging),
    "lagging-down": FaultScenario(_lagging_down),
    "lagging-slow-disk": FaultScenario(_lagging_slow_disk),
    "wiped": FaultScenario(_wiped),
    "wiped-leader": FaultScenario(_wiped_leader),
    "restarted": FaultScenario(_restarted),
    "restarted-leader": FaultScenario(_restarted_leader),
    "leader-lost": FaultScenario(_leader_lost),
    "leader-lost-of-4": FaultScenario(_leader_lost, 4),
    "leader-cut-off": FaultScenario(_leader_cut_off),
    "leader-paused": FaultScenario(_leader_paused),
    "member-paused": FaultScenario(_member_paused),
    "member-paused-of-5": FaultScenario(_member_paused, 5),
    "member-lost": FaultScenario(_member_lost),
    "member-lost-of-4": FaultScenario(_member_lost, 4),
    "member-lost-of-5": FaultScenario(_member_lost, 5),
    "two-lost-of-5": FaultScenario(_two_lost, 5),
    "two-proposers": FaultScenario(_two_proposers),
    "two-proposers-of-5": FaultScenario(_two_proposers, 5),
    "transfer": FaultScenario(_transfer),
    "all-restart": FaultScenario(_all_restart),
}
"""Every scenario by its name."""
