"""The matrix of roles and messages, made from the definitions: a message without an entry fails."""

from random import Random
from typing import get_args

import msgspec
import pytest

from viewstamp.core.messages import ClientMessage, ServerMessage
from viewstamp.core.permissions import OPERATORS, SENDERS, may_send
from viewstamp.core.principals import ANONYMOUS, LOCAL_OPERATOR, Role
from viewstamp.protocols.registry import PROTOCOL_NAMES, protocol_definition
from viewstamp.sim.workloads.hostile_values import Values

PRINCIPALS = {
    Role.NODE: ("node/2",),
    Role.OPERATOR: ("operator/ann", LOCAL_OPERATOR),
    Role.CLIENT: ("client/shop",),
    Role.ANONYMOUS: (ANONYMOUS, "", "operator", "operator/", "root/ann"),
}
DIRECTING = {"AdminRequest", "ReadPosition", "ReadSnapshot", "ReadLog"}
"""The messages that need an operator: directives, and what reads the log past all grants.

A new one that does is added here on purpose.
"""


def test_each_message_has_an_entry_when_it_can_be_decoded() -> None:
    assert set(SENDERS) == set(get_args(ClientMessage))


@pytest.mark.parametrize("message_type", get_args(ClientMessage), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("role", Role)
def test_message_is_taken_when_the_role_may_send_it(message_type: type, role: Role) -> None:
    tree = Values(Random(1), {}).of(message_type)
    message: ClientMessage = msgspec.convert(tree, message_type, strict=False)
    expected = role is Role.OPERATOR or message_type.__name__ not in DIRECTING
    for principal in PRINCIPALS[role]:
        assert may_send(principal, message) is expected, principal


def test_operators_alone_direct_when_the_table_is_read() -> None:
    assert {kind.__name__ for kind, senders in SENDERS.items() if senders == OPERATORS} == DIRECTING


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
def test_messages_of_members_and_of_clients_have_decoders_of_their_own(name: str) -> None:
    """A frame of one kind is never given to the other's decoder, and none of the types is in both."""
    peers = set(get_args(protocol_definition(name).message_type))
    assert not peers & (set(get_args(ClientMessage)) | set(get_args(ServerMessage)))


def test_message_is_refused_when_it_is_in_no_table() -> None:
    assert not may_send("operator/ann", object())  # type: ignore[arg-type]
