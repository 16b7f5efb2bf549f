"""With what a node, a client or an operator proves itself, and what it wants to be shown.

Closed by default: a node that can be reached from another machine does not start without TLS, unless the
operator asks for that.
"""

from functools import partial
from ipaddress import ip_address
from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.link.admission import VerifyToken
from viewstamp.link.credentials import Trust
from viewstamp.link.dialer import Greeting
from viewstamp.link.handshake import Doorkeeper, encode_hello, hello_of
from viewstamp.link.proof import NONCE_BYTES, Prover, Secret
from viewstamp.runtime.addresses import Address, format_address
from viewstamp.runtime.config import ClusterConfig, NodeConfig
from viewstamp.runtime.system import fresh_bytes
from viewstamp.runtime.tokens import TokenSource, TokenVerifier, current_token

INSECURE: Final = "insecure: this node was started without protection (--insecure)"
"""What each status of such a node says."""


class Security(msgspec.Struct, frozen=True):
    """How the connections of one process are proved."""

    trust: Trust
    secret: Secret | None = None
    insecure: bool = False
    """Whether others can read and change what goes over the connections."""
    verify: VerifyToken | None = None
    """Of a node: what verifies the tokens of clients; None: it accepts none."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know, a line each."""
        return (INSECURE,) if self.insecure else ()

    def greet_member(self, door: Doorkeeper, peer: NodeId, incarnation: Incarnation) -> bytes | Prover:
        """Return the hello that a member says to another one, or what makes and proves it.

        An address that has not been proved is never told an incarnation.
        """
        if self.secret is not None:
            return Prover(
                self.secret, door.greeting(peer, incarnation), fresh_nonce, incarnation, insists=True
            )
        return door.hello_to(peer, incarnation if self.trust is Trust.CERTIFICATE else Incarnation(0))

    def greet_server(
        self, cluster_id: str, server: NodeId, *, operator: bool, token: TokenSource | None = None
    ) -> Greeting:
        """Return the hello of a client or an operator, or what makes it for each connection."""
        if token is not None and not operator:
            return partial(_hello_with_token, cluster_id, server, token)
        hello = hello_of(cluster_id, server, operator=operator and self.trust is not Trust.CERTIFICATE)
        if operator and self.secret is not None:
            # Not insisting: a server that has no secret is given a directive, and nothing that is secret.
            return Prover(self.secret, hello, fresh_nonce, Incarnation(0), insists=False)
        return encode_hello(hello)


OPEN: Final = Security(Trust.NOTHING, insecure=True)
"""What a hello says is believed."""


def _hello_with_token(cluster_id: str, server: NodeId, token: TokenSource) -> bytes:
    return encode_hello(hello_of(cluster_id, server, token=current_token(token)))


def fresh_nonce() -> bytes:
    """Return a number that is used once."""
    return fresh_bytes(NONCE_BYTES)


def server_security(cluster: ClusterConfig, config: NodeConfig, listen: Address) -> Security:
    """Return how the connections of a node are proved.

    Raises:
        ConfigurationError: others can reach it, and nothing protects it; or its secret cannot be read.
    """
    if config.insecure and cluster.secret is None:
        return msgspec.structs.replace(OPEN, verify=_verifier(cluster))
    beyond = _beyond_loopback(cluster, [listen] if config.advertised is None else [listen, config.advertised])
    if beyond is not None and not config.insecure:
        raise ConfigurationError(
            f"{format_address(beyond)} can be reached from other machines, and nothing protects it; nothing "
            "was started: use addresses of 127.0.0.0/8, or start with --insecure, which lets everybody who "
            "reaches the port do everything"
        )
    return Security(Trust.SECRET, cluster.local_secret, config.insecure, _verifier(cluster))


def _verifier(cluster: ClusterConfig) -> VerifyToken | None:
    tokens = cluster.tokens
    return TokenVerifier(cluster.cluster_id, tokens).admit if tokens.keys else None


def client_security(cluster: ClusterConfig | None, *, operator: bool) -> Security:
    """Return how the connections of a client or an operator are proved.

    Raises:
        ConfigurationError: an operator needs the cluster's secret, and cannot read it.
    """
    local = cluster is not None and (cluster.secret is not None or _beyond_loopback(cluster, []) is None)
    if cluster is None or not operator or not local:
        return OPEN
    return Security(Trust.SECRET, cluster.local_secret)


def _beyond_loopback(cluster: ClusterConfig, more: list[Address]) -> Address | None:
    """Return an address that is not of loopback; None: all are."""
    for host, port in (*more, *cluster.addresses.values(), (cluster.open_host or "localhost", 0)):
        if not is_loopback(host):
            return host, port
    return None


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches this host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() in {"localhost", "localhost.", "ip6-localhost"}
