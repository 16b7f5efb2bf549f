"""Which numbers a message may hold, when a leader counts as heard, and what a reply waits for."""

from collections.abc import Callable

import pytest

from tests.protocols.primary_backup.fenced_world import FencedWorld, bootstrapped
from tests.protocols.raft.harness import Cluster
from viewstamp.core.effects import Send
from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.primary_backup.messages import StaleEpoch
from viewstamp.protocols.raft.messages import StaleTerm
from viewstamp.protocols.replication.node_state import NUMBER_MAX, NodeState, in_range


def test_numbers_when_they_are_out_of_range() -> None:
    assert in_range(0, 1, NUMBER_MAX)
    assert not in_range(0, -1)
    assert not in_range(NUMBER_MAX + 1)


def raft_follower() -> NodeState:
    state = Cluster(3).core(1).state
    state.leader = NodeId(2)
    return state


def backup() -> NodeState:
    return bootstrapped(3).core(1).state


@pytest.mark.parametrize("make_state", [raft_follower, backup])
def test_leader_has_a_claim_while_it_is_heard(make_state: Callable[[], NodeState]) -> None:
    state = make_state()
    claims = []
    state.heard_leader_at, state.suspected = state.now, False
    claims.append(state.has_live_leader)
    state.now = Instant(state.now + state.leader_silence_us)
    claims.append(state.has_live_leader)
    state.heard_leader_at, state.suspected = state.now, False
    state.suspected = True  # its connection broke
    claims.append(state.has_live_leader)
    assert claims == [True, False, False]


def test_reply_waits_for_the_promise_and_not_for_entries() -> None:
    world = FencedWorld(1)
    state = world.core(0).state
    state.outbox.take()
    state.outbox.persist(b"an entry")
    state.reply(NodeId(1), StaleEpoch(1))
    assert [type(effect) for effect in state.outbox.take()][-1] is Send, "at once"
    state.promise_write = state.outbox.persist(b"a promise")
    state.reply(NodeId(1), StaleTerm(1))
    assert Send not in [type(effect) for effect in state.outbox.take()], "when the promise is on disk"
