"""The durability gate of `viewstamp.core.outbox`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.core.effects import Effect, LeaderChanged, Persist, Send
from viewstamp.core.ids import NodeId, PersistSeq, View
from viewstamp.core.outbox import Outbox

PEER = NodeId(2)
ANNOUNCEMENT = LeaderChanged(View(1), PEER)


def outbox(written: int = 0) -> Outbox:
    return Outbox(PersistSeq(written))


def test_message_leaves_at_once_when_nothing_is_being_written() -> None:
    box = outbox()
    box.send(PEER, "vote")
    assert box.take() == [Send(PEER, "vote")]


def test_message_waits_when_its_write_is_not_durable() -> None:
    box = outbox()
    box.persist(b"vote")
    box.send(PEER, "vote")
    assert box.take() == [Persist(PersistSeq(1), (b"vote",))]
    box.persisted(PersistSeq(1))
    assert box.take() == [Send(PEER, "vote")]


def test_message_waits_for_the_last_write_when_several_are_under_way() -> None:
    box = outbox()
    box.persist(b"a")
    box.take()
    box.persist(b"b")
    box.send(PEER, "both")
    box.take()
    box.persisted(PersistSeq(1))
    assert box.take() == []
    box.persisted(PersistSeq(2))
    assert box.take() == [Send(PEER, "both")]


def test_one_persisted_frees_all_writes_before_it_when_they_were_synced_together() -> None:
    box = outbox()
    for name in ("a", "b", "c"):
        box.persist(name.encode())
        box.send(PEER, name)
        box.take()
    box.persisted(PersistSeq(2))
    assert box.take() == [Send(PEER, "a"), Send(PEER, "b")]
    box.persisted(PersistSeq(3))
    assert box.take() == [Send(PEER, "c")]


def test_early_message_does_not_wait_when_a_write_is_under_way() -> None:
    box = outbox()
    box.persist(b"entry")
    box.send_early(PEER, "entry")
    assert box.take() == [Persist(PersistSeq(1), (b"entry",)), Send(PEER, "entry")]


def test_write_comes_first_when_it_was_asked_for_last() -> None:
    box = outbox()
    box.send_early(PEER, "heartbeat")
    box.emit(ANNOUNCEMENT)
    box.persist(b"entry")
    assert box.take() == [Persist(PersistSeq(1), (b"entry",)), Send(PEER, "heartbeat"), ANNOUNCEMENT]


def test_message_asked_for_before_the_write_does_not_wait_when_all_before_it_is_durable() -> None:
    box = outbox()
    box.send(PEER, "promises nothing new")
    box.persist(b"entry")
    assert box.take() == [Persist(PersistSeq(1), (b"entry",)), Send(PEER, "promises nothing new")]


def test_records_of_one_step_are_one_write_when_there_are_several() -> None:
    box = outbox()
    assert box.persist(b"term") == PersistSeq(1)
    assert box.persist(b"entry", b"entry") == PersistSeq(1)
    assert box.take() == [Persist(PersistSeq(1), (b"term", b"entry", b"entry"))]
    assert box.persist(b"next") == PersistSeq(2)


def test_numbers_go_on_when_a_journal_was_recovered() -> None:
    box = outbox(written=41)
    assert (box.durable, box.written) == (41, 41)
    box.send(PEER, "what is recovered is durable")
    assert box.take() == [Send(PEER, "what is recovered is durable")]
    assert box.persist(b"next") == PersistSeq(42)
    assert box.written == PersistSeq(42)


def test_other_effects_wait_when_they_are_emitted_durable() -> None:
    box = outbox()
    box.persist(b"view")
    box.emit_durable(ANNOUNCEMENT)
    assert box.take() == [Persist(PersistSeq(1), (b"view",))]
    box.persisted(PersistSeq(1))
    assert box.take() == [ANNOUNCEMENT]


def test_only_held_messages_are_dropped_when_they_are_withdrawn() -> None:
    box = outbox()
    box.send(PEER, "left before")
    box.persist(b"entry")
    for message in ("void", "valid", "void"):
        box.send(PEER, message)
    box.emit_durable(ANNOUNCEMENT)
    box.withdraw(lambda message: message in {"void", "left before"})
    assert box.take() == [Persist(PersistSeq(1), (b"entry",)), Send(PEER, "left before")]
    box.persisted(PersistSeq(1))
    assert box.take() == [Send(PEER, "valid"), ANNOUNCEMENT]


@pytest.mark.parametrize("seq", [0, 2])
def test_impossible_persisted_is_our_own_fault_when_it_goes_back_or_ahead(seq: int) -> None:
    box = outbox()
    box.persist(b"a")
    box.take()
    if seq == 0:
        box.persisted(PersistSeq(1))
    with pytest.raises(AssertionError):
        box.persisted(PersistSeq(seq))


def test_write_without_records_is_our_own_fault() -> None:
    with pytest.raises(AssertionError):
        outbox().persist()


OPERATIONS = st.lists(
    st.one_of(st.just("persist"), st.just("send"), st.just("take"), st.integers(min_value=1, max_value=3)),
    max_size=60,
)


class Ghost:
    """What a world would see: the writes handed out, and for each message the write it was promised after."""

    def __init__(self) -> None:
        self.box = outbox()
        self.promised: list[PersistSeq] = []
        self.left: list[int] = []
        self.handed = PersistSeq(0)

    def take(self) -> None:
        for effect in self.box.take():
            self.see(effect)

    def see(self, effect: Effect) -> None:
        match effect:
            case Persist(seq=seq):
                assert seq == self.handed + 1
                self.handed = seq
            case Send(message=number):
                assert self.promised[number] <= self.box.durable
                self.left.append(number)
            case _:
                raise AssertionError(effect)

    def act(self, operation: str | int) -> None:
        match operation:
            case "persist":
                self.box.persist(b"record")
            case "send":
                self.promised.append(self.box.written)
                self.box.send(PEER, len(self.promised) - 1)
            case "take":
                self.take()
            case int(ahead):
                self.take()
                self.box.persisted(PersistSeq(min(self.handed, self.box.durable + ahead)))
            case _:
                raise AssertionError(operation)


@given(OPERATIONS)
def test_no_message_leaves_early_and_none_is_lost_or_overtaken_when_anything_happens(
    operations: list[str | int],
) -> None:
    ghost = Ghost()
    for operation in operations:
        ghost.act(operation)
    ghost.take()
    ghost.box.persisted(ghost.handed)
    ghost.take()
    assert ghost.left == list(range(len(ghost.promised)))
