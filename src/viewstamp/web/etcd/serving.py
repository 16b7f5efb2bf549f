"""The gateway on a port of its own: what protects it, and what clients are told of where it is.

A port that other machines reach needs TLS, as the node's own does: the certificate is the node's, and callers
show tokens, which the cluster verifies. `--insecure` opens both.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.config import ClusterConfig, NodeConfig
from viewstamp.runtime.server import Beside, Server
from viewstamp.web.certified import HttpCertificates
from viewstamp.web.etcd.gateway import Gateway
from viewstamp.web.serving import HTTPS, UNIX, listen, serving, tells_the_network

CONNECTIONS_MAX: Final = 1_024
"""Of one gateway: beyond it a request is answered with 503."""


def gateway_beside(where: str, cluster: ClusterConfig, node: NodeId, own: NodeConfig) -> Beside:
    """Return what serves the gateway beside a node; the port is bound before this returns.

    Raises:
        ConfigurationError: others could reach it and nothing protects it, or it cannot be bound.
    """
    files = own.tls or cluster.tls
    if files is not None and not cluster.tokens.keys:
        raise ConfigurationError(
            "--etcd needs tokens in a cluster with TLS: the gateway knows its callers by them; nothing was "
            "started: list a key under [tokens] (`viewstamp token key`)"
        )
    if files is None and where.startswith(HTTPS):
        raise ConfigurationError(
            f"--etcd {where} needs [tls] in the cluster file; nothing was started: `viewstamp init --tls`"
        )
    if files is None and tells_the_network(where) and not own.insecure:
        raise ConfigurationError(
            f"--etcd {where} can be reached from other machines, and nothing protects it; nothing was "
            "started: give the cluster certificates (`viewstamp init --tls`) and tokens, or start with "
            "--insecure, which lets everybody who reaches the port do everything"
        )
    certificates = None if files is None else HttpCertificates(files, cluster, node)
    listener = listen(where, option="--etcd")
    address = None if where.startswith(UNIX) else _bound(listener)
    return lambda server: gateway_of(server, listener, address, certificates)


def _bound(listener: socket.socket) -> Address:
    host, port = listener.getsockname()[:2]
    return host, port


def gateway_of(
    server: Server,
    listener: socket.socket,
    address: Address | None,
    certificates: HttpCertificates | None = None,
) -> AbstractAsyncContextManager[None]:
    """Return what serves the gateway of a node until the block ends."""

    @asynccontextmanager
    async def gateway() -> AsyncIterator[None]:
        door = Gateway(server, listens_at=address, secure=certificates is not None)
        try:
            async with serving(door.app, listener, certificates, connections_max=CONNECTIONS_MAX):
                yield
        finally:
            await door.close()

    return gateway()
