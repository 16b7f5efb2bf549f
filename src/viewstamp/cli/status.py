"""`viewstamp status`: every node's own account, side by side, and how far the cluster is from an outage."""

import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Annotated, Final, NamedTuple

from viewstamp.cli.failures import DONE, DOWN, REFUSED
from viewstamp.cli.flags import AsJson, ClusterFile, Flag, Timeout
from viewstamp.cli.output import printable, show_json, show_table
from viewstamp.cli.target import CLUSTER_FILE, check_member, check_timeout, load_cluster
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.protocols.registry import protocol_definition
from viewstamp.runtime import operator
from viewstamp.runtime.addresses import format_address
from viewstamp.runtime.cluster_health import Account, Health, assess, seconds_behind
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.members import ask_members

_COLUMNS: Final = "NODE ADDRESS ROLE VIEW LEADER LAST COMMITTED APPLIED SNAPSHOT LAG BEHIND_S LOG_BYTES"
_HEAD: Final = _COLUMNS.split()
_POLL_S: Final = 0.2
_CODES: Final = {"healthy": DONE, "degraded": REFUSED, "one failure from outage": REFUSED, "down": DOWN}

OneNode = Annotated[int | None, Flag("Only this node, with its budgets.")]
Wait = Annotated[float | None, Flag("Wait until the cluster is healthy, at most this many seconds.")]
Watch = Annotated[float | None, Flag("Show it again and again, with this many seconds between.")]


def status(
    *,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    node: OneNode = None,
    wait: Wait = None,
    watch: Watch = None,
    timeout: Timeout = 2.0,
    json: AsJson = False,
) -> int:
    """Show every node: role, view, positions, lag, and how far the cluster is from an outage.

    Exit code 1: a node does not answer or does not serve. 6: nobody serves.
    """
    config = load_cluster(cluster)
    check_timeout(timeout)
    pause = threading.Event()
    for flag, seconds in (("--wait", wait), ("--watch", watch)):
        if seconds is not None:
            check_timeout(seconds, flag)
    found = _ask_until_healthy(config, timeout, wait, pause)
    only = None if node is None else check_member(found.config, node)
    _show_all(found, only, as_json=json)
    while watch is not None:
        pause.wait(watch)
        found = _ask(config, timeout)
        _show_all(found, only, as_json=json)
    return _code(found.accounts, found.health, only)


class _Found(NamedTuple):
    """What the members said."""

    config: ClusterConfig
    """With the members as they are."""
    accounts: dict[NodeId, Account]
    health: Health
    difference: str
    """How the cluster file differs from the members; empty: it does not."""


def _ask(config: ClusterConfig, timeout_s: float) -> _Found:
    now, accounts, difference = ask_members(config, timeout_s=timeout_s)
    health = assess(accounts, tolerates=protocol_definition(config.protocol).guarantees.tolerates)
    return _Found(now, accounts, health, difference)


def _ask_until_healthy(
    config: ClusterConfig, timeout_s: float, wait_s: float | None, pause: threading.Event
) -> _Found:
    deadline = monotonic() + (wait_s or 0.0)
    while True:
        left_s = timeout_s if wait_s is None else max(_POLL_S, deadline - monotonic())
        found = _ask(config, min(timeout_s, left_s))  # nodes that do not answer take all of it
        if wait_s is None or found.health.word == "healthy" or monotonic() >= deadline:
            return found
        pause.wait(_POLL_S)


def ask_all(cluster: ClusterConfig, timeout_s: float) -> dict[NodeId, Account]:
    """Return every node's status or, in one line, why there is none. Takes no longer than `timeout_s`."""
    return operator.cluster_status(cluster, timeout_s=timeout_s)


def document_of(answer: Account) -> dict[str, object]:
    """Return what JSON says of a node."""
    if isinstance(answer, str):
        return {"reachable": False, "reason": answer}
    fields = {name: getattr(answer, name) for name in answer.__struct_fields__ if name != "membership"}
    stamp = answer.last
    peers = [{name: getattr(peer, name) for name in peer.__struct_fields__} for peer in answer.peers]
    return {"reachable": True, **fields, "last": {"view": stamp.view, "seqno": stamp.seqno}, "peers": peers}


def _code(accounts: dict[NodeId, Account], health: Health, only: NodeId | None) -> int:
    if only is None:
        return _CODES[health.word]
    return DONE if only in health.serving or _is_well(accounts[only]) else REFUSED


def _is_well(account: Account) -> bool:
    return isinstance(account, Status) and not account.waiting_for and account.leader is not None


def _show_all(found: _Found, only: NodeId | None, *, as_json: bool) -> None:
    config, accounts, health, difference = found
    shown = accounts if only is None else {only: accounts[only]}
    if as_json:
        nodes = [{"node": node, **document_of(account)} for node, account in shown.items()]
        state: dict[str, object] = {
            "state": health.word,
            "may_fail": health.may_fail,
            "needed": health.needed,
        }
        if difference:
            state["difference"] = difference
        show_json({"cluster_id": config.cluster_id, "leader": health.leader, **state, "nodes": nodes})
        return
    front = max((each.committed for each in accounts.values() if isinstance(each, Status)), default=0)
    show_table(_HEAD, [_row(config, node, account, front, accounts) for node, account in shown.items()])
    for node, account in shown.items():
        trouble = account if isinstance(account, str) else account.waiting_for
        warnings = () if isinstance(account, str) else account.warnings
        for line in (trouble, *warnings):
            if line:
                print(f"node {node}: {printable(line.removeprefix(f'node {node}: '))}")
    if difference:
        print(difference)
    if only is None:
        for line in _sentences(health):
            print(line)
    elif isinstance(account := accounts[only], Status):
        _show_details(account)


def _sentences(health: Health) -> Iterator[str]:
    if health.leader is None:
        yield "nobody is known to lead"
    if health.word != "healthy":
        serving = f"{len(health.serving)} of {len(health.voters)} voters serve, {health.needed} are needed"
        yield f"the cluster is {health.word}: {serving}"


def _show_details(account: Status) -> None:
    print(f"fingerprint of the class: {account.fingerprint:016x}")
    for what, used, limit in account.budgets:
        print(f"{what}: {used} of {limit}")
    for why, count in account.dropped:
        print(f"messages of members ignored, {printable(why)}: {count}")


def _row(
    config: ClusterConfig, node: NodeId, answer: Account, front: int, accounts: dict[NodeId, Account]
) -> list[object]:
    known = config.addresses.get(node)
    address = "-" if known is None else format_address(known)
    if isinstance(answer, str):
        return [node, address, "unreachable", *["-"] * (len(_HEAD) - 3)]
    lag = max(0, front - answer.applied)
    leader = "-" if answer.leader is None else answer.leader
    behind = f"{seconds_behind(answer, accounts):.1f}"
    return [
        node, address, answer.role, answer.view, leader, answer.last, answer.committed, answer.applied,
        answer.snapshot, lag, behind, answer.log_bytes,
    ]  # fmt: skip
