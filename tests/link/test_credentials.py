"""What certificates prove: the role in a URI, the member that a hello may be, the server that was meant."""

from typing import Any

import msgspec
import pytest

from tests.link.test_proof import Numbers, door
from viewstamp.core.ids import NodeId
from viewstamp.link.acceptor import Greeted
from viewstamp.link.admission import Admitted, Bearer, Claim, Entrance
from viewstamp.link.credentials import Certified, Trust, principal_of, read_uris, refuse_server, uri_of
from viewstamp.link.handshake import decode_hello, encode_hello, hello_of

NODE = Certified("mine", "node/2")
CLIENT = Certified("mine", "client/shop")
OPERATOR = Certified("mine", "operator/ann")


@pytest.mark.parametrize("principal", ["node/3", "client/shop-1.eu", "operator/ann"])
def test_certificate_is_read_when_it_has_one_uri_of_ours(principal: str) -> None:
    uri = uri_of("mine", principal)
    assert read_uris(["https://example.org", uri, "spiffe://mine/node/3"]) == Certified("mine", principal)


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["viewstamp://mine/node/3", "viewstamp://mine/client/shop"],
        ["viewstamp://mine/node/3", "viewstamp://mine/node/3"],
        ["viewstamp://mine"],
        ["viewstamp:///node/3"],
        ["viewstamp://mine/node/"],
        ["viewstamp://mine/root/ann"],
        ["viewstamp://mine/local-operator"],
        ["viewstamp://mine/anonymous"],
        ["viewstamp://mine/operator/ann/client"],
        ["viewstamp://mine/operator/" + "a" * 65],
        ["viewstamp://" + "c" * 300 + "/node/3"],
        ["viewstamp://m\nine/node/3"],
        ["VIEWSTAMP://mine/node/3"],
        ["viewstamp://mine/client/shop", "ViewStamp://mine/node/3"],
        ["viewstamp://mine/node/03"],
        ["viewstamp://mine/node/3/"],
        ["viewstamp://mine/client/%2A"],
    ],
)
def test_certificate_says_nothing_when_its_names_are_not_one_of_ours(uris: list[str]) -> None:
    assert isinstance(read_uris(uris), str)


@pytest.mark.parametrize(
    ("role", "node", "certified", "principal"),
    [
        ("peer", 2, NODE, "node/2"),
        ("peer", 3, NODE, None),
        ("peer", 2, CLIENT, None),
        ("peer", 2, OPERATOR, None),
        ("peer", 2, Certified("other", "node/2"), None),
        ("peer", 2, Certified("mine", "node/02"), None),
        ("peer", 2, None, None),
        ("client", -1, CLIENT, "client/shop"),
        ("client", -1, OPERATOR, "operator/ann"),
        ("client", -1, NODE, "node/2"),
        ("client", -1, Certified("other", "client/shop"), None),
        ("client", -1, None, None),
        ("operator", -1, OPERATOR, "operator/ann"),
        ("operator", -1, CLIENT, None),
        ("operator", -1, NODE, None),
    ],
)
def test_principal_is_that_of_the_certificate_when_the_hello_agrees(
    role: str, node: int, certified: Certified | None, principal: str | None
) -> None:
    found, refusal = principal_of(Trust.CERTIFICATE, role, node, cluster_id="mine", certified=certified)
    assert (found, refusal is None) == (principal or "", principal is not None)


@pytest.mark.parametrize(
    ("certified", "cluster_id", "node", "right"),
    [
        (NODE, "mine", 2, True),
        (NODE, "", None, True),
        (NODE, "mine", 1, False),
        (NODE, "other", 2, False),
        (CLIENT, "mine", None, False),
        (OPERATOR, "", None, False),
        (None, "", None, False),
        ("unreadable", "", None, False),
    ],
)
def test_server_is_left_when_its_certificate_is_not_the_one_that_was_meant(
    certified: Certified | str | None, cluster_id: str, node: int | None, right: bool
) -> None:
    reason = refuse_server(certified, cluster_id, None if node is None else NodeId(node))
    assert (reason is None) is right


def test_certificate_decides_when_a_hello_claims_more() -> None:
    entrance = Entrance(door(1), "mine", Trust.CERTIFICATE, None, Numbers())
    hello = encode_hello(door(2).greeting(NodeId(1), 7))  # type: ignore[arg-type]
    greeted = Greeted(decode_hello(hello), hello)
    member = entrance.on_hello(greeted, NODE)
    assert isinstance(member, Admitted)
    assert (member.principal, member.incarnation) == ("node/2", 7)
    assert isinstance(entrance.on_hello(greeted, CLIENT), str)
    client = encode_hello(hello_of("mine", NodeId(1)))
    admitted = entrance.on_hello(Greeted(decode_hello(client), client), CLIENT)
    assert isinstance(admitted, Admitted)
    assert (admitted.principal, admitted.is_peer) == ("client/shop", False)


def bearer(token: str) -> Bearer | str:
    return Bearer("client/bea", 60.0) if token == "good" else "it is not"


def entered(
    role: str, token: str, certified: Certified | None = None, **fields: Any
) -> Admitted | Claim | str:
    entrance = Entrance(door(1), "mine", Trust.NOTHING, None, Numbers(), **{"verify": bearer} | fields)
    hello = msgspec.structs.replace(hello_of("mine", NodeId(1), token=token), role=role)
    return entrance.on_hello(Greeted(hello, encode_hello(hello)), None)


def test_a_token_names_a_client_and_nobody_else() -> None:
    admitted = entered("client", "good")
    assert isinstance(admitted, Admitted)
    assert (admitted.principal, admitted.ends_after_s, admitted.is_peer) == ("client/bea", 60.0, False)
    assert entered("client", "bad") == "it is not"
    assert entered("operator", "good") == "a token is for clients: it was shown by a operator"
    assert isinstance(entered("peer", "good"), str)
    assert entered("client", "good", verify=None) == "this cluster accepts no tokens"


def test_a_certificate_counts_where_a_token_was_shown_as_well() -> None:
    entrance = Entrance(door(1), "mine", Trust.CERTIFICATE, None, Numbers(), bearer)
    hello = hello_of("mine", NodeId(1), token="good")
    admitted = entrance.on_hello(Greeted(hello, encode_hello(hello)), CLIENT)
    assert isinstance(admitted, Admitted)
    assert (admitted.principal, admitted.ends_after_s) == ("client/shop", None)


def test_a_token_does_not_stand_in_the_text_of_a_hello() -> None:
    assert "good" not in repr(hello_of("mine", NodeId(1), token="good"))
