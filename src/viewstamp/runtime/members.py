"""What an operator asks about the members: who they are, one more, one less, another instead.

These functions block, and need no event loop. Each change returns when it is committed; what needs
two configurations, when the second is. Asked again, it changes nothing.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError, NotExecuted, OutcomeUnknown
from viewstamp.core.events import ChangeMembers, MoveMember
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.protocol import MembershipStatus, Status
from viewstamp.link.handshake import Welcome
from viewstamp.runtime.addresses import Address, format_address
from viewstamp.runtime.client_base import make_asker
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.runtime.discovery import Known as Located
from viewstamp.runtime.discovery import Where, locate
from viewstamp.runtime.operator import Account, cluster_status, direct
from viewstamp.runtime.security import OPEN, client_security
from viewstamp.runtime.sockets import ask_blocking
from viewstamp.runtime.system import fresh_rng, monotonic_us

TIMEOUT_S: Final = 30.0
_WORD_S: Final = 10.0
"""So long may a node that was added be silent."""
_PAUSE_S: Final = 0.1
_PAUSE: Final = threading.Event()
"""Never set: waiting for it is a pause."""
_TRY_AGAIN: Final = ("does not lead", "try again", "may still come")
"""Parts of refusals after which the same change may be asked for again."""


class Members(msgspec.Struct, frozen=True):
    """The members, as the leader names them."""

    leader: NodeId
    membership: MembershipStatus
    addresses: dict[NodeId, Address] = {}
    """Where each is found, as a member says."""


def members(where: Where, *, timeout_s: float = TIMEOUT_S) -> Members:
    """Return the members by the log of the node that leads.

    Raises:
        ConfigurationError: `where` names no cluster, or its protocol does not say.
        NotExecuted: nobody was known to lead in time.
    """
    return _until(lambda: _leading(where), timeout_s, "nobody is known to lead")


def add_member(
    where: Where, address: Address, *, learner: bool = False, timeout_s: float = TIMEOUT_S
) -> Members:
    """Add the node that waits at this address; it votes when it keeps up, unless it is to stay a learner.

    Returns when the node that leads has heard it.

    Raises:
        ConfigurationError: no node of this cluster answers there, or the one that does votes already.
        NotExecuted: it was refused, with the reason. OutcomeUnknown: it may still come, or it was added and
            has not been heard within 10 s.
    """
    deadline = time.monotonic() + timeout_s
    node, incarnation = node_at(address, where)
    if (node, incarnation) in members(where, timeout_s=timeout_s).membership.voters:
        raise _votes_already(node, address)
    promoted = () if learner else (node,)
    change_members(where, ChangeMembers(add=((node, incarnation),), promote=promoted), timeout_s=timeout_s)
    return _await_word(where, node, min(_WORD_S, max(1.0, deadline - time.monotonic())))


def promote_member(where: Where, node: NodeId, *, timeout_s: float = TIMEOUT_S) -> Members:
    """Let a learner vote as soon as it keeps up; raises as `add_member`."""
    return change_members(where, ChangeMembers(promote=(node,)), timeout_s=timeout_s)


def remove_members(where: Where, nodes: Iterable[NodeId], *, timeout_s: float = TIMEOUT_S) -> Members:
    """Remove these nodes, all at once; a leader among them hands over first.

    One that was removed before stays removed. Raises as `add_member`; also `ConfigurationError` for a node
    that never was a member.
    """
    gone = tuple(nodes)
    known = members(where, timeout_s=timeout_s).membership
    _refuse_strangers(gone, _listed(known), also=(node for node, _, _ in known.removed))
    return change_members(where, ChangeMembers(remove=gone), timeout_s=timeout_s)


def replace_members(
    where: Where, pairs: Iterable[tuple[NodeId, Address]], *, timeout_s: float = TIMEOUT_S
) -> Members:
    """Let the nodes at these addresses take the places of members, all in one change, when all keep up.

    Returns when the new nodes are learners; the change itself follows when they have caught up. Raises as
    `add_member`; also `ConfigurationError` where a successor votes already beside the node that it replaces.
    """
    listed = list(pairs)
    found = [(old, *node_at(address, where)) for old, address in listed]
    voters = members(where, timeout_s=timeout_s).membership.voters
    voting = {node for node, _ in voters}
    for (old, node, incarnation), (_, address) in zip(found, listed, strict=True):
        if old in voting and (node, incarnation) in voters:  # else it is this very change, asked for again
            raise _votes_already(node, address)
    change = ChangeMembers(
        add=tuple((node, incarnation) for _, node, incarnation in found),
        replace=tuple((old, node) for old, node, _ in found),
    )
    also = {node: address for (_, node, _), (_, address) in zip(found, listed, strict=True)}
    return change_members(where, change, also, timeout_s=timeout_s)


def move_member(where: Where, node: NodeId, address: Address, *, timeout_s: float = 10.0) -> list[NodeId]:
    """Tell every node that answers where a member is found; return which were told. No quorum is needed.

    Raises:
        ConfigurationError: no node that answers knows this member, or another member is found there. Nobody
            was told.
    """
    places, move = _current(where), MoveMember(node, *address)
    answers = {other: each for other, each in cluster_status(places).items() if isinstance(each, Status)}
    listed = [_listed(each.membership) for each in answers.values() if each.membership is not None]
    _refuse_strangers((node,), set().union(*listed) or set(places.addresses))
    there = [other for other, at in places.addresses.items() if at == address and other != node]
    if there:
        raise ConfigurationError(
            f"node {there[0]} is found at {format_address(address)}: nobody was told; if it has left that "
            f"address, say first where it is, with `viewstamp member move {there[0]} HOST:PORT`"
        )
    others = [other for other in answers if other != node]
    return [other for other in others if direct(places, other, move, timeout_s=timeout_s) is None]


def _votes_already(node: NodeId, address: Address) -> ConfigurationError:
    return ConfigurationError(
        f"node {node} at {format_address(address)} is a member already, and votes: nothing was changed"
    )


def _listed(known: MembershipStatus) -> set[NodeId]:
    """Return who takes part, a node that is leaving too."""
    return {node for node, _ in (*known.voters, *known.learners, *known.outgoing)}


def _refuse_strangers(nodes: Iterable[NodeId], listed: set[NodeId], also: Iterable[NodeId] = ()) -> None:
    """Raise `ConfigurationError` for nodes that are neither members nor among the others."""
    strangers = sorted(set(nodes) - listed - set(also))
    if strangers:
        named, known = (", ".join(map(str, each)) for each in (strangers, sorted(listed)))
        what = f"node {named} is not a member" if len(strangers) == 1 else f"nodes {named} are not members"
        raise ConfigurationError(f"{what}: nothing was changed; the members are {known}")


def change_members(
    where: Where,
    change: ChangeMembers,
    also: Mapping[NodeId, Address] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> Members:
    """Ask the leader, whichever node that is by then, for a change; return the members after it.

    `also` says where nodes are found that the members may not know yet: nobody of those asked may be left
    when the change is done.

    Raises:
        NotExecuted: it was refused, with the reason. OutcomeUnknown: it may still come.
    """
    deadline = time.monotonic() + timeout_s
    where = _widened(where, {**_current(where).addresses, **(also or {})})
    while True:
        leader = members(where, timeout_s=max(_PAUSE_S, deadline - time.monotonic())).leader
        refusal = direct(_current(where), leader, change, timeout_s=max(1.0, deadline - time.monotonic()))
        if refusal is None:
            break
        if not any(part in refusal for part in _TRY_AGAIN) or time.monotonic() >= deadline:
            raise NotExecuted(refusal)
        _PAUSE.wait(_PAUSE_S)
    try:
        left_s = max(_PAUSE_S, deadline - time.monotonic())
        return _until(lambda: _settled(where), left_s, "the change is committed, and not complete yet")
    except NotExecuted as error:
        raise OutcomeUnknown(f"{error}: look with `viewstamp member list`") from None


def node_at(address: Address, where: Where, *, timeout_s: float = 5.0) -> tuple[NodeId, Incarnation]:
    """Return the id of the node of this cluster that listens there, and the incarnation of its directory.

    Raises:
        ConfigurationError: no node answers there, or it does not say.
    """
    there, cluster = format_address(address), _configured(where)
    welcome = _ask(address, cluster, timeout_s)
    if isinstance(welcome, str):
        raise ConfigurationError(
            f"no node answers at {there}: {welcome}; nothing was changed: start it with `viewstamp serve "
            "APP:CLASS --join HOST:PORT`, and repeat this"
        )
    waiting = [there] if cluster is None else _listing(cluster, {NodeId(welcome.node): address})
    account = cluster_status(waiting, timeout_s=timeout_s).get(NodeId(welcome.node))
    if not isinstance(account, Status) or not account.incarnation:
        raise ConfigurationError(f"node {welcome.node} at {there} does not say which data directory it has")
    return account.node, account.incarnation


class Known(msgspec.Struct, frozen=True):
    """What a member says of its cluster to a stranger."""

    cluster_id: str
    protocol: str
    addresses: dict[NodeId, Address]


def cluster_of(where: Where, *, timeout_s: float = 2.0) -> Known:
    """Return what the first member says that answers: a cluster file may be older than the members.

    Where a configuration is given, a member is dialled by its address there and is believed when it has
    proved, by the secret or by TLS, which node it is. If none has, the addresses of the configuration count:
    a process at the address of a dead member cannot have an operator's proof sent to itself.

    Raises:
        ConfigurationError: `where` names no cluster.
        NotExecuted: no member answered.
    """
    cluster, troubles = _configured(where), []
    for node, place in _places(where):
        welcome = _ask(place, cluster, timeout_s, node)
        if not isinstance(welcome, str):
            addresses = {NodeId(node): (host, port) for node, host, port in welcome.members}
            return Known(welcome.cluster_id, welcome.protocol, addresses)
        troubles.append(f"{format_address(place)}: {welcome}")
    if cluster is not None and cluster.tls is None and _is_answered(cluster, timeout_s):
        return Known(cluster.cluster_id, cluster.protocol, dict(cluster.addresses))
    raise NotExecuted(f"no member answers: {'; '.join(troubles)}")


def ask_members(
    cluster: ClusterConfig, *, timeout_s: float = 2.0
) -> tuple[ClusterConfig, dict[NodeId, Account], str]:
    """Ask every member for its status: by the log of those of the file that answer, not by the file.

    Returns the cluster with its members as they are, what each said, and in one line how the file differs;
    empty: it does not. Takes up to three times `timeout_s` where it does.
    """
    accounts = dict(cluster_status(cluster, timeout_s=timeout_s))
    listed = _members_by(accounts)
    if not listed or listed == accounts.keys():
        return cluster, accounts, ""
    try:
        places = cluster_of(cluster, timeout_s=timeout_s).addresses
    except (NotExecuted, ConfigurationError):
        places = {}
    new = {node: places[node] for node in sorted(listed - accounts.keys()) if node in places}
    if new:
        accounts |= cluster_status(_listing(cluster, new), timeout_s=timeout_s)
    lost = dict.fromkeys(listed - accounts.keys(), "no member says where it is found")
    told: dict[NodeId, Account] = {**accounts, **lost}
    known = {**cluster.addresses, **new}
    now = _listing(cluster, {node: known[node] for node in sorted(listed) if node in known})
    return now, {node: told[node] for node in sorted(listed)}, _difference(cluster, listed)


def _members_by(accounts: Mapping[NodeId, Account]) -> set[NodeId]:
    """Return the members by the newest word; none where nobody knows them."""
    known = [each for each in accounts.values() if isinstance(each, Status) and each.membership is not None]
    newest = max(known, key=lambda each: (each.view, each.committed), default=None)
    return set() if newest is None or newest.membership is None else _listed(newest.membership)


def _difference(cluster: ClusterConfig, listed: set[NodeId]) -> str:
    mine, theirs = (", ".join(map(str, sorted(each))) for each in (cluster.addresses, listed))
    return (
        f"the cluster file lists nodes {mine}, and the members are {theirs}: print a new file with "
        "`viewstamp member list --toml`"
    )


def _is_answered(cluster: ClusterConfig, timeout_s: float) -> bool:
    """Return whether there is a server at any address of the file, proved or not."""
    return any(not isinstance(_ask(at, cluster, timeout_s), str) for at in cluster.addresses.values())


def _places(where: Where) -> list[tuple[NodeId | None, Address]]:
    """Return where to ask, and which node should be there; None: any."""
    located = locate(where)
    return [(None, place) for place in located] if isinstance(located, list) else [*located.addresses.items()]


def _current(where: Where) -> ClusterConfig:
    """Return the cluster with its members as they are now."""
    known, cluster = cluster_of(where), _configured(where)
    if cluster is not None:
        return _listing(cluster, known.addresses)
    listed = tuple(Member(node, *address) for node, address in known.addresses.items())
    return ClusterConfig(cluster_id=known.cluster_id, members=listed, protocol=known.protocol)


def _widened(where: Where, addresses: Mapping[NodeId, Address]) -> Where:
    """Return where to ask for the same cluster at these addresses too, those known before first."""
    located = locate(where)
    if isinstance(located, list):
        return [format_address(at) for at in dict.fromkeys([*located, *addresses.values()])]
    assert located.cluster is not None
    return _listing(located.cluster, {**located.addresses, **addresses})


def _configured(where: Where) -> ClusterConfig | None:
    """Return the whole configuration; None: only addresses were given."""
    located = locate(where)
    return located.cluster if isinstance(located, Located) else None


def _listing(cluster: ClusterConfig, addresses: dict[NodeId, Address]) -> ClusterConfig:
    """Return the same cluster with other members."""
    listed = tuple(Member(node, *address) for node, address in addresses.items())
    now = msgspec.structs.replace(cluster, members=listed)
    held = vars(cluster).get("local_secret")  # of a cluster in one process
    return now if held is None else now.holding(held)


def _ask(
    address: Address, cluster: ClusterConfig | None, timeout_s: float, node: NodeId | None = None
) -> Welcome | str:
    """Ask an address which server it belongs to; with TLS, where the cluster has it.

    Where a node is meant it has to be that one, and to prove it as far as the cluster can.
    """
    if cluster is None:
        return ask_blocking(address, make_asker(fresh_rng()), monotonic_us, timeout_s)
    has_proof = node is not None or cluster.tls is not None
    security = client_security(cluster, operator=True) if has_proof else OPEN
    asker = make_asker(fresh_rng())
    if node is not None:
        hello = security.greet_server(cluster.cluster_id, node, operator=True, insists=True)
        asker = make_asker(fresh_rng(), hello)
    secure = security.dial(cluster.cluster_id, node)
    return ask_blocking(address, asker, monotonic_us, timeout_s, secure)


def _leader(current: ClusterConfig) -> Status | None:
    """Return what the node of the highest view says that takes itself for the leader."""
    answers = cluster_status(current).values()
    leading = [each for each in answers if isinstance(each, Status) and each.leader == each.node]
    return max(leading, key=lambda account: account.view, default=None)


def _await_word(where: Where, node: NodeId, timeout_s: float) -> Members:
    """Wait until the node that leads has heard this one, which was added."""

    def heard() -> Members | None:
        current = _current(where)
        leader = _leader(current)
        if leader is None or leader.membership is None:
            return None
        by_peers = any(each.node == node and each.heard_us_ago is not None for each in leader.peers)
        found = Members(leader.node, leader.membership, dict(current.addresses))
        return found if by_peers or leader.node == node else None

    try:
        return _until(heard, timeout_s, "")
    except NotExecuted:
        raise OutcomeUnknown(
            f"node {node} was added, and the node that leads has not heard it within {timeout_s:.0f} s: it "
            f"votes only when it keeps up; its log says why, and `viewstamp member remove {node}` undoes this"
        ) from None


def _leading(where: Where) -> Members | None:
    """Return the members by the node of the highest view that takes itself for the leader."""
    current = _current(where)
    best = _leader(current)
    if best is None:
        return None
    if best.membership is None:
        raise ConfigurationError("the members of this cluster are those of its file, and do not change")
    return Members(best.node, best.membership, dict(current.addresses))


def _settled(where: Where) -> Members | None:
    known = _leading(where)
    return known if known is not None and known.membership.settled else None


def _until(look: Callable[[], Members | None], timeout_s: float, why: str) -> Members:
    deadline = time.monotonic() + timeout_s
    while (found := look()) is None:
        if time.monotonic() >= deadline:
            raise NotExecuted(f"not done within {timeout_s:g} s: {why}")
        _PAUSE.wait(_PAUSE_S)
    return found
