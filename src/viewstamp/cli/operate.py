"""`viewstamp transfer` and `viewstamp snapshot`: an operator's requests."""

from pathlib import Path
from typing import Annotated

from viewstamp.cli.flags import ClusterFile, Flag, Timeout
from viewstamp.cli.status import ask_all
from viewstamp.cli.target import CLUSTER_FILE, check_member, check_timeout, load_cluster
from viewstamp.core.errors import NotExecuted, ViewstampError
from viewstamp.core.events import OperatorRequest, TakeSnapshot, TransferLeadership
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.protocols.registry import protocol_definition
from viewstamp.runtime import operator
from viewstamp.runtime.cluster_health import leader_of
from viewstamp.runtime.config import ClusterConfig


def transfer(
    *,
    to: Annotated[int | None, Flag("The node that is to lead; otherwise any fit one.")] = None,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    timeout: Timeout = 10.0,
) -> None:
    """Hand leadership to another node, as before the leader's machine is restarted.

    Calls under way wait a moment and go on; nothing is lost. Where the operator decides who leads
    (primary_backup) and nobody does, the node named with --to is promoted.
    """
    config = load_cluster(cluster)
    target = None if to is None else check_member(config, to)
    answers = ask_all(config, min(check_timeout(timeout), 2.0))
    leader = leader_of(answers)
    if leader is None:
        _promote(config, target, answers, timeout)
        return
    if leader == target:
        print(f"node {leader} leads already")
        return
    direct(config, leader, TransferLeadership(target), timeout)
    print(f"node {leader} handed over" + ("" if target is None else f" to node {target}"))


def snapshot(
    *,
    node: Annotated[int | None, Flag("The node that is to take it; otherwise the leader.")] = None,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    timeout: Timeout = 60.0,
) -> None:
    """Let a node take a snapshot now and release the log before it."""
    config = load_cluster(cluster)
    check_timeout(timeout)
    taker = find_leader(config, timeout) if node is None else check_member(config, node)
    direct(config, taker, TakeSnapshot(), timeout)
    print(f"node {taker} took a snapshot")


def direct(cluster: ClusterConfig, node: NodeId, directive: OperatorRequest, timeout_s: float) -> None:
    """Let one node follow a directive.

    Raises:
        NotExecuted, OutcomeUnknown: it did not answer.
        ViewstampError: it refused; the text says why.
    """
    refusal = operator.direct(cluster, node, directive, timeout_s=timeout_s)
    if refusal is not None:
        raise ViewstampError(f"node {node} refused: {refusal}")


def find_leader(cluster: ClusterConfig, timeout_s: float) -> NodeId:
    """Return the node that leads; `NotExecuted` names the silent nodes where none is known to."""
    answers = ask_all(cluster, min(timeout_s, 2.0))
    leader = leader_of(answers)
    if leader is None:
        raise _nobody_leads(answers, "")
    return leader


def _promote(
    cluster: ClusterConfig, target: NodeId | None, answers: dict[NodeId, Status | str], timeout_s: float
) -> None:
    """Let this node lead although nobody does; `NotExecuted` where the members elect, or none is named."""
    by_operator = protocol_definition(cluster.protocol).decided_by == "operator"
    if not by_operator or target is None:
        raise _nobody_leads(answers, "; name the node that is to lead with --to" if by_operator else "")
    direct(cluster, target, TransferLeadership(target), timeout_s)
    print(f"node {target} was promoted")


def _nobody_leads(answers: dict[NodeId, Status | str], advice: str) -> NotExecuted:
    silent = [str(node) for node, answer in answers.items() if isinstance(answer, str)]
    missing = f"; nodes {', '.join(silent)} did not answer" if silent else ""
    return NotExecuted(f"nothing was done: nobody is known to lead{missing}{advice}")
