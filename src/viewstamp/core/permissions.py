"""Which role may send which message of a client. One table: a message without an entry fails a test.

What a client may call within the service is decided by grants; what may come over a member's connection, by
the kind of frame (`link.acceptor`): messages of the protocol come from members alone, and no client's message
comes from them over that connection.
"""

from collections.abc import Mapping
from typing import Final

from viewstamp.core.messages import (
    AdminRequest,
    AskStatus,
    ClientMessage,
    CloseSession,
    Identify,
    KeepAlive,
    OpenSession,
    QueryRequest,
    ReadLog,
    ReadPosition,
    ReadSnapshot,
    Submit,
    WaitFor,
)
from viewstamp.core.principals import Role, role_of

EVERYBODY: Final = frozenset(Role)
OPERATORS: Final = frozenset({Role.OPERATOR})

SENDERS: Final[Mapping[type, frozenset[Role]]] = {
    Submit: EVERYBODY,
    OpenSession: EVERYBODY,
    KeepAlive: EVERYBODY,
    CloseSession: EVERYBODY,
    QueryRequest: EVERYBODY,
    WaitFor: EVERYBODY,
    Identify: EVERYBODY,
    AskStatus: EVERYBODY,
    AdminRequest: OPERATORS,
    ReadPosition: OPERATORS,
    ReadSnapshot: OPERATORS,
    ReadLog: OPERATORS,
}
"""By message: the roles that may send it."""


def may_send(principal: str, message: ClientMessage) -> bool:
    """Return whether a principal's role may send this message; what is in no table may nobody send."""
    senders = SENDERS.get(type(message), frozenset())
    return senders is EVERYBODY or role_of(principal) in senders
