"""Batches: examined when they arrive, bounded when they are made, read back on every replica."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replica.fakes import CLIENT, HERE, Counter, call, submit
from viewstamp.core.messages import KeepAlive, Logged, Submit, encode_message
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica import batches as batching
from viewstamp.replica.batches import (
    BatchBuffer,
    BatchUnreadable,
    Gathered,
    Prepared,
    SubmitValidator,
    ValidatedSubmit,
    decode_batch,
    encode_batch,
)
from viewstamp.replica.options import ReplicaOptions

DEFINITION = MachineDefinition.of(Counter)


def _examine(message: Submit, options: ReplicaOptions | None = None) -> ValidatedSubmit:
    examiner = SubmitValidator(DEFINITION, options or ReplicaOptions())
    return examiner.examine(HERE, message, encode_message(message))


def _gathered(message: Submit) -> Gathered:
    examined = _examine(message)
    assert examined.gathered is not None
    return examined.gathered


def test_the_bytes_go_on_untouched_when_all_calls_are_valid() -> None:
    message = submit(5, (1, call("add", 1)), (2, call("add", 2)))
    examined = _examine(message)
    assert examined.invalid == []
    assert examined.gathered is not None
    assert examined.gathered.encoded == encode_message(message)


def test_only_the_valid_calls_go_on_when_some_are_invalid() -> None:
    message = submit(5, (1, call("add", "x")), (2, call("add", 2)), (3, call("read")), (0, call("add", 1)))
    examined = _examine(message)
    assert [sequence for sequence, _ in examined.invalid] == [1, 3, 0]
    assert examined.gathered is not None
    assert examined.gathered.encoded == encode_message(submit(5, (2, call("add", 2))))
    assert [c.sequence for c in examined.gathered.prepared.calls] == [2]


def test_nothing_goes_on_when_no_call_is_valid() -> None:
    assert _examine(submit(5, (-1, call("add", 1)))).gathered is None


def test_a_message_without_calls_goes_on() -> None:
    assert _examine(submit(5)).gathered is not None


def test_a_call_is_invalid_when_it_is_longer_than_the_limit() -> None:
    fits = call("add", 1, "x" * 100)
    message = submit(5, (1, fits), (2, call("add", 1, "x" * 101)))
    examined = _examine(message, ReplicaOptions(command_bytes_max=len(fits)))
    assert [sequence for sequence, _ in examined.invalid] == [2]
    assert "longer than" in examined.invalid[0][1]


def test_two_calls_with_one_number_are_compared_by_nothing_but_their_numbers() -> None:
    examined = _examine(submit(5, (1, call("add", 1)), (1, call("add", 1))))
    assert examined.gathered is not None
    assert len(examined.gathered.prepared.calls) == 2


def test_a_batch_holds_at_least_one_message_and_no_more_than_fit() -> None:
    big = _gathered(submit(5, *[(n, call("add", 1)) for n in range(1, 6)]))
    small = _gathered(submit(5, (1, call("add", 1))))
    gatherer = BatchBuffer(ReplicaOptions(batch_commands_max=3))
    for gathered in (small, small, big, small, small, small, small):
        assert gatherer.add(gathered)
    assert [len(gatherer.take_batch()) for _ in range(4)] == [2, 1, 3, 1]
    assert gatherer.take_batch() == []


def test_a_batch_ends_when_it_would_pass_its_bytes() -> None:
    small = _gathered(submit(5, (1, call("add", 1))))
    gatherer = BatchBuffer(ReplicaOptions(batch_bytes_max=2 * len(small.encoded)))
    for _ in range(3):
        gatherer.add(small)
    assert [len(gatherer.take_batch()) for _ in range(2)] == [2, 1]


def test_messages_are_refused_at_either_limit_and_taken_again_when_there_is_room() -> None:
    small = _gathered(submit(5, (1, call("add", 1))))
    by_count = BatchBuffer(ReplicaOptions(gathered_commands_max=2))
    by_bytes = BatchBuffer(ReplicaOptions(gathered_bytes_max=2 * len(small.encoded)))
    for gatherer in (by_count, by_bytes):
        assert [gatherer.add(small) for _ in range(3)] == [True, True, False]
        gatherer.take_batch()
        assert gatherer.add(small)
        assert len(gatherer.take_all()) == 1
        assert [gatherer.add(small) for _ in range(3)] == [True, True, False]


def test_a_message_without_calls_counts_as_one() -> None:
    message = KeepAlive(CLIENT, 5)
    alive = Gathered(HERE, Prepared(message, []), encode_message(message))
    gatherer = BatchBuffer(ReplicaOptions(gathered_commands_max=2))
    assert [gatherer.add(alive) for _ in range(3)] == [True, True, False]


def test_a_batch_reads_back_as_it_was_made() -> None:
    first = submit(5, (1, call("add", 1)))
    messages: list[Logged] = [first, KeepAlive(CLIENT, 5)]
    batch, prepared = decode_batch(
        encode_batch(77, (3, 2**64 - 1), [encode_message(m) for m in messages]), DEFINITION
    )
    assert (batch.log_time, batch.check) == (77, (3, 2**64 - 1))
    assert [type(p.message) for p in prepared] == [Submit, KeepAlive]
    assert prepared[0].calls == _gathered(first).prepared.calls


@given(st.binary(max_size=60))
def test_reading_a_batch_raises_nothing_else_when_bytes_are_arbitrary(data: bytes) -> None:
    with suppress(BatchUnreadable):
        decode_batch(data, DEFINITION)


def test_a_batch_is_refused_when_it_holds_more_than_any_replica_proposes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batching, "_COMMANDS_MAX", 4)
    many = submit(5, *[(n, call("add", 1)) for n in range(1, 5)])
    data = msgspec.msgpack.encode((0, (0, 0), [msgspec.Raw(encode_message(many))]))
    with pytest.raises(BatchUnreadable, match="more commands"):
        decode_batch(data, DEFINITION)
