"""With what a node, a client or an operator proves itself, and what it wants to be shown.

Closed by default: a node that can be reached from another machine does not start without TLS, unless the
operator asks for that.
"""

from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.principals import node_principal
from viewstamp.link.admission import VerifyToken
from viewstamp.link.credentials import Certified, Trust, refuse_server, uri_of
from viewstamp.link.dialer import Greeting
from viewstamp.link.handshake import Doorkeeper, encode_hello, hello_of
from viewstamp.link.proof import NONCE_BYTES, Prover, Secret
from viewstamp.runtime.addresses import Address, format_address
from viewstamp.runtime.config import ClusterConfig, NodeConfig, TlsFiles
from viewstamp.runtime.system import fresh_bytes
from viewstamp.runtime.tokens import TokenSource, TokenVerifier, current_token

if TYPE_CHECKING:
    from ssl import SSLObject, SSLSocket

    from viewstamp.runtime.certificates import Credentials
    from viewstamp.runtime.tls import PeerCertificate, TlsStream

INSECURE: Final = "insecure: this node was started without protection (--insecure)"
"""What each status of such a node says."""
ENDED_EARLY: Final = "it ended the connection during the TLS handshake: perhaps it does not speak TLS"


class Security(msgspec.Struct, frozen=True):
    """How the connections of one process are proved."""

    trust: Trust
    secret: Secret | None = None
    credentials: "Credentials | None" = None
    """Certificate and CAs, where TLS is spoken."""
    insecure: bool = False
    """Whether others can read and change what goes over the connections."""
    verifier: TokenVerifier | None = None
    """Of a node: what verifies the tokens of clients; None: it accepts none."""

    @property
    def verify(self) -> VerifyToken | None:
        """What says whom a token names; None: no token is accepted."""
        return None if self.verifier is None else self.verifier.admit

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know, a line each."""
        expiring = () if self.credentials is None else self.credentials.warnings
        return (INSECURE, *expiring) if self.insecure else expiring

    @property
    def expires_at_s(self) -> int:
        """When this process's certificate expires, in seconds since 1970; 0: it has none."""
        return 0 if self.credentials is None else self.credentials.expires_at_s

    def accept(self) -> "TlsStream | None":
        """Return the TLS of a connection that another end opened; None: there is none."""
        return None if self.credentials is None else self.credentials.accept()

    def dial(self, cluster_id: str, server: NodeId | None) -> "SecureDial | None":
        """Return what a dialler of this server needs for TLS; None: there is none."""
        return None if self.credentials is None else SecureDial(self.credentials, cluster_id, server)

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
        self,
        cluster_id: str,
        server: NodeId,
        *,
        operator: bool,
        token: TokenSource | None = None,
        insists: bool = False,
    ) -> Greeting:
        """Return the hello of a client or an operator, or what makes it for each connection.

        An operator that `insists` leaves a server again that does not prove that it has the same secret.
        """
        if token is not None and not operator:
            return partial(_hello_with_token, cluster_id, server, token)
        hello = hello_of(cluster_id, server, operator=operator and self.trust is not Trust.CERTIFICATE)
        if operator and self.secret is not None:
            # Not insisting: a server that has no secret is given a directive, and nothing that is secret.
            return Prover(self.secret, hello, fresh_nonce, Incarnation(0), insists=insists)
        return encode_hello(hello)


class SecureDial:
    """The TLS of the connections to one server, one after the other."""

    __slots__ = ("_cluster_id", "_server", "credentials")

    def __init__(self, credentials: "Credentials", cluster_id: str, server: NodeId | None) -> None:
        self.credentials = credentials
        self._cluster_id = cluster_id
        self._server = server

    def open(self) -> "TlsStream":
        """Return the TLS of a new connection."""
        return self.credentials.dial()

    def refuse(self, peer: "PeerCertificate | None") -> str | None:
        """Return why the other end is not the server that was meant; None: it is."""
        return refuse_server(None if peer is None else peer.certified, self._cluster_id, self._server)

    def refuse_end(self, end: "SSLObject | SSLSocket") -> str | None:
        """Return the same of a connection that the standard library has made."""
        from viewstamp.runtime.tls import peer_certificate

        return self.refuse(peer_certificate(end))


