"""How a node that no cluster file lists gets to know the cluster that it is to join.

It asks one member, whose welcome names the cluster, its protocol, its options and its members. What it learnt
is kept in its data directory, so that it starts again when that member is gone.
"""

from pathlib import Path
from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import UNREADABLE
from viewstamp.link.handshake import Welcome
from viewstamp.protocols.registry import protocol_definition
from viewstamp.runtime.addresses import Address, format_address
from viewstamp.runtime.client_base import make_asker
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.runtime.security import SecureDial
from viewstamp.runtime.sockets import ask_blocking
from viewstamp.runtime.system import fresh_rng, monotonic_us

NAME: Final = "joined.json"
_ASK_S: Final = 5.0
_BYTES_MAX: Final = 1 << 20


class Joined(msgspec.Struct, frozen=True):
    """What a node that joined must know to start again."""

    node: int
    cluster: ClusterConfig


def join(
    seed: Address,
    data: Path,
    *,
    node: int | None,
    listen: Address | None,
    listed: ClusterConfig | None = None,
) -> Joined:
    """Return the cluster of which `seed` is a member, with this node as one more, and the node's id.

    `node` is the id it is to have, None: one more than the highest known. `listen` is where it listens.
    `listed` is what a cluster file of that cluster says: from it come the secret or the certificates by which
    this node proves itself, the grants and the tokens; its members may be out of date.
    A node that joined before keeps all of this, and needs the seed only for new addresses.

    Raises:
        ConfigurationError: the seed does not answer or its members cannot be changed, or the node joined
            before as another one, or the file is that of another cluster.
    """
    before = _read(data)
    if listed is None and before is not None:
        listed = before.cluster
    secure = None if listed is None else _dial(listed, node if before is None else before.node)
    answer = ask_blocking(seed, make_asker(fresh_rng()), monotonic_us, _ASK_S, secure)
    if isinstance(answer, str):
        if before is None:
            raise ConfigurationError(f"no member answers at {format_address(seed)}: {answer}")
        return Joined(before.node, _proved_by(listed, before.cluster))
    if before is not None:
        if answer.cluster_id != before.cluster.cluster_id or node not in {None, before.node}:
            raise ConfigurationError(
                f"{data} belongs to node {before.node} of cluster {before.cluster.cluster_id!r}: name "
                "another directory, or a member of that cluster and the id of that node"
            )
        node, own = before.node, before.cluster.addresses[NodeId(before.node)]
        return Joined(node, _proved_by(listed, _cluster_of(answer, node, listen or own)))
    if listen is None:
        raise ConfigurationError("say with --listen HOST:PORT where this node is to be reached")
    chosen = 1 + max(number for number, _, _ in answer.members) if node is None else node
    if chosen in {number for number, _, _ in answer.members}:
        raise ConfigurationError(f"node {chosen} is a member already: choose another id with --node")
    return Joined(chosen, _proved_by(listed, _cluster_of(answer, chosen, listen)))


def keep(data: Path, joined: Joined) -> None:
    """Write into the data directory what the node needs to start again."""
    temporary = data / f"{NAME}.tmp"
    temporary.write_bytes(msgspec.json.encode(joined))
    temporary.replace(data / NAME)


def _cluster_of(welcome: Welcome, node: int, listen: Address) -> ClusterConfig:
    guarantees = protocol_definition(welcome.protocol).guarantees
    if not guarantees.changes_members:
        raise ConfigurationError(
            f"the members of cluster {welcome.cluster_id!r} are those of its file: {welcome.protocol} does "
            "not change them while it runs"
        )
    others = [Member(number, host, port) for number, host, port in welcome.members if number != node]
    return ClusterConfig(
        cluster_id=welcome.cluster_id,
        members=(*others, Member(node, *listen)),
        protocol=welcome.protocol,
        options=welcome.settings.get("options", {}),
        replica=welcome.settings.get("replica", {}),
    )


def _proved_by(listed: ClusterConfig | None, cluster: ClusterConfig) -> ClusterConfig:
    """Return a cluster whose nodes prove themselves as the file says, from whatever folder."""
    if listed is None:
        return cluster
    if listed.cluster_id != cluster.cluster_id:
        raise ConfigurationError(
            f"the cluster file is that of {listed.cluster_id!r}, and the member there is of "
            f"{cluster.cluster_id!r}: name that cluster's file with --cluster"
        )
    here = Path.cwd()
    joined = msgspec.structs.replace(
        cluster,
        secret=None if listed.secret is None else str(here / listed.secret),
        tls=None if listed.tls is None else listed.tls.beside(here),
        grants=listed.grants,
        tokens=listed.tokens,
        chaos=listed.chaos,
    )
    held = vars(listed).get("local_secret")  # of a cluster in one process
    return joined if held is None else joined.holding(held)


def _dial(listed: ClusterConfig, node: int | None) -> SecureDial | None:
    """Return the TLS with which the seed is asked, by the certificate of this node; None: there is none."""
    if listed.tls is None:
        return None
    if node is None:
        raise ConfigurationError("say with --node which id the certificate of this node names")
    from viewstamp.runtime.certificates import Credentials  # late: who needs no TLS does not load it

    credentials = Credentials(listed.tls, f"node-{node}", is_server=False)
    return SecureDial(credentials, listed.cluster_id, None)


def _read(data: Path) -> Joined | None:
    try:
        content = (data / NAME).read_bytes()
    except OSError:
        return None
    try:
        return msgspec.json.decode(content[:_BYTES_MAX], type=Joined)
    except UNREADABLE as error:
        raise ConfigurationError(f"{data / NAME} cannot be read: {error}; nothing was started") from error
