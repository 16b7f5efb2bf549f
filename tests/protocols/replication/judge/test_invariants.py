"""What holds of any node with a log is noticed where it does not."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.protocols.raft.harness import Cluster, propose_all
from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.judge import InvariantViolated
from viewstamp.protocols.raft.journal import Replay
from viewstamp.protocols.raft.messages import AppendResponse
from viewstamp.protocols.raft.state import State
from viewstamp.protocols.replication.judge import invariants as judging
from viewstamp.protocols.replication.judge.disk_image import DiskImage
from viewstamp.protocols.replication.sender import Progress


@pytest.fixture
def state() -> State:
    """The state of a leader of term 1 with three entries, all applied."""
    cluster = Cluster(1)
    cluster.elect()
    propose_all(cluster, [b"a", b"b"])
    return cluster.core(1).state


class Places(NamedTuple):
    """Two positions."""

    committed: int
    applied: int


def beyond(state: State) -> None:
    state.committed = state.log.last_seqno + 1


def ahead(state: State) -> None:
    state.applied = state.committed + 1


def durable_beyond(state: State) -> None:
    state.log.durable_seqno = state.log.last_seqno + 1


@pytest.mark.parametrize("spoil", [beyond, ahead, durable_beyond])
def test_order_when_one_position_is_beyond_the_next_is_broken(
    state: State, spoil: Callable[[State], None]
) -> None:
    judging.check_ordering(state, 1)
    spoil(state)
    with pytest.raises(InvariantViolated, match="I9 Ordering"):
        judging.check_ordering(state, 1)


def test_order_when_an_entry_is_of_a_later_view_is_broken(state: State) -> None:
    with pytest.raises(InvariantViolated, match="a later view than 0"):
        judging.check_ordering(state, 0)


def test_followers_when_more_is_matched_or_sent_than_there_is_are_impossible(state: State) -> None:
    follower = Progress(NodeId(2), Incarnation(200), state.log.last_seqno + 1)
    judging.check_followers(state, [follower])
    follower.next += 1
    with pytest.raises(InvariantViolated, match="I9 Ordering"):
        judging.check_followers(state, [follower])
    follower.next = follower.matched
    with pytest.raises(InvariantViolated, match="I9 Ordering"):
        judging.check_followers(state, [follower])


def test_followers_when_a_window_does_not_add_up_are_impossible(state: State) -> None:
    follower = Progress(NodeId(2), Incarnation(200), 1)
    follower.inflight_bytes = 1
    with pytest.raises(InvariantViolated, match="bytes under way of no message"):
        judging.check_followers(state, [follower])
    follower.inflight.extend([(1, 1)] * (state.options.inflight_messages_max + 1))
    with pytest.raises(InvariantViolated, match="I20 Bounded"):
        judging.check_followers(state, [follower])


def test_positions_when_one_went_back_are_named() -> None:
    names = Places._fields
    judging.check_monotonic(NodeId(1), Places(1, 1), Places(2, 1), names)
    with pytest.raises(InvariantViolated, match="I8 Monotonic: node 1: applied went from 1 to 0"):
        judging.check_monotonic(NodeId(1), Places(1, 1), Places(2, 0), names)


def test_committed_entry_when_another_stands_there_is_replaced(state: State) -> None:
    judging.check_committed_stays(state, 2, 1)
    judging.check_committed_stays(state, 99, 1)
    with pytest.raises(InvariantViolated, match="I6 CommittedImmutable"):
        judging.check_committed_stays(state, 2, 2)


def test_acknowledgement_when_the_disk_lacks_the_entry_is_broken(state: State) -> None:
    image = DiskImage(Replay())
    answer = AppendResponse(
        term=1, incarnation=Incarnation(200), matched_view=1, matched_seqno=3, round=0, reached=0
    )
    assert judging.matched_by(answer) == (200, Viewstamp(View(1), Seqno(3)))
    assert "entry 1.3" in (judging.broken_match(image, answer) or "")
    assert (
        judging.broken_match(
            image,
            AppendResponse(
                term=1, incarnation=Incarnation(200), matched_view=0, matched_seqno=0, round=0, reached=0
            ),
        )
        is None
    )


def test_believed_positions_when_one_is_outside_the_log_have_no_view(state: State) -> None:
    known, strange = Progress(NodeId(2), Incarnation(200), 4), Progress(NodeId(3), Incarnation(300), 4)
    known.matched, strange.matched = 3, 9
    assert list(judging.believed(state.log, [known, strange])) == [(2, 200, 3, 1), (3, 300, 9, None)]
