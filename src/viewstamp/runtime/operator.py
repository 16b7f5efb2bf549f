"""What an operator asks of a cluster: an account of every node, a transfer of leadership, a snapshot.

These functions block, and need no event loop: they are for the command line and for scripts.
"""

from typing import TypeAlias

from viewstamp.core.errors import ProtocolViolation
from viewstamp.core.events import OperatorRequest
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import AdminReply, StatusReply, decode_server_message
from viewstamp.core.protocol import Status
from viewstamp.replica.events import Outcome, Returned
from viewstamp.runtime.blocking import BlockingClient
from viewstamp.runtime.client_base import NO_ERRORS, failure_of
from viewstamp.runtime.discovery import Where

Account: TypeAlias = Status | str
"""A node's status, or in one line why there is none."""


def cluster_status(where: Where, *, timeout_s: float = 2.0) -> dict[NodeId, Account]:
    """Ask every member for its status, all at once, and return what each said, in order of their ids.

    Raises:
        ConfigurationError: `where` names no cluster.
        NotExecuted: only addresses were given, and none of them answered.
    """
    client = BlockingClient(where, timeout_s=timeout_s)
    try:
        servers = client.servers
        outcomes = client.operate([(server, None) for server in servers])
    finally:
        client.close()
    return {server: _account(server, outcome) for server, outcome in zip(servers, outcomes, strict=True)}


def direct(where: Where, node: NodeId, directive: OperatorRequest, *, timeout_s: float = 10.0) -> str | None:
    """Let one node follow a directive; return why it refused, in one line, or None: done.

    Raises:
        ConfigurationError: `where` names no cluster.
        NotExecuted, OutcomeUnknown: the node did not answer.
    """
    client = BlockingClient(where, timeout_s=timeout_s, operator=True)
    try:
        (outcome,) = client.operate([(node, directive)])
    finally:
        client.close()
    if not isinstance(outcome, Returned):
        raise failure_of(outcome, NO_ERRORS)
    reply = decode_server_message(outcome.payload)
    if not isinstance(reply, AdminReply):
        raise ProtocolViolation(f"node {node} answered a directive with something else")
    return reply.refusal


def _account(node: NodeId, outcome: Outcome) -> Account:
    if not isinstance(outcome, Returned):
        return str(failure_of(outcome, NO_ERRORS)).removeprefix(f"node {node}: ")  # it is shown beside it
    reply = decode_server_message(outcome.payload)
    return reply.status if isinstance(reply, StatusReply) else "it answered with something else"
