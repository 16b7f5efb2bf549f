"""`viewstamp member ...`: who takes part, one more, one less, another instead, another address."""

from pathlib import Path
from typing import Annotated, Final

from viewstamp.cli.flags import AsJson, ClusterFile, Flag, Servers
from viewstamp.cli.output import show_json, show_table
from viewstamp.cli.target import CLUSTER_FILE, check_timeout, locate
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import MembershipStatus
from viewstamp.runtime import members
from viewstamp.runtime.addresses import Address, format_address, parse_address
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.runtime.members import Members

Patience = Annotated[float, Flag("Seconds until it gives up waiting.")]
_PATIENCE_S: Final = 30.0


def list_members(
    *,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Patience = _PATIENCE_S,
    json: AsJson = False,
    toml: Annotated[bool, Flag("Print a cluster file that lists the members.")] = False,
) -> None:
    """Show who takes part, by the log of the node that leads, and where each is found."""
    where = locate(cluster, servers)
    found = members.members(where, timeout_s=check_timeout(timeout))
    known = members.cluster_of(where)
    if toml:
        print(_cluster_file(where, known, found), end="")
    elif json:
        show_json(_document(found, known.addresses))
    else:
        _show(found, known.addresses)


def add(
    address: Annotated[str, Flag("Where the node waits, as HOST:PORT.")],
    /,
    *,
    learner: Annotated[bool, Flag("Let it stay a learner; otherwise it votes when it keeps up.")] = False,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Patience = _PATIENCE_S,
    json: AsJson = False,
) -> None:
    """Add the node that waits at HOST:PORT (`viewstamp serve ... --join`)."""
    where = locate(cluster, servers)
    at = parse_address(address)
    done = members.add_member(where, at, learner=learner, timeout_s=check_timeout(timeout))
    _report(done, json=json)


def promote(
    node: Annotated[int, Flag("A learner.")],
    /,
    *,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Patience = _PATIENCE_S,
    json: AsJson = False,
) -> None:
    """Let a learner vote as soon as it keeps up."""
    where = locate(cluster, servers)
    done = members.promote_member(where, NodeId(node), timeout_s=check_timeout(timeout))
    _report(done, json=json)


def remove(
    nodes: Annotated[str, Flag("The node, or several with commas.")],
    /,
    *,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Patience = _PATIENCE_S,
    json: AsJson = False,
) -> None:
    """Remove nodes, all at once. A leader among them hands over first."""
    where = locate(cluster, servers)
    gone = [NodeId(_number(text)) for text in nodes.split(",")]
    _report(members.remove_members(where, gone, timeout_s=check_timeout(timeout)), json=json)


def replace(
    old: Annotated[str, Flag("The node whose place is taken, or several with commas.")],
    address: Annotated[str, Flag("Where its successor waits, as HOST:PORT; as many as nodes.")],
    /,
    *,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Patience = _PATIENCE_S,
    json: AsJson = False,
) -> None:
    """Let nodes that wait take the places of members, in one change, when all of them keep up."""
    where = locate(cluster, servers)
    nodes, places = old.split(","), address.split(",")
    if len(nodes) != len(places):
        raise ConfigurationError(f"{len(nodes)} nodes and {len(places)} addresses: give as many of each")
    pairs = [(NodeId(_number(one)), parse_address(at)) for one, at in zip(nodes, places, strict=True)]
    _report(members.replace_members(where, pairs, timeout_s=check_timeout(timeout)), json=json)


def move(
    node: Annotated[int, Flag("A member.")],
    address: Annotated[str, Flag("Where it is found from now on, as HOST:PORT.")],
    /,
    *,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
) -> None:
    """Tell the nodes that answer where a member is found. It needs no quorum and changes no log."""
    told = members.move_member(locate(cluster, servers), NodeId(node), parse_address(address))
    print(f"told: {', '.join(map(str, told)) or 'nobody, since no node answered'}")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ConfigurationError(f"{text[:40]!r} is not the number of a node")
    return int(text[:20])


def _report(done: Members, *, json: bool) -> None:
    if json:
        show_json(_document(done, done.addresses))
    else:
        _show(done, done.addresses)


def _rows(known: MembershipStatus) -> list[tuple[NodeId, int, str]]:
    """Return (node, incarnation, what it is)."""
    outgoing = [member for member in known.outgoing if member not in known.voters]
    learners = [
        (node, incarnation, "learner, will vote" if node in known.promised else "learner")
        for node, incarnation in known.learners
    ]
    rows = [
        *((node, incarnation, "voter") for node, incarnation in known.voters),
        *learners,
        *((node, incarnation, "voter, leaving") for node, incarnation in outgoing),
    ]
    return sorted(rows)


def _show(found: Members, addresses: dict[NodeId, Address]) -> None:
    known = found.membership
    rows = [
        [node, _where(addresses, node), what, "leads" if node == found.leader else ""]
        for node, _, what in _rows(known)
    ]
    show_table(["NODE", "ADDRESS", "MEMBER", ""], rows)
    print(f"committed at {known.changed_at}" if known.settled else f"under way at {known.changed_at}")


def _document(found: Members, addresses: dict[NodeId, Address]) -> dict[str, object]:
    known = found.membership
    return {
        "leader": found.leader,
        "at": str(known.changed_at),
        "settled": known.settled,
        "members": [
            {"node": node, "incarnation": incarnation, "address": _where(addresses, node), "member": what}
            for node, incarnation, what in _rows(known)
        ],
        "removed": [
            {"node": node, "incarnation": incarnation, "at": str(at)}
            for node, incarnation, at in known.removed
        ],
    }


def _where(addresses: dict[NodeId, Address], node: NodeId) -> str:
    return format_address(addresses[node]) if node in addresses else "-"


def _cluster_file(where: ClusterConfig | str, known: members.Known, found: Members) -> str:
    listed = {node for node, _, _ in _rows(found.membership)}
    places = [Member(node, *at) for node, at in sorted(known.addresses.items()) if node in listed]
    if isinstance(where, ClusterConfig):
        return _with_members(where, tuple(places)).to_toml()
    return ClusterConfig(
        cluster_id=known.cluster_id, members=tuple(places), protocol=known.protocol
    ).to_toml()


def _with_members(cluster: ClusterConfig, listed: tuple[Member, ...]) -> ClusterConfig:
    import msgspec

    return msgspec.structs.replace(cluster, members=listed)
