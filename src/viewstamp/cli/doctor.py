"""`viewstamp doctor`: what is wrong with a cluster, or will be soon; and whether its replicas are equal."""

import socket
import threading
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from time import monotonic
from typing import Annotated, Final, Literal

import msgspec
from cyclopts import Parameter

from viewstamp.cli.failures import DONE, REFUSED
from viewstamp.cli.output import printable, show_json
from viewstamp.cli.target import CLUSTER_FILE, check_timeout, load_cluster
from viewstamp.core.errors import ViewstampError
from viewstamp.core.events import HashState
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.protocols.registry import protocol_definition
from viewstamp.runtime import operator
from viewstamp.runtime.addresses import format_address
from viewstamp.runtime.cluster_health import Account, assess
from viewstamp.runtime.config import MIB, ClusterConfig
from viewstamp.runtime.members import ask_members

CLOCK_US_MAX: Final = 2_000_000
"""Wall clocks that are further apart make logs hard to read; nothing else depends on them."""
SYNC_US_MAX: Final = 100_000
FREE_BYTES_MIN: Final = 1_024 * MIB
_POLL_S: Final = 0.2
_ANSWER_S: Final = 2.0
"""A node that is up says within this time how it is."""

Verdict = Literal["ok", "warning", "wrong"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    verdict: Verdict
    what: str
    text: str


def doctor(
    *,
    compare_state: Annotated[
        bool, Parameter(negative="", help="Compare the states of all replicas at one viewstamp.")
    ] = False,
    cluster: Annotated[Path, Parameter(help="Cluster file.")] = Path(CLUSTER_FILE),
    timeout: Annotated[float, Parameter(help="Seconds for each question.")] = 5.0,
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
) -> int:
    """Look at what breaks clusters: nodes, pairs, clocks, disks, versions, addresses, warnings.

    Exit code 1: something is wrong; a warning alone does not count.
    """
    config = load_cluster(cluster)
    config, accounts, difference = ask_members(config, timeout_s=check_timeout(timeout))
    findings = list(examine(config, accounts))
    if difference:
        findings.append(Finding("warning", "cluster file", difference))
    if compare_state:
        findings.append(compare(config, timeout))
    if json:
        show_json({"findings": [msgspec.structs.asdict(each) for each in findings]})
    else:
        for each in findings:
            print(f"{each.verdict:8}{each.what}: {printable(each.text)}")
    return REFUSED if any(each.verdict == "wrong" for each in findings) else DONE


def examine(config: ClusterConfig, accounts: Mapping[NodeId, Account]) -> Iterator[Finding]:
    """Yield what there is to say of a cluster whose nodes gave these accounts."""
    health = assess(accounts, tolerates=protocol_definition(config.protocol).guarantees.tolerates)
    verdicts: dict[str, Verdict] = {"healthy": "ok", "down": "wrong"}
    yield Finding(verdicts.get(health.word, "warning"), "cluster", health.word)
    known = {node: account for node, account in accounts.items() if isinstance(account, Status)}
    yield from _nodes(accounts)
    yield from _never_heard(known)
    yield from _pairs(known)
    yield from _clocks(known)
    yield from _disks(known)
    yield from _versions(known)
    yield from _addresses(config)


def _nodes(accounts: Mapping[NodeId, Account]) -> Iterator[Finding]:
    for node, account in accounts.items():
        if isinstance(account, str):
            yield Finding("wrong", f"node {node}", account)
        elif account.waiting_for:
            yield Finding("wrong", f"node {node}", account.waiting_for)
        else:
            for warning in account.warnings:
                yield Finding("warning", f"node {node}", warning)


def _never_heard(known: Mapping[NodeId, Status]) -> Iterator[Finding]:
    """Name members that the node that leads has not heard, such as one that was added and is not trusted."""
    leading = [each for each in known.values() if each.leader == each.node]
    if not leading:
        return
    leader = max(leading, key=lambda each: each.view)
    for peer in leader.peers:
        if peer.heard_us_ago is None:
            text = f"node {leader.node}, which leads, has heard nothing of it since it leads: look at its log"
            yield Finding("warning", f"member {peer.node}", text)


def _pairs(known: Mapping[NodeId, Status]) -> Iterator[Finding]:
    apart = [
        f"{a} and {b}"
        for a, b in combinations(sorted(known), 2)
        if b not in known[a].connected and a not in known[b].connected
    ]
    if apart:
        text = f"nodes {', '.join(apart)} do not reach each other: look at the network between them"
        yield Finding("wrong", "pairs", text)
    else:
        yield Finding("ok", "pairs", "every node that answers is connected with every other")


def _clocks(known: Mapping[NodeId, Status]) -> Iterator[Finding]:
    clocks = [clock for each in known.values() if (clock := dict(each.figures).get("wall_us"))]
    apart_us = max(clocks, default=0) - min(clocks, default=0)
    text = f"wall clocks differ by at most {apart_us / 1e6:.1f} s"
    if apart_us > CLOCK_US_MAX:
        yield Finding("warning", "clocks", f"{text}; nothing but the logs depends on them")
    else:
        yield Finding("ok", "clocks", text)


def _disks(known: Mapping[NodeId, Status]) -> Iterator[Finding]:
    for node, account in known.items():
        figures = dict(account.figures)
        sync_us, free = figures.get("sync_us", 0), figures.get("disk_free_bytes", 0)
        text = f"a sync takes {sync_us / 1000:.1f} ms" + (f", {free // MIB} MiB are free" if free else "")
        if figures.get("disk_is_low"):
            yield Finding("wrong", f"disk of node {node}", f"{text}; it refuses commands that need room")
        elif sync_us > SYNC_US_MAX or 0 < free < FREE_BYTES_MIN:
            yield Finding("warning", f"disk of node {node}", text)
        else:
            yield Finding("ok", f"disk of node {node}", text)


def _versions(known: Mapping[NodeId, Status]) -> Iterator[Finding]:
    prints = {each.fingerprint for each in known.values() if each.fingerprint}
    if len(prints) > 1:
        text = ", ".join(f"node {node}: {each.fingerprint:016x}" for node, each in known.items())
        yield Finding("warning", "versions", f"the classes differ ({text}): run the same code on all")
    else:
        yield Finding("ok", "versions", "all nodes run the same class")


def _addresses(config: ClusterConfig) -> Iterator[Finding]:
    for node, (host, port) in config.addresses.items():
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            text = f"{format_address((host, port))} cannot be looked up from here: {error.strerror or error}"
            yield Finding("warning", f"address of node {node}", text)


def compare(config: ClusterConfig, timeout_s: float) -> Finding:
    """Let every node hash its state, and compare the digests at one viewstamp that two or more of them have.

    A node hashes where it stands. Under load nodes stand apart, so it is tried again until two agree on a
    place, or the time is over.
    """
    pause, deadline = threading.Event(), monotonic() + timeout_s
    found = None
    accounts = operator.cluster_status(config, timeout_s=min(timeout_s, _ANSWER_S))
    while True:
        # A node that does not answer has no state to compare, and `examine` names it: nobody waits for it.
        answering = [node for node, each in accounts.items() if isinstance(each, Status)]
        for node in answering:
            try:
                operator.direct(config, node, HashState(), timeout_s=max(_POLL_S, deadline - monotonic()))
            except ViewstampError:
                continue
        accounts = operator.cluster_status(config, timeout_s=min(timeout_s, _ANSWER_S))
        known = {node: each.digests for node, each in accounts.items() if isinstance(each, Status)}
        found = compared(known) or found
        if found is not None and (found.verdict == "wrong" or found.text.count("node ") == len(known)):
            return found
        if monotonic() >= deadline:
            break
        pause.wait(_POLL_S)
    if found is not None:
        return found
    text = "no two replicas were at the same entry when they hashed: try again when fewer commands come"
    return Finding("warning", "state", text)


def compared(digests: Mapping[NodeId, tuple[tuple[int, int], ...]]) -> Finding | None:
    """Return what the digests at the newest place say that most nodes have; None: no place is common."""
    by_place: dict[int, dict[NodeId, int]] = {}
    for node, known in digests.items():
        for seqno, digest in known:
            by_place.setdefault(seqno, {})[node] = digest
    common = [(len(found), seqno) for seqno, found in by_place.items() if len(found) > 1]
    if not common:
        return None
    _, seqno = max(common)
    found = by_place[seqno]
    shown = ", ".join(f"node {node}: {digest:016x}" for node, digest in sorted(found.items()))
    if len(set(found.values())) > 1:
        return Finding("wrong", "state", f"the states at entry {seqno} differ ({shown}): a replica is odd")
    return Finding("ok", "state", f"the states at entry {seqno} are equal ({shown})")
