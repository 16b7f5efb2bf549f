"""Paxos, view changes and replication in small worlds, every order of events over the real cores."""

from collections.abc import Collection
from typing import Any

import msgspec
import pytest

from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import CoreSetup, ProtocolDefinition
from viewstamp.protocols.viewstamped import DEFINITION, ViewstampedCore
from viewstamp.protocols.viewstamped.judge.oracle import ViewstampedOracle
from viewstamp.protocols.viewstamped.options import ViewstampedOptions
from viewstamp.protocols.viewstamped.paxos import Proposal
from viewstamp.sim.explorer import Bounds, Exploration, Explorer

OPTIONS = ViewstampedOptions(log_bytes_max=None, heartbeat_misses_max=2)
"""Two missed pings are a death: a view is doubted after three deadlines instead of five."""
ROUNDS = 8


class OneStepOracle(ViewstampedOracle):
    """Looks at one step at a time: what others did belongs to the world, not to this oracle."""

    def forget(self, node: NodeId) -> None:
        ViewstampedOracle.__init__(self, self._members)


EXPLORED = msgspec.structs.replace(DEFINITION, make_oracle=OneStepOracle)


def explore(
    size: int, definition: ProtocolDefinition = EXPLORED, *, rounds: int = ROUNDS, **bounds: Any
) -> Exploration:
    explorer = Explorer(definition, options=OPTIONS, bounds=Bounds(**bounds), size=size, settle_rounds=rounds)
    return explorer.explore()


def test_one_command_in_a_view_of_three_when_it_is_ordered_in_every_way() -> None:
    found = explore(3, timeouts=0, proposals=1, crashes=0, messages_max=8)
    assert found.violation is None
    assert found.complete
    assert found.depth >= 5


def test_bootstrap_when_messages_come_in_every_order() -> None:
    found = explore(2, rounds=0, timeouts=3, proposals=0, crashes=1, messages_max=4, states_max=4_000)
    assert found.violation is None


@pytest.mark.slow
def test_small_worlds_when_60_000_states_are_visited_hold_every_invariant() -> None:
    worlds = [
        explore(2, timeouts=4, proposals=1, crashes=1, messages_max=4, states_max=15_000),
        explore(3, timeouts=5, proposals=1, crashes=1, depth_first=True, states_max=20_000),
        explore(3, timeouts=5, proposals=0, crashes=1, messages_max=4, states_max=15_000),
        explore(3, timeouts=6, proposals=1, crashes=1, slow_disks=True, depth_first=True, states_max=10_000),
    ]
    assert [world.violation for world in worlds] == [None] * 4
    assert sum(world.states for world in worlds) >= 60_000


class Half(Proposal):
    """Half of the members is enough for it."""

    __slots__ = ()

    def may_propose(self, members: Collection[NodeId], forgot: Collection[NodeId] = ()) -> bool:
        return self.phase == "preparing" and 2 * len(self.promisers) >= len(members)

    def has_chosen(self, members: Collection[NodeId], forgot: Collection[NodeId] = ()) -> bool:
        return self.phase == "accepting" and 2 * len(self.accepters) >= len(members)


def sabotaged(proposer: type[Proposal]) -> ProtocolDefinition:
    def make_core(setup: CoreSetup) -> ViewstampedCore:
        core = ViewstampedCore(setup)
        core.views.proposal = proposer()
        return core

    return msgspec.structs.replace(EXPLORED, make_core=make_core)


def test_views_that_half_of_the_members_chose_are_found_with_the_shortest_story() -> None:
    found = explore(2, sabotaged(Half), timeouts=6, proposals=0, crashes=0, messages_max=2)
    assert found.violation is not None
    assert found.violation.startswith("I24 ViewAgreement")
    assert found.path == (
        *("node 1: wake", "1 -> 2: ping in view 2", "node 1: wake", "node 1: wake"),
        *("node 2: wake", "node 2: wake"),
    )