OPEN: Final = Security(Trust.NOTHING, insecure=True)
"""What a hello says is believed."""


def _hello_with_token(cluster_id: str, server: NodeId, token: TokenSource) -> bytes:
    return encode_hello(hello_of(cluster_id, server, token=current_token(token)))


def fresh_nonce() -> bytes:
    """Return a number that is used once."""
    return fresh_bytes(NONCE_BYTES)


def server_security(cluster: ClusterConfig, node: NodeId, config: NodeConfig, listen: Address) -> Security:
    """Return how the connections of a node are proved.

    Raises:
        ConfigurationError: others can reach it, and nothing protects it; or its secret cannot be read.
    """
    files = config.tls or cluster.tls
    if files is not None:
        return _certified_server(files, cluster, node)
    if config.insecure and cluster.secret is None:
        return msgspec.structs.replace(OPEN, verifier=_verifier(cluster))
    beyond = _beyond_loopback(cluster, [listen] if config.advertised is None else [listen, config.advertised])
    if beyond is not None and not config.insecure:
        raise ConfigurationError(
            f"{format_address(beyond)} can be reached from other machines, and nothing protects it; nothing "
            "was started: give it certificates (`viewstamp init --tls`, or `viewstamp cert`), or start with "
            "--insecure, which lets everybody who reaches the port do everything"
        )
    insecure, verifier = config.insecure, _verifier(cluster)
    return Security(Trust.SECRET, cluster.local_secret, insecure=insecure, verifier=verifier)


def _verifier(cluster: ClusterConfig) -> TokenVerifier | None:
    tokens = cluster.tokens
    return TokenVerifier(cluster.cluster_id, tokens) if tokens.keys else None


def _certified_server(files: TlsFiles, cluster: ClusterConfig, node: NodeId) -> Security:
    from viewstamp.runtime.certificates import Credentials  # late: who needs no TLS does not load it

    verifier = _verifier(cluster)
    # Where tokens are accepted a client may come without a certificate, and is refused unless it has one.
    credentials = Credentials(files, f"node-{node}", is_server=True, demands=verifier is None)
    wanted = Certified(cluster.cluster_id, node_principal(node))
    if credentials.own != wanted:
        own = "nobody" if credentials.own is None else uri_of(*msgspec.structs.astuple(credentials.own))
        meant = uri_of(wanted.cluster_id, wanted.principal)
        raise ConfigurationError(f"the certificate is that of {own}, not {meant}; nothing was started")
    return Security(Trust.CERTIFICATE, credentials=credentials, verifier=verifier)


def client_security(
    cluster: ClusterConfig | None, files: TlsFiles | None = None, *, operator: bool
) -> Security:
    """Return how the connections of a client or an operator are proved; `files` goes before the cluster's.

    Raises:
        ConfigurationError: an operator needs the cluster's secret, and cannot read it.
    """
    files = files or (None if cluster is None else cluster.tls)
    if files is not None:
        return _certified_client(files, operator=operator)
    local = cluster is not None and (cluster.secret is not None or _beyond_loopback(cluster, []) is None)
    if cluster is None or not operator or not local:
        return OPEN
    return Security(Trust.SECRET, cluster.local_secret)


def _certified_client(files: TlsFiles, *, operator: bool) -> Security:
    from viewstamp.runtime.certificates import Credentials

    has_own = operator and (Path(files.ca).parent / "operator.pem").exists()
    name = "operator" if has_own else "client"
    return Security(Trust.CERTIFICATE, credentials=Credentials(files, name, is_server=False))


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
