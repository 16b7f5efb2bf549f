"""The client wire format: tags and field order are the ABI, so the bytes themselves are pinned."""

import msgspec
import pytest

from viewstamp.core import messages as m
from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.events import TakeSnapshot, TransferLeadership
from viewstamp.core.ids import NodeId, Seqno, View, Viewstamp
from viewstamp.core.protocol import PeerStatus, Status

RAW = msgspec.Raw(msgspec.msgpack.encode(["add", 3]))
STATUS = Status(
    node=NodeId(1),
    role="leader",
    view=View(2),
    leader=NodeId(1),
    last=Viewstamp(View(2), Seqno(9)),
    committed=9,
    applied=8,
    snapshot=0,
    log_bytes=100,
    members=(NodeId(1), NodeId(2)),
    peers=(PeerStatus(NodeId(2), 9, "replicate", 5),),
)
CLIENT_BYTES: list[tuple[m.ClientMessage, str]] = [
    (m.Submit(7, 0, 0, [(1, RAW)]), "9501070000919201" + "92a361646403"),
    (m.OpenSession(7, 9, 5_000), "94020709cd1388"),
    (m.KeepAlive(7, 8, 9, 10, 5_000), "96030708090acd1388"),
    (m.CloseSession(7, 8), "93040708"),
    (m.Identify(7, b"0123456789abcdef"), "930807c410" + "30313233343536373839616263646566"),
    (m.QueryRequest(7, "stale", [(1, RAW)]), "940507a57374616c65919201" + "92a361646403"),
    (m.AskStatus(1), "920601"),
    (m.AdminRequest(1, TransferLeadership(NodeId(2))), "93070192a87472616e7366657202"),
    (m.AdminRequest(1, TakeSnapshot()), "93070191a8736e617073686f74"),
]
SERVER_BYTES: list[tuple[m.ServerMessage, str]] = [
    (m.Results(7, 5, [(1, m.RESULT, RAW)]), "9401070591930100" + "92a361646403"),
    (m.SessionOpened(7, 8, 1000, 9), "95020708cd03e809"),
    (m.Redirect(7, NodeId(2), entered=False, sequences=[1], reason="x"), "96030702c29101a178"),
    (m.Notified(7, 8, RAW), "94040708" + "92a361646403"),
    (
        m.StatusReply(1, STATUS),
        "930501dc001701a66c656164657202019202090908006492010291940209a97265706c696361746505a000c09000909000c0909090",
    ),
    (m.AdminReply(1, None), "930601c0"),
]


def same(one: object, other: object) -> bool:
    """Compare through the encoding: `Raw` values have no equality of their own."""
    return msgspec.msgpack.encode(one) == msgspec.msgpack.encode(other)


@pytest.mark.parametrize(("message", "expected"), CLIENT_BYTES)
def test_client_message_has_these_bytes_when_encoded(message: m.ClientMessage, expected: str) -> None:
    encoded = msgspec.msgpack.encode(message)
    assert encoded.hex() == expected
    decoded = msgspec.msgpack.decode(encoded, type=m.ClientMessage)
    assert type(decoded) is type(message)
    assert same(decoded, message)


@pytest.mark.parametrize(("message", "expected"), SERVER_BYTES)
def test_server_message_has_these_bytes_when_encoded(message: m.ServerMessage, expected: str) -> None:
    encoded = msgspec.msgpack.encode(message)
    assert encoded.hex() == expected
    decoded = msgspec.msgpack.decode(encoded, type=m.ServerMessage)
    assert type(decoded) is type(message)
    assert same(decoded, message)


@pytest.mark.parametrize(
    "value",
    [
        [99, 1],
        [True, 7],
        [2],
        [2, "seven"],
        [2, 7.5],
        [5, 7, "dirty", []],
        {"client": 7},
        [7, 1, ["format-the-disk"]],
    ],
)
def test_message_is_refused_when_it_is_not_of_the_schema(value: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=m.ClientMessage)


def test_fields_appended_later_are_ignored_when_they_come_from_a_newer_server() -> None:
    newer = msgspec.msgpack.encode([6, 7, None, "appended later"])
    assert m.decode_server_message(newer) == m.AdminReply(7, None)


@pytest.mark.parametrize("message", [message for message, _ in CLIENT_BYTES])
def test_a_field_too_many_is_refused_when_it_comes_from_a_client(message: m.ClientMessage) -> None:
    fields = msgspec.msgpack.decode(m.encode_message(message))
    with pytest.raises(ProtocolViolation):
        m.decode_client_message(msgspec.msgpack.encode([*fields, 0]))


def test_a_number_is_made_from_its_secret_in_a_way_that_never_changes() -> None:
    assert m.client_number(bytes(range(16))) == 4_869_626_229_806_197_668
    assert all(m.client_number(bytes([n]) * m.SECRET_BYTES) < 1 << 63 for n in range(100))


@pytest.mark.parametrize("secret", [b"", bytes(15), bytes(17), bytes([1]) * 16])
def test_an_identity_fits_only_with_the_secret_of_its_number(secret: bytes) -> None:
    number = m.client_number(bytes(16))
    assert m.Identify(number, bytes(16)).fits
    assert not m.Identify(number, secret).fits
    assert not m.Identify(number + 1, bytes(16)).fits


def test_a_secret_is_not_shown_where_its_message_is() -> None:
    identify = m.Identify(7, b"hidden hidden...")
    assert "hidden" not in repr(identify) + str(identify) + f"{[identify]}"


def test_a_message_with_too_many_calls_is_refused_before_the_first_is_read() -> None:
    calls: list[object] = [(number, ["x"]) for number in range(m.MESSAGE_CALLS_MAX)]
    for head in ([5, 1, "stale"], [1, 1, 0, 0]):
        message = m.decode_client_message(msgspec.msgpack.encode([*head, calls]))
        assert isinstance(message, m.QueryRequest | m.Submit)
        assert len(message.calls) == m.MESSAGE_CALLS_MAX
        with pytest.raises(ProtocolViolation, match=f"length <= {m.MESSAGE_CALLS_MAX}"):
            m.decode_client_message(msgspec.msgpack.encode([*head, [None, *calls]]))
