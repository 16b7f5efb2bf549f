import msgspec
import pytest

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.link.handshake import (
    ANY_NODE,
    REASON_LENGTH_MAX,
    WIRE,
    Doorkeeper,
    Hello,
    Identity,
    Range,
    check_welcome,
    client_hello,
    cluster_digest,
    decode_hello,
    decode_refusal,
    decode_welcome,
    encode_hello,
    encode_refusal,
)

ADDRESSES = {NodeId(node): ("h", node) for node in (1, 2, 3)}


def identity(node: int, **fields: object) -> Identity:
    """Return what a member of the cluster says of itself, with some fields as a test wants them."""
    made = Identity(
        cluster_id="mine",
        protocol="raft",
        node=NodeId(node),
        write_routing="leader",
        addresses=ADDRESSES,
        address_of=ADDRESSES.get,
        must_agree={"sessions_max": 10},
        options=5,
    )
    return msgspec.structs.replace(made, **fields)


PEER_HELLO = Hello(
    wire=WIRE,
    role="peer",
    cluster_id="mine",
    digest=cluster_digest("mine", "raft"),
    node=2,
    to=1,
    incarnation=77,
    members=[1, 2, 3],
    must_agree={"sessions_max": 10},
    options=5,
)
CLIENT_HELLO = Hello(WIRE, "client", "", 0, ANY_NODE, ANY_NODE, 0)


def doorkeeper(**fields: object) -> Doorkeeper:
    return Doorkeeper(identity(1, **fields))


def test_hello_of_a_member_is_accepted_when_all_of_it_is_right() -> None:
    assert doorkeeper().refuse(PEER_HELLO) is None
    made = Doorkeeper(identity(2)).hello_to(NodeId(1), Incarnation(77))
    assert decode_hello(made) == PEER_HELLO


@pytest.mark.parametrize("fields", [{}, {"cluster_id": "mine"}, {"to": 1}])
def test_hello_of_a_client_is_accepted_when_it_names_this_cluster_or_none(fields: dict[str, object]) -> None:
    assert doorkeeper().refuse(msgspec.structs.replace(CLIENT_HELLO, **fields)) is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"wire": Range(2, 3)},
            "wire version 2 to 3 and node 1 has wire version 1: upgrade node 1",
        ),
        ({"wire": Range(0, 0)}, "upgrade node 2"),
        ({"wire": Range(3, 1)}, "empty range"),
        ({"level": Range(2, 2)}, "feature level 2 and node 1 has feature level 0 to 1: upgrade node 1"),
        ({"machine": Range(3, 4)}, "machine version 3 to 4 and node 1 has machine version 0 to 1: upgrade"),
        ({"members": [1, 2, 4]}, "only node 2 lists 4, only node 1 lists 3"),
        ({"members": list(range(100, 200))}, "106, 107 and more"),
        ({"must_agree": {"sessions_max": 9}}, "sessions_max is 9 at node 2 and 10 at node 1"),
        ({"cluster_id": "other"}, "this is cluster 'mine', not 'other'"),
        ({"cluster_id": ""}, "this is cluster 'mine', not ''"),
        ({"to": 3}, "this is node 1, not 3"),
        ({"node": 1}, "this node itself"),
        ({"node": 9}, "not a member"),
        ({"node": -5}, "not a member"),
        ({"digest": 5}, "another protocol"),
    ],
)
def test_hello_of_a_member_is_refused_when_something_is_wrong(fields: dict[str, object], reason: str) -> None:
    refusal = doorkeeper().refuse(msgspec.structs.replace(PEER_HELLO, **fields))
    assert refusal is not None
    assert reason in refusal
    assert refusal.isprintable()


@pytest.mark.parametrize("fields", [{"cluster_id": "other"}, {"to": 2}, {"wire": Range(9, 9)}])
def test_hello_of_a_client_is_refused_when_it_means_another(fields: dict[str, object]) -> None:
    assert doorkeeper().refuse(msgspec.structs.replace(CLIENT_HELLO, **fields)) is not None


def test_incarnation_is_accepted_when_hellos_named_others_meanwhile() -> None:
    """Six hellos of 80 bytes stopped a cluster: each node took the real members for replaced ones."""
    door = doorkeeper()
    for incarnation in (77, 78, 79, 77):
        assert door.refuse(msgspec.structs.replace(PEER_HELLO, incarnation=incarnation)) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"options": 6},
        {"must_agree": {}},
        {"must_agree": {"unknown": 1, "sessions_max": 10}},
        {"members": []},
        {"wire": Range(0, 9)},
        {"advertise": ("elsewhere", 1)},
        {"fingerprint": 77},
        {"grants": 77},
    ],
)
def test_hello_of_a_member_is_accepted_when_what_differs_may(fields: dict[str, object]) -> None:
    assert doorkeeper().refuse(msgspec.structs.replace(PEER_HELLO, **fields)) is None


