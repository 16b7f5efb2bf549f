import msgspec
import pytest

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.runtime.framing import WIRE_VERSION
from viewstamp.runtime.handshake import (
    ANY_NODE,
    REASON_LENGTH_MAX,
    Doorkeeper,
    Hello,
    decode_hello,
    decode_refusal,
    decode_welcome,
    encode_hello,
    encode_refusal,
)

CLUSTER = ClusterConfig(cluster_id="mine", members=tuple(Member(node, "h", node) for node in (1, 2, 3)))
PEER_HELLO = Hello(WIRE_VERSION, "peer", "mine", CLUSTER.digest, 2, 1, 77)
CLIENT_HELLO = Hello(WIRE_VERSION, "client", "", 0, ANY_NODE, ANY_NODE, 0)


def doorkeeper() -> Doorkeeper:
    return Doorkeeper(CLUSTER, NodeId(1), "leader")


def test_hello_of_a_member_is_accepted_when_all_of_it_is_right() -> None:
    assert doorkeeper().refuse(PEER_HELLO) is None
    made = Doorkeeper(CLUSTER, NodeId(2), "leader").hello_to(NodeId(1), Incarnation(77))
    assert decode_hello(made) == PEER_HELLO


@pytest.mark.parametrize("fields", [{}, {"cluster_id": "mine"}, {"to": 1}])
def test_hello_of_a_client_is_accepted_when_it_names_this_cluster_or_none(fields: dict[str, object]) -> None:
    assert doorkeeper().refuse(msgspec.structs.replace(CLIENT_HELLO, **fields)) is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": WIRE_VERSION + 1}, "wire version"),
        ({"version": 0}, "wire version"),
        ({"cluster_id": "other"}, "this is cluster 'mine', not 'other'"),
        ({"cluster_id": ""}, "this is cluster 'mine', not ''"),
        ({"to": 3}, "this is node 1, not 3"),
        ({"node": 1}, "this node itself"),
        ({"node": 9}, "not a member"),
        ({"node": -5}, "not a member"),
        ({"digest": 5}, "different cluster files"),
    ],
)
def test_hello_of_a_member_is_refused_when_something_is_wrong(fields: dict[str, object], reason: str) -> None:
    refusal = doorkeeper().refuse(msgspec.structs.replace(PEER_HELLO, **fields))
    assert refusal is not None
    assert reason in refusal
    assert refusal.isprintable()


@pytest.mark.parametrize("fields", [{"cluster_id": "other"}, {"to": 2}, {"version": 9}])
def test_hello_of_a_client_is_refused_when_it_means_another(fields: dict[str, object]) -> None:
    assert doorkeeper().refuse(msgspec.structs.replace(CLIENT_HELLO, **fields)) is not None


def test_incarnation_is_refused_when_another_has_replaced_it() -> None:
    door = doorkeeper()
    older, newer = PEER_HELLO, msgspec.structs.replace(PEER_HELLO, incarnation=78)
    assert door.refuse(older) is None
    assert door.refuse(newer) is None
    assert "has been replaced" in str(door.refuse(older))
    assert door.refuse(newer) is None


def test_refusal_is_printable_when_the_cluster_id_is_not() -> None:
    refusal = doorkeeper().refuse(msgspec.structs.replace(PEER_HELLO, cluster_id="\x1b[31m\nroot logged in"))
    assert refusal is not None
    assert refusal.isprintable()


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x90", b"\x97" * 10000, encode_hello(CLIENT_HELLO)[:-1]])
def test_hello_is_a_violation_when_it_cannot_be_read(payload: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        decode_hello(payload)
    with pytest.raises(ProtocolViolation):
        decode_welcome(payload)


def test_welcome_lists_the_members_when_it_is_read() -> None:
    welcome = decode_welcome(doorkeeper().welcome)
    assert (welcome.cluster_id, welcome.node, welcome.protocol) == ("mine", 1, "raft")
    assert welcome.members == [(1, "h", 1), (2, "h", 2), (3, "h", 3)]


@pytest.mark.parametrize("payload", [b"\xff\xfe", b"a\nb\x1b[0m", b"x" * 100_000])
def test_refusal_is_one_short_printable_line_when_it_is_anything(payload: bytes) -> None:
    reason = decode_refusal(payload)
    assert reason.isprintable()
    assert len(reason) <= REASON_LENGTH_MAX


def test_refusal_is_cut_when_it_is_long() -> None:
    assert decode_refusal(encode_refusal("é" * 1000)) == "é" * REASON_LENGTH_MAX
