"""Raft in small worlds, every order of events: the same cores as everywhere, no chance, no sampling."""

from typing import Any

import msgspec
import pytest

from tests.protocols.raft.harness import Cluster
from viewstamp.core.effects import Effect
from viewstamp.core.events import Event
from viewstamp.core.ids import Instant
from viewstamp.core.protocol import CoreSetup, ProtocolDefinition
from viewstamp.protocols.raft import DEFINITION, RaftCore, RaftOptions
from viewstamp.protocols.raft.election import Election
from viewstamp.protocols.raft.journal import HardState, decode_record
from viewstamp.protocols.raft.messages import RequestVote
from viewstamp.protocols.replication.log import encode_record
from viewstamp.sim.explorer import Bounds, Exploration, Explorer
from viewstamp.sim.structural_copy import Copier

OPTIONS = RaftOptions(log_bytes_max=None)


def explore(size: int, definition: ProtocolDefinition = DEFINITION, **bounds: Any) -> Exploration:
    explorer = Explorer(definition, options=OPTIONS, bounds=Bounds(**bounds), size=size)
    return explorer.explore()


def test_three_nodes_when_one_command_is_ordered_in_every_way() -> None:
    found = explore(3, timeouts=1, proposals=1, crashes=0)
    assert found.violation is None
    assert found.complete
    assert found.states > 7_000
    assert found.depth >= 18


def test_founding_when_messages_come_in_every_order() -> None:
    explorer = Explorer(
        DEFINITION,
        options=OPTIONS,
        bounds=Bounds(timeouts=1, proposals=0, crashes=1, messages_max=8),
        size=2,
        settle_first=False,
    )
    found = explorer.explore()
    assert found.violation is None
    assert found.complete


@pytest.mark.slow
def test_small_worlds_when_500_000_states_are_visited_hold_every_invariant() -> None:
    worlds = [
        explore(2, timeouts=3, proposals=1, crashes=1),
        explore(3, timeouts=2, proposals=0, crashes=0, messages_max=4),
        explore(3, timeouts=4, proposals=2, crashes=2, depth_first=True, states_max=40_000),
        explore(2, timeouts=2, proposals=1, crashes=1, slow_disks=True, doubles=1, states_max=40_000),
        explore(3, timeouts=2, proposals=0, crashes=1, wipes=1, messages_max=4, states_max=20_000),
    ]
    assert [world.violation for world in worlds] == [None] * 5
    assert [world.complete for world in worlds[:2]] == [True, True]
    assert sum(world.states for world in worlds) >= 500_000


def test_search_when_it_is_repeated_is_the_same() -> None:
    one, other = (explore(3, timeouts=2, proposals=1, crashes=1, states_max=5_000) for _ in range(2))
    assert (one.states, one.transitions, one.values) == (other.states, other.transitions, other.values)


def forgets_its_vote(setup: CoreSetup) -> RaftCore:
    """A node that reads its term back, and not its vote."""

    def without_vote(record: bytes) -> bytes:
        read = decode_record(record)
        return encode_record(HardState(read.term, None)) if isinstance(read, HardState) else record

    recovered = setup.recovered
    writes = [(seq, tuple(map(without_vote, records))) for seq, records in recovered.writes]
    changed = msgspec.structs.replace(recovered, writes=writes)
    return RaftCore(msgspec.structs.replace(setup, recovered=changed))


def test_vote_when_a_restart_forgets_it_is_found_with_the_shortest_story() -> None:
    definition = msgspec.structs.replace(DEFINITION, make_core=forgets_its_vote)
    found = explore(3, definition, timeouts=2, proposals=0, crashes=1, messages_max=3)
    assert found.violation is not None
    assert found.violation.startswith("I1 ElectionSafety")
    assert len(found.path) == 12
    assert "node 2: crash" in found.path


class Hasty(RaftCore):
    """A node whose disk is always taken to be done."""

    __slots__ = ()

    def step(self, event: Event, now: Instant) -> Any:
        effects: list[Effect] = list(super().step(event, now))
        self.state.outbox.durable = self.state.outbox.written
        self.state.promise_write = type(self.state.outbox.written)(0)
        return effects


def test_promise_when_it_does_not_wait_for_the_disk_is_found() -> None:
    definition = msgspec.structs.replace(DEFINITION, make_core=Hasty)
    found = explore(3, definition, timeouts=2, proposals=0, crashes=0, slow_disks=True, states_max=50_000)
    assert found.violation is not None
    assert found.violation.startswith("I11 AckDurable")


class Generous(Election):
    """Grants votes without a look at the logs."""

    __slots__ = ()

    def _may_grant(self, source: Any, request: RequestVote) -> bool:
        return super()._may_grant(
            source, msgspec.structs.replace(request, last_log_term=1 << 40, last_log_index=1 << 40)
        )


class Careless(RaftCore):
    """A node with a generous election."""

    __slots__ = ()

    def __init__(self, setup: CoreSetup) -> None:
        super().__init__(setup)
        self.election = Generous(self.state, self.roles)


def test_vote_when_it_does_not_look_at_the_log_loses_what_is_committed() -> None:
    definition = msgspec.structs.replace(DEFINITION, make_core=Careless)
    found = explore(
        3,
        definition,
        timeouts=3,
        proposals=0,
        crashes=0,
        messages_max=3,
        depth_first=True,
        states_max=400_000,
    )
    assert found.violation is not None
    assert found.violation.startswith("I4 StateMachineSafety")


def test_copy_when_the_original_goes_on_stays_as_it_was() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    core = cluster.core(leader)
    copier = Copier()
    copied = copier.copy(core)
    mark = copier.fingerprint(core, cluster.now)
    assert copier.fingerprint(copied, cluster.now) == mark
    cluster.propose(leader, b"x")
    assert copier.fingerprint(core, cluster.now) != mark
    assert copier.fingerprint(copied, cluster.now) == mark
    assert copied.replication._state is copied.state
    assert copied.replication.sender._send_append.__self__ is copied.replication
    assert copied.status(cluster.now).last.seqno == 1


def test_fingerprint_when_only_time_has_passed_is_the_same() -> None:
    marks = []
    for delay in (0, 7):
        cluster = Cluster(1, start=False)
        cluster.now = Instant(cluster.now + delay * 1_000_000)
        cluster.start(1)
        cluster.run(0)
        marks.append(Copier().fingerprint(cluster.core(1), cluster.now))
    assert marks[0] == marks[1]