def test_member_is_known_to_differ_when_its_options_do_until_they_are_equal() -> None:
    door = doorkeeper()
    door.compare(msgspec.structs.replace(PEER_HELLO, options=6))
    assert door.differing == {2}
    door.compare(PEER_HELLO)
    assert not door.differing


@pytest.mark.parametrize(
    ("mine", "theirs", "differs"), [(5, 6, True), (5, 5, False), (0, 6, False), (5, 0, False)]
)
def test_member_is_known_to_run_another_class_when_both_fingerprints_are_known(
    mine: int, theirs: int, differs: bool
) -> None:
    door = doorkeeper(fingerprint=mine)
    door.compare(msgspec.structs.replace(PEER_HELLO, fingerprint=theirs))
    assert (door.other_class == {2}) is differs
    door.compare(msgspec.structs.replace(PEER_HELLO, fingerprint=mine))
    assert not door.other_class


def test_member_is_known_to_permit_other_calls_when_its_grants_differ() -> None:
    door = doorkeeper(grants=5)
    door.compare(PEER_HELLO)
    assert door.other_grants == {2}
    door.compare(msgspec.structs.replace(PEER_HELLO, grants=5))
    assert not door.other_grants


def test_lists_of_members_are_not_compared_when_the_cluster_is_open() -> None:
    assert doorkeeper(is_open=True).refuse(msgspec.structs.replace(PEER_HELLO, members=[7])) is None


def test_bytes_of_a_clients_hello_are_those_of_version_one() -> None:
    expected = "dc0012920101a6636c69656e74a16300ff0100920001920001908000c00000c400a000"
    assert client_hello("c", NodeId(1)).hex() == expected


def test_bytes_of_a_members_hello_are_those_of_version_one() -> None:
    hello = msgspec.structs.replace(PEER_HELLO, digest=3, advertise=("h", 9))
    assert encode_hello(hello).hex() == (
        "dc0012920101a470656572a46d696e650302014d920001920001930102"
        "0381ac73657373696f6e735f6d61780a0592a168090000c400a000"
    )


def test_bytes_of_a_welcome_are_those_of_version_one() -> None:
    assert doorkeeper().welcome.hex() == (
        "99920101a46d696e6501a472616674a66c6561646572939301a168019302a168029303a1680392000192000180"
    )


def test_welcome_is_a_violation_when_the_server_speaks_no_version_of_ours() -> None:
    welcome = msgspec.structs.replace(decode_welcome(doorkeeper().welcome), wire=Range(2, 3))
    with pytest.raises(ProtocolViolation, match="upgrade this side"):
        check_welcome(welcome)


def test_welcome_names_the_advertised_address_when_a_member_has_moved() -> None:
    door = doorkeeper(advertise=("outside", 10))
    door.move(NodeId(3), ("moved", 30))
    members = decode_welcome(door.welcome).members
    assert members == [(1, "outside", 10), (2, "h", 2), (3, "moved", 30)]
    door.move(NodeId(3), None)
    assert (
        decode_welcome(door.welcome).members
        == decode_welcome(doorkeeper(advertise=("outside", 10)).welcome).members
    )


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


def test_hello_of_a_node_that_is_not_listed_is_accepted_when_it_says_where_it_is() -> None:
    stranger = msgspec.structs.replace(PEER_HELLO, node=9, members=[])
    door = doorkeeper(admits=True)
    assert door.refuse(stranger) == "node 9 is not a member of cluster 'mine'"
    assert door.refuse(msgspec.structs.replace(stranger, advertise=("h", 9))) is None
    assert doorkeeper().refuse(msgspec.structs.replace(stranger, advertise=("h", 9))) is not None


def test_lists_of_members_are_not_compared_when_the_log_names_them() -> None:
    other = msgspec.structs.replace(PEER_HELLO, members=[1, 2])
    assert doorkeeper(admits=True).refuse(other) is not None
    assert doorkeeper(admits=True, established=lambda: True).refuse(other) is None


def test_welcome_names_the_members_by_the_log_when_it_names_them() -> None:
    door = doorkeeper(admits=True, address_of={**ADDRESSES, NodeId(4): ("h", 4)}.get)
    assert {node for node, _, _ in door.members_with(())} == {1, 2, 3}
    assert {node for node, _, _ in door.members_with([NodeId(3), NodeId(4), NodeId(5)])} == {3, 4}
