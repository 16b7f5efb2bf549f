"""`viewstamp status`: every node's own account of itself, side by side."""

from pathlib import Path
from typing import Final

from viewstamp.cli.failures import DONE, REFUSED
from viewstamp.cli.flags import AsJson, ClusterFile, Timeout
from viewstamp.cli.output import printable, show_json, show_table
from viewstamp.cli.target import CLUSTER_FILE, check_timeout, load_cluster
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.runtime import operator
from viewstamp.runtime.addresses import format_address
from viewstamp.runtime.config import ClusterConfig

_COLUMNS: Final = "NODE ADDRESS ROLE VIEW LEADER LAST COMMITTED APPLIED SNAPSHOT LAG LOG_BYTES"
_HEAD: Final = _COLUMNS.split()


def status(*, cluster: ClusterFile = Path(CLUSTER_FILE), timeout: Timeout = 2.0, json: AsJson = False) -> int:
    """Show every node: role, view, positions, lag behind the leader, and who does not answer.

    Exit code 1: a node does not answer, does not serve, or nobody leads.
    """
    config = load_cluster(cluster)
    answers = ask_all(config, check_timeout(timeout))
    leader = leader_of(answers)
    if json:
        nodes = [{"node": node, **document_of(answer)} for node, answer in answers.items()]
        show_json({"cluster_id": config.cluster_id, "leader": leader, "nodes": nodes})
    else:
        _show(config, answers, leader)
    well = leader is not None and all(
        isinstance(answer, Status) and not answer.waiting_for for answer in answers.values()
    )
    return DONE if well else REFUSED


def ask_all(cluster: ClusterConfig, timeout_s: float) -> dict[NodeId, Status | str]:
    """Return every node's status or, in one line, why there is none. Takes no longer than `timeout_s`."""
    return operator.cluster_status(cluster, timeout_s=timeout_s)


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


def _show(config: ClusterConfig, answers: dict[NodeId, Status | str], leader: NodeId | None) -> None:
    front = max((answer.committed for answer in answers.values() if isinstance(answer, Status)), default=0)
    show_table(_HEAD, [_row(config, node, answer, front) for node, answer in answers.items()])
    for node, answer in answers.items():
        trouble = answer if isinstance(answer, str) else answer.waiting_for
        warnings = () if isinstance(answer, str) else answer.warnings
        for line in (trouble, *warnings):
            if line:
                print(f"node {node}: {printable(line.removeprefix(f'node {node}: '))}")
    if leader is None:
        print("nobody is known to lead")


def _row(config: ClusterConfig, node: NodeId, answer: Status | str, front: int) -> list[object]:
    address = format_address(config.addresses[node])
    if isinstance(answer, str):
        return [node, address, "unreachable", *["-"] * (len(_HEAD) - 3)]
    lag = max(0, front - answer.applied)
    leader = "-" if answer.leader is None else answer.leader
    return [
        node, address, answer.role, answer.view, leader, answer.last, answer.committed, answer.applied,
        answer.snapshot, lag, answer.log_bytes,
    ]  # fmt: skip
