"""Asking single nodes: their status, or to follow a directive."""

from viewstamp.core.errors import ViewstampError
from viewstamp.core.events import Directive
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.runtime import operator
from viewstamp.runtime.config import ClusterConfig


def ask_all(cluster: ClusterConfig, timeout_s: float) -> dict[NodeId, Status | str]:
    """Return every node's status or, in one line, why there is none. Takes no longer than `timeout_s`."""
    return operator.cluster_status(cluster, timeout_s=timeout_s)


def direct(cluster: ClusterConfig, node: NodeId, directive: Directive, timeout_s: float) -> None:
    """Let one node follow a directive.

    Raises:
        NotExecuted, OutcomeUnknown: it did not answer.
        ViewstampError: it refused; the text says why.
    """
    refusal = operator.direct(cluster, node, directive, timeout_s=timeout_s)
    if refusal is not None:
        raise ViewstampError(f"node {node} refused: {refusal}")


def leader_of(answers: dict[NodeId, Status | str]) -> NodeId | None:
    """Return the node that leads in the highest view that any node speaks of; None: nobody is known to."""
    known = [
        answer for answer in answers.values() if isinstance(answer, Status) and answer.leader is not None
    ]
    newest = max(known, key=lambda status: status.view, default=None)
    return None if newest is None else newest.leader


def document_of(answer: Status | str) -> dict[str, object]:
    """Return what JSON says of a node."""
    if isinstance(answer, str):
        return {"reachable": False, "reason": answer}
    fields = {name: getattr(answer, name) for name in answer.__struct_fields__}
    stamp = answer.last
    peers = [{name: getattr(peer, name) for name in peer.__struct_fields__} for peer in answer.peers]
    return {"reachable": True, **fields, "last": {"view": stamp.view, "seqno": stamp.seqno}, "peers": peers}
