"""From what a user writes to the servers of a cluster: a file, or the address of any member."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.link.handshake import Welcome
from viewstamp.runtime.addresses import Address, check_address, parse_address
from viewstamp.runtime.config import ClusterConfig

Where: TypeAlias = str | Path | ClusterConfig | Iterable[str]
"""A cluster file (a path, or text that ends in .toml), a configuration, or addresses of one or more members.

Text may hold several addresses with commas between them.
"""


class Known(msgspec.Struct, frozen=True):
    """What a client knows of its cluster."""

    cluster_id: str
    addresses: dict[NodeId, Address]
    write_routing: str = "leader"
    cluster: ClusterConfig | None = None
    """The whole configuration, where it is known."""


def locate(where: Where) -> Known | list[Address]:
    """Return the cluster, or the addresses to ask for it.

    Raises:
        ConfigurationError: the file cannot be used, or an address is none.
    """
    if isinstance(where, str) and where.endswith(".toml"):
        where = Path(where)
    if isinstance(where, Path):
        where = ClusterConfig.load(where)
    if isinstance(where, ClusterConfig):
        from viewstamp.protocols.registry import protocol_definition

        routing = protocol_definition(where.protocol).write_routing
        return Known(where.cluster_id, dict(where.addresses), routing, where)
    texts = where.split(",") if isinstance(where, str) else list(where)
    if not texts:
        raise ConfigurationError("no address was given: name at least one member of the cluster")
    return [parse_address(text) for text in texts]


def learn(welcome: Welcome, reached_at: Address) -> Known:
    """Return the cluster that a welcome describes.

    The member that answered keeps the address it was reached at: it works from here, the configured one may
    not.

    Raises:
        ConfigurationError: the welcome lists what cannot be an address.
    """
    addresses = {NodeId(node): check_address(host, port) for node, host, port in welcome.members}
    addresses[NodeId(welcome.node)] = reached_at
    return Known(welcome.cluster_id, addresses, welcome.write_routing)
