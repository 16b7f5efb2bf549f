"""Whatever bytes a client sends: a message or a definite error (docs/faults.md#b16 to #b29, #b48 to #b56)."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.replica.fakes import CLIENT, Bench, Counter, call, lines, submit
from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.events import Directed, TransferLeadership
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import (
    EXPIRED,
    INVALID,
    NO_SESSION,
    RESULT,
    AdminRequest,
    AskStatus,
    ClientMessage,
    CloseSession,
    KeepAlive,
    Logged,
    OpenSession,
    QueryRequest,
    Redirect,
    Results,
    ServerMessage,
    Submit,
    decode_client_message,
    decode_server_message,
    encode_message,
)
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.batches import BatchUnreadable, Decoders, decode_batch, encode_batch

DEEP = b"\x91" * 100_000 + b"\xc0"
VALID: list[ClientMessage] = [
    submit(5, (1, call("add", 1))),
    OpenSession(1),
    KeepAlive(1, 2),
    CloseSession(1, 2),
    QueryRequest(1, "stale", [(1, msgspec.Raw(call("read")))]),
    AskStatus(1),
    AdminRequest(1, TransferLeadership(NodeId(2))),
]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        b"\x90",
        b"\x91\x01",
        b"\x92\x63\x01",
        b"\x92\x03\xc3",
        b"\x92\x03\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
        b"\x92\x03\xa2\xff\xfe",
        b"\xdd\xff\xff\xff\xff",
        b"\x95\x01\x01\x02\x03\xdd\xff\xff\xff\xff",
        b"\x95\x01\x01\x02\x03" + DEEP,
        b"\x94\x05\x01\xa5fresh\x90",
        b"\x93\x07\x01\x92\xa8shutdown\xc0",
        encode_message(OpenSession(1)) + b"\x00",
    ],
)
def test_a_malformed_message_is_a_violation(data: bytes) -> None:
    for decode in (decode_client_message, decode_server_message):
        with pytest.raises(ProtocolViolation) as caught:
            decode(data)
        assert "\n" not in str(caught.value)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_a_message_or_a_violation(data: bytes) -> None:
    for decode in (decode_client_message, decode_server_message):
        try:
            message = decode(data)
        except ProtocolViolation:
            continue
        encode_message(message)


@given(st.sampled_from(VALID), st.data())
def test_a_flipped_bit_is_a_message_or_a_violation(message: ClientMessage, data: st.DataObject) -> None:
    encoded = bytearray(encode_message(message))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = decode_client_message(bytes(encoded))
    except ProtocolViolation:
        return
    bench = Bench()
    bench.do(found)
    assert bench.replica.halted is None


def test_messages_survive_the_wire() -> None:
    answers: list[ServerMessage] = [
        Redirect(1, None, True, [2**63], "x"),
        Results(1, 2, [(3, 0, msgspec.Raw(b"\x01"))]),
    ]
    for message in VALID:
        assert decode_client_message(encode_message(message)) == message
    for answer in answers:
        assert decode_server_message(encode_message(answer)) == answer


@pytest.mark.parametrize("sequence", [0, -1, -(2**63), 2**40, 2**64 - 1])
@pytest.mark.parametrize("acknowledged", [-(2**63), 0, 2**40, 2**64 - 1])
def test_extreme_numbers_hurt_nobody_but_their_client(sequence: int, acknowledged: int) -> None:
    bench = Bench()
    session, other = bench.open(), bench.open(9)
    bench.do(submit(session, (sequence, call("add", 1)), acknowledged=acknowledged))
    bench.do(submit(session, (sequence, call("add", 1)), acknowledged=acknowledged))
    assert bench.replica.machine.value <= 1  # type: ignore[attr-defined]
    answers = bench.do(submit(other, (1, call("add", 0)), client=9))
    assert [kind for _, kind, _ in lines(answers)] == [RESULT]
    again = Bench(snapshot=bench.save())
    assert again.replica.digest == bench.replica.digest


@settings(max_examples=50)
@given(st.binary(max_size=30), st.integers(-5, 5))
def test_a_hostile_command_is_answered_and_changes_nothing(payload: bytes, sequence: int) -> None:
    bench = Bench()
    session = bench.open()
    raw = msgspec.msgpack.encode(payload)
    answers = bench.do(Submit(CLIENT, session, 0, [(sequence, msgspec.Raw(raw))]))
    assert [kind for _, kind, _ in lines(answers)] == [INVALID]
    assert bench.replica.applied.seqno == 1, "it did not enter the log"


@pytest.mark.parametrize("inner", VALID)
def test_a_message_within_a_message_is_no_command(inner: ClientMessage) -> None:
    """What only an operator or a client itself may say has no way in by the calls of a `Submit`."""
    bench = Bench()
    session = bench.open()
    for asked in (
        Submit(CLIENT, session, 0, [(1, msgspec.Raw(encode_message(inner)))]),
        QueryRequest(CLIENT, "linearizable", [(1, msgspec.Raw(encode_message(inner)))]),
    ):
        assert [kind for _, kind, _ in lines(bench.do(asked))] == [INVALID]
    assert not any(isinstance(event, Directed) for event in bench.core.events)
    assert bench.replica.applied.seqno == 1


def test_a_batch_is_refused_when_it_holds_what_is_never_logged() -> None:
    for message in VALID:
        data = encode_batch(0, (0, 0), [encode_message(message)])
        if isinstance(message, Logged):
            decode_batch(data, Decoders.of(MachineDefinition.of(Counter)))
            continue
        with pytest.raises(BatchUnreadable):
            decode_batch(data, Decoders.of(MachineDefinition.of(Counter)))


def test_a_session_of_another_client_is_of_no_use() -> None:
    bench = Bench()
    session = bench.open()
    for message in (
        submit(session, (1, call("add", 1)), client=9),
        KeepAlive(9, session),
        CloseSession(9, session),
    ):
        assert [kind for _, kind, _ in lines(bench.do(message))] == [EXPIRED]
    assert lines(bench.do(submit(session, (1, call("add", 1))))) == [(1, RESULT, 1)]


def test_a_list_of_a_million_calls_is_refused_whole() -> None:
    bench = Bench()
    raw = msgspec.Raw(call("add", 1))
    many = Submit(CLIENT, NO_SESSION, 0, [(1, raw)] * 1_000_000)
    answers = lines(bench.do(many))
    assert len(answers) == 1_000_000
    assert bench.replica.applied.seqno == 0
