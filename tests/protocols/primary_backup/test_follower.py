"""The backup: what it accepts, refuses and acknowledges."""

import pytest

from tests.protocols.primary_backup.fenced_world import FencedWorld, bootstrapped
from viewstamp.core.effects import Send
from viewstamp.core.events import (
    PeerDown,
    PeerUp,
    Persisted,
    Received,
)
from viewstamp.core.ids import NodeId
from viewstamp.protocols.primary_backup.messages import (
    AppendEntries,
    AppendResponse,
    StaleEpoch,
)
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, encode_record


def append(
    world: FencedWorld, source: int, epoch: int, after: int, *entries: bytes, committed: int = 0
) -> Received:
    """Return a message to node 2: entries behind the one at `after`, which was made in epoch 1."""
    message = AppendEntries(
        epoch=epoch,
        to=world.nodes[NodeId(2)].incarnation,
        previous_view=1,
        previous_seqno=after,
        entries=list(entries),
        committed=committed,
        round=0,
        attempt=0,
        record=None,
    )
    return Received(NodeId(source), message)


def test_entries_of_an_older_primary_are_refused_when_the_epoch_is_over() -> None:
    world = bootstrapped(3)
    world.promote(1, 1)
    world.run(300)
    before = world.core(2).state.log.last
    world.feed(2, append(world, 0, 1, 1, committed=99))
    assert world.core(2).state.log.last == before
    assert world.core(2).state.committed <= before.seqno
    assert [letter.message for letter in world.letters] == [StaleEpoch(2)], "it learns that its epoch is over"


def test_second_primary_in_one_epoch_is_dropped_when_it_is_heard() -> None:
    world = bootstrapped(3)
    world.settle()
    world.feed(2, append(world, 1, 1, 1))
    assert world.core(2).state.counters["second primary in one epoch"] == 1


def test_acknowledgement_is_taken_back_when_its_epoch_ends_before_the_promise_is_on_disk() -> None:
    world = bootstrapped(3)
    world.settle()
    core = world.core(2)
    end = core.state.log.last.seqno
    first, other = (encode_record(EntryRecord(epoch, end + 1, COMMAND, b"x")) for epoch in (1, 3))
    core.step(append(world, 0, 1, end, first), world.now)
    core.step(Persisted(core.state.outbox.written), world.now)
    core.step(append(world, 1, 2, end + 1), world.now)
    core.step(append(world, 0, 3, end, other), world.now)
    effects = core.step(Persisted(core.state.outbox.written), world.now)
    answers = [effect.message for effect in effects if isinstance(effect, Send)]
    matched = [(each.epoch, each.matched_view) for each in answers if isinstance(each, AppendResponse)]
    assert matched == [(3, 3)]


@pytest.mark.parametrize("committed", [1 << 40, -1, 1 << 60])
def test_nothing_unknown_is_committed_when_a_message_says_so(committed: int) -> None:
    world = bootstrapped(3)
    state = world.core(2).state
    world.feed(2, append(world, 0, 1, 1, committed=committed))
    assert state.committed <= state.log.last_seqno


def test_primary_is_no_longer_named_when_its_connection_breaks() -> None:
    world = bootstrapped(3)
    assert world.core(1).leader == 0
    world.feed(1, PeerDown(NodeId(0)))
    assert world.core(1).leader is None
    world.feed(0, PeerUp(NodeId(1)))
    world.settle()
    assert world.core(1).leader == 0


def test_acknowledgement_waits_for_the_disk_when_that_is_slow() -> None:
    world = bootstrapped(3)
    world.nodes[NodeId(1)].disk.held = world.nodes[NodeId(2)].disk.held = True
    world.propose(0, b"a")
    world.run(250)  # heartbeats are answered at once, with what is on disk
    assert world.nodes[NodeId(0)].commands == []
    world.sync(1)
    world.settle()
    assert world.nodes[NodeId(0)].commands == []
    world.sync(2)
    world.settle()
    assert world.nodes[NodeId(0)].commands == [b"a"]
