"""`viewstamp transfer` and `viewstamp snapshot`: an operator's wishes."""

from pathlib import Path
from typing import Annotated

from viewstamp.cli.flags import ClusterFile, Flag, Timeout
from viewstamp.cli.remote import ask_all, direct, leader_of
from viewstamp.cli.target import CLUSTER_FILE, check_member, check_timeout, load_cluster
from viewstamp.core.errors import NotExecuted
from viewstamp.core.events import TakeSnapshot, TransferLeadership
from viewstamp.core.ids import NodeId
from viewstamp.runtime.config import ClusterConfig


def transfer(
    *,
    to: Annotated[int | None, Flag("The node that is to lead; otherwise any fit one.")] = None,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    timeout: Timeout = 10.0,
) -> None:
    """Hand leadership to another node, as before the leader's machine is restarted.

    Calls under way wait a moment and go on; nothing is lost.
    """
    config = load_cluster(cluster)
    target = None if to is None else check_member(config, to)
    leader = find_leader(config, check_timeout(timeout))
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


def find_leader(cluster: ClusterConfig, timeout_s: float) -> NodeId:
    """Return the node that leads; `NotExecuted` names the silent nodes where none is known to."""
    answers = ask_all(cluster, min(timeout_s, 2.0))
    leader = leader_of(answers)
    if leader is None:
        silent = [str(node) for node, answer in answers.items() if isinstance(answer, str)]
        missing = f"; nodes {', '.join(silent)} did not answer" if silent else ""
        raise NotExecuted(f"nothing was done: nobody is known to lead{missing}")
    return leader
