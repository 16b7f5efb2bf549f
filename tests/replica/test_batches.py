"""Batches: examined when they arrive, bounded when they are made, read back on every replica."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replica.fakes import CLIENT, HERE, Counter, call, submit
from viewstamp.core.messages import INVALID, KeepAlive, Logged, Submit, encode_message
from viewstamp.core.principals import ANONYMOUS
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.nesting import DEPTH_MAX
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.replica import batches as batching
from viewstamp.replica.batches import (
    BatchBuffer,
    BatchUnreadable,
    DecodedMessage,
    Decoders,
    InFlightBatches,
    decode_batch,
    encode_batch,
)
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.refusals import RefusalLine
from viewstamp.replica.validation import SubmitValidator
from viewstamp.replica.versions import Declaration, NewerCodeNeeded

DEFINITION = MachineDefinition.of(Counter)
DECODERS = Decoders.of(DEFINITION)


def _validate(
    message: Submit, options: ReplicaOptions | None = None
) -> tuple[DecodedMessage | None, list[RefusalLine]]:
    validator = SubmitValidator(DEFINITION, options or ReplicaOptions())
    return validator.validate(HERE, message, encode_message(message))


def _valid(message: Submit) -> DecodedMessage:
    valid, _ = _validate(message)
    assert valid is not None
    return valid


LONG_FORM = b"\x92\xda\x00\x03add\xcf" + (1).to_bytes(8, "big")
"""add(1) with a name and an integer in longer forms than they need."""


@pytest.mark.parametrize("first", [call("add", 1), call("add", 1, ""), LONG_FORM])
def test_what_goes_on_is_our_own_encoding_when_all_calls_are_valid(first: bytes) -> None:
    valid, invalid = _validate(submit(5, (1, first), (2, call("add", 2))))
    assert invalid == []
    assert valid is not None
    same = call("add", 1, "") if len(first) == len(call("add", 1, "")) else call("add", 1)
    own = submit(5, (1, same), (2, call("add", 2)))
    assert (valid.encoded, valid.source) == (encode_message(own), HERE)


class Tagged(StateMachine):
    """Its commands have no form that a plain encoder makes: the order of a set, the depth of anything."""

    tags: set[str] = set()  # noqa: RUF012  copied for each instance

    @command
    def tag(self, tags: set[str]) -> None:
        self.tags |= tags

    @command
    def note(self, anything: Any) -> None:
        self.tags.add(str(anything))


def test_each_call_is_encoded_by_itself_when_a_plain_encoder_would_not_do() -> None:
    definition = MachineDefinition.of(Tagged)
    deep: Any = "x"
    for _ in range(DEPTH_MAX + 1):
        deep = [deep]
    sent = submit(5, (1, call("tag", ["b", "a", "c"])), (2, call("note", deep)), (3, call("note", deep[0])))
    valid, invalid = SubmitValidator(definition, ReplicaOptions()).validate(HERE, sent, encode_message(sent))
    assert [(sequence, kind) for sequence, kind, _ in invalid] == [(2, INVALID)]
    assert valid is not None
    assert valid.encoded == encode_message(
        submit(5, (1, call("tag", ["a", "b", "c"])), (3, call("note", deep[0])))
    )
    (batch,) = decode_batch(encode_batch(1, (0, 0), [valid.encoded]), Decoders.of(definition)).messages
    assert batch.calls == valid.calls
    assert DEFINITION.encodes_alike("command")
    assert not definition.encodes_alike("command")


def test_a_call_is_none_when_the_class_cannot_read_it_and_the_others_are_what_they_were() -> None:
    message = submit(5, (1, call("gone")), (2, call("add", 2)))
    data = encode_batch(1, (0, 0), [encode_message(message), encode_message(KeepAlive(CLIENT, 5))])
    first, second = decode_batch(data, DECODERS).messages
    assert first.calls == [(1, None), (2, DEFINITION.decode("command", call("add", 2)))]
    assert (type(second.message), list(second.calls)) == (KeepAlive, [])


def test_only_the_valid_calls_go_on_when_some_are_invalid() -> None:
    message = submit(5, (1, call("add", "x")), (2, call("add", 2)), (3, call("read")), (0, call("add", 1)))
    valid, invalid = _validate(message)
    assert [(sequence, kind) for sequence, kind, _ in invalid] == [(1, INVALID), (3, INVALID), (0, INVALID)]
    assert valid is not None
    assert valid.encoded == encode_message(submit(5, (2, call("add", 2))))
    assert [sequence for sequence, _ in valid.calls] == [2]


def test_nothing_goes_on_when_no_call_is_valid() -> None:
    assert _validate(submit(5, (-1, call("add", 1))))[0] is None


def test_a_message_without_calls_goes_on() -> None:
    assert _validate(submit(5))[0] is not None


def test_a_call_is_invalid_when_it_is_longer_than_the_limit() -> None:
    fits = call("add", 1, "x" * 100)
    message = submit(5, (1, fits), (2, call("add", 1, "x" * 101)))
    _, invalid = _validate(message, ReplicaOptions(command_bytes_max=len(fits)))
    assert [sequence for sequence, _, _ in invalid] == [2]
    assert b"longer than" in bytes(invalid[0][2])


def test_two_calls_with_one_number_are_compared_by_nothing_but_their_numbers() -> None:
    assert len(_valid(submit(5, (1, call("add", 1)), (1, call("add", 1)))).calls) == 2


def test_a_batch_holds_at_least_one_message_and_no_more_than_fit() -> None:
    big = _valid(submit(5, *[(n, call("add", 1)) for n in range(1, 6)]))
    small = _valid(submit(5, (1, call("add", 1))))
    buffer = BatchBuffer(ReplicaOptions(batch_commands_max=3))
    for message in (small, small, big, small, small, small, small):
        assert buffer.add(message)
    assert [len(buffer.take_batch()) for _ in range(4)] == [2, 1, 3, 1]
    assert buffer.take_batch() == []


def test_a_batch_ends_when_it_would_pass_its_bytes() -> None:
    small = _valid(submit(5, (1, call("add", 1))))
    buffer = BatchBuffer(ReplicaOptions(batch_bytes_max=2 * len(small.encoded)))
    for _ in range(3):
        buffer.add(small)
    assert [len(buffer.take_batch()) for _ in range(2)] == [2, 1]


def test_messages_are_refused_at_either_limit_and_taken_again_when_there_is_room() -> None:
    small = _valid(submit(5, (1, call("add", 1))))
    by_count = BatchBuffer(ReplicaOptions(gathered_commands_max=2))
    by_bytes = BatchBuffer(ReplicaOptions(gathered_bytes_max=2 * len(small.encoded)))
    for buffer in (by_count, by_bytes):
        assert [buffer.add(small) for _ in range(3)] == [True, True, False]
        buffer.take_batch()
        assert buffer.add(small)
        assert len(buffer.take_all()) == 1
        assert [buffer.add(small) for _ in range(3)] == [True, True, False]


def test_a_message_without_calls_counts_as_one() -> None:
    message = KeepAlive(CLIENT, 5)
    alive = DecodedMessage(message, (), source=HERE, encoded=encode_message(message))
    buffer = BatchBuffer(ReplicaOptions(gathered_commands_max=2))
    assert [buffer.add(alive) for _ in range(3)] == [True, True, False]


def test_a_batch_reads_back_as_it_was_made() -> None:
    first = submit(5, (1, call("add", 1, "")))
    messages: list[Logged] = [first, KeepAlive(CLIENT, 5)]
    batch = decode_batch(encode_batch(77, (3, 2**64 - 1), [encode_message(m) for m in messages]), DECODERS)
    assert (batch.log_time, batch.check) == (77, (3, 2**64 - 1))
    assert [type(decoded.message) for decoded in batch.messages] == [Submit, KeepAlive]
    assert [decoded.principal for decoded in batch.messages] == [ANONYMOUS, ANONYMOUS]
    assert batch.messages[0].calls == _valid(first).calls


def test_the_bytes_of_an_entry_are_pinned() -> None:
    data = encode_batch(77, (3, 9), [encode_message(submit(5, (1, call("add", 1))))])
    assert data.hex(" ") == (
        "96 01 01 4d 92 03 09"  # format, level, log time, [checked seqno, digest]
        " 91 95 01 cd 10 92 05 00 91 92 01 92 a3 61 64 64 01"  # [Submit], as this program encodes it
        " 90"  # no principals
    )


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ((2, 0, 77, (3, 9), [], []), "has format 2; this version reads 1"),
        ((2, 0, "of another shape"), "has format 2; this version reads 1"),
        ((1, 2, 77, (3, 9), [], []), "has level 2; this version knows 0 to 1"),
        ((1, 2, "of another shape"), "has level 2; this version knows 0 to 1"),
    ],
)
def test_an_entry_of_a_newer_version_needs_newer_code(entry: tuple[object, ...], why: str) -> None:
    with pytest.raises(NewerCodeNeeded, match=why):
        decode_batch(msgspec.msgpack.encode(entry), DECODERS)


def test_an_entry_of_a_version_that_is_no_longer_read_is_refused_by_name() -> None:
    with pytest.raises(BatchUnreadable, match="has format 0; this version reads 1"):
        decode_batch(msgspec.msgpack.encode((0, 0, 77, (3, 9), [], [])), DECODERS)


def test_an_entry_of_the_level_before_is_read() -> None:
    entry = bytes.fromhex("9601004d920309919501cd10920500919201 92a361646401 90")
    batch = decode_batch(entry, DECODERS)
    assert (batch.level, batch.declares, len(batch.messages[0].calls)) == (0, None, 1)


def test_a_declaration_comes_back_when_it_is_read() -> None:
    declared = Declaration(3, {"add()": "command"}, raises=True)
    batch = decode_batch(encode_batch(77, (3, 9), [], 1, declared), DECODERS)
    assert (batch.level, batch.declares) == (1, declared)


def test_each_message_has_the_principal_that_its_server_saw() -> None:
    messages = [msgspec.Raw(encode_message(KeepAlive(CLIENT, number))) for number in (5, 6)]
    named = msgspec.msgpack.encode((1, 0, 77, (3, 9), messages, ("ann", "")))
    assert [decoded.principal for decoded in decode_batch(named, DECODERS).messages] == ["ann", ""]
    of_all = msgspec.msgpack.encode((1, 0, 77, (3, 9), messages, ("ann",)))
    assert [decoded.principal for decoded in decode_batch(of_all, DECODERS).messages] == ["ann", "ann"]
    too_many = msgspec.msgpack.encode((1, 0, 77, (3, 9), messages, ("ann", "bea", "")))
    with pytest.raises(BatchUnreadable, match="principals"):
        decode_batch(too_many, DECODERS)


@pytest.mark.parametrize(
    ("principals", "written"),
    [
        ([ANONYMOUS, ANONYMOUS], []),
        (["client/a", "client/a"], ["client/a"]),
        (["client/a", ANONYMOUS], ["client/a", ANONYMOUS]),
    ],
)
def test_an_entry_names_its_principals_in_the_shortest_form(
    principals: list[str], written: list[str]
) -> None:
    messages = [
        DecodedMessage(KeepAlive(CLIENT, 5), [], principal, encoded=encode_message(KeepAlive(CLIENT, 5)))
        for principal in principals
    ]
    (data,), _ = InFlightBatches(MachineDefinition.of(Counter)).propose(77, (3, 9), messages)
    assert msgspec.msgpack.decode(data)[5] == written
    assert [decoded.principal for decoded in decode_batch(data, DECODERS).messages] == principals


def test_an_own_batch_is_not_decoded_again_and_those_before_it_are_forgotten() -> None:
    in_flight = InFlightBatches(DEFINITION)
    mine = [_valid(submit(5, (number, call("add", 1)))) for number in (1, 2, 3)]
    entries = [in_flight.propose(77, (3, 9), [message])[0][0] for message in mine]
    first = in_flight.read(entries[1])
    assert first.messages[0].calls == mine[1].calls
    assert in_flight.read(entries[1]) is not first, "decoded from the log: its place was lost"
    assert [batch.data for batch in in_flight.take_all()] == [entries[2]]


def test_an_unreadable_message_enters_no_entry_and_the_others_do() -> None:
    in_flight = InFlightBatches(DEFINITION)
    good = _valid(submit(5, (1, call("add", 1))))
    bad = msgspec.structs.replace(good, encoded=b"\x95\x01\x02\x00\x00" + b"\x91" * 2_000)
    entries, unreadable = in_flight.propose(77, (3, 9), [good, bad, good])
    assert unreadable == [bad]
    assert [len(decode_batch(data, DECODERS).messages) for data in entries] == [1, 1]
    assert in_flight.propose(77, (3, 9), [bad]) == ([], [bad])


def test_a_message_whose_bytes_were_changed_since_it_was_read_enters_no_entry() -> None:
    in_flight = InFlightBatches(DEFINITION, strict=True)
    message = submit(5, (1, call("add", 1)))
    validator = SubmitValidator(DEFINITION, ReplicaOptions())
    read, _ = validator.validate(HERE, message, encode_message(message))
    assert read is not None
    assert read.read is read.encoded
    (data,), _ = in_flight.propose(77, (3, 9), [read])
    assert in_flight.read(data).messages == [read]
    assert decode_batch(data, DECODERS).messages[0].calls == read.calls
    bad = msgspec.structs.replace(read, encoded=b"\x95\x01\x02\x00\x00" + b"\x91" * 2_000)
    assert in_flight.propose(77, (3, 9), [bad]) == ([], [bad])


@given(st.binary(max_size=60))
def test_reading_a_batch_raises_nothing_else_when_bytes_are_arbitrary(data: bytes) -> None:
    with suppress(BatchUnreadable):
        decode_batch(data, DECODERS)


def test_a_batch_is_refused_when_it_holds_more_than_any_replica_proposes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batching, "_COMMANDS_MAX", 4)
    many = submit(5, *[(n, call("add", 1)) for n in range(1, 5)])
    data = encode_batch(0, (0, 0), [encode_message(many)])
    with pytest.raises(BatchUnreadable, match="more commands"):
        decode_batch(data, DECODERS)
