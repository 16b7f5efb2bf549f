"""HTTP over TLS by the node's own certificate, and operators who are known by theirs.

Rules of this file:

- a caller needs no certificate: probes and scrapers have none. A certificate that is shown must be signed by
  the CA of the cluster, and its caller is an operator if it names one of this cluster;
- a certificate is looked at for each verb, not once a connection: one that has expired meanwhile, or whose CA
  was dropped, proves nothing;
- each handshake uses the files as they are then (`runtime.certificates`), so that they are replaced without
  a restart here as well.
"""

import ssl
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.core.principals import Role, role_of
from viewstamp.runtime.config import ClusterConfig, TlsFiles
from viewstamp.web.admin import Proof
from viewstamp.web.deadlines import TimedProtocol

if TYPE_CHECKING:
    from viewstamp.runtime.tls import PeerCertificate

PEER: Final = "viewstamp_certificate"
"""Under this name the state of a request holds what the caller's certificate says."""
_ASK: Final = "show the certificate of an operator"


class CertifiedProtocol(TimedProtocol):
    """A connection that says in the state of each request whose certificate was shown."""

    def connection_made(self, transport: Any) -> None:
        """Read the certificate: the handshake is over. Called by the loop."""
        from viewstamp.runtime.tls import peer_certificate

        super().connection_made(transport)
        peer = peer_certificate(transport.get_extra_info("ssl_object"))
        self.app_state = {**self.app_state, PEER: peer}


class HttpCertificates:
    """What the HTTP port of one node shows, and whom it takes for an operator."""

    def __init__(self, files: TlsFiles | None, cluster: ClusterConfig, node: NodeId) -> None:
        """Load the files.

        Raises:
            ConfigurationError: there are none, or they cannot be used.
        """
        if files is None:
            raise ConfigurationError(
                "--http https:HOST:PORT needs [tls] in the cluster file; nothing was started: "
                "`viewstamp init --tls` or `viewstamp cert` makes certificates"
            )
        from viewstamp.runtime.certificates import Credentials

        self._cluster_id = cluster.cluster_id
        self._credentials = Credentials(files, f"node-{node}", is_server=True, demands=False)

    def context(self) -> ssl.SSLContext:
        """Return what the listener uses: for each handshake it looks whether the files have changed."""
        context = self._credentials.accepting
        # The callback of one context decides for all its handshakes, also of callers that name no server.
        front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        front.minimum_version = context.minimum_version
        front.verify_mode = context.verify_mode
        front.sni_callback = self._choose
        return front

    def refusal(self, request: Request) -> str:
        """Return why the certificate does not prove an operator; empty: it does (`admin.Proof`)."""
        peer: PeerCertificate | None = getattr(request.state, PEER, None)
        if peer is None:
            return f"refused: {_ASK}"
        self._credentials.refresh()
        if ended := self._credentials.ends(peer):
            return f"refused: {ended}"
        certified = peer.certified
        if isinstance(certified, str):
            return f"refused: {certified}"
        if certified.cluster_id != self._cluster_id:
            return f"refused: the certificate is of cluster {certified.cluster_id!r}"
        if role_of(certified.principal) is not Role.OPERATOR:
            return f"refused: the certificate is that of {certified.principal}: {_ASK}"
        return ""

    def _choose(self, end: ssl.SSLObject, server_name: str | None, front: ssl.SSLContext) -> None:
        del server_name, front  # names from the DNS decide nothing
        self._credentials.refresh()
        end.context = self._credentials.accepting


def either(first: Proof, second: Proof) -> Proof:
    """Return the proof of a caller that can show one of two things."""

    def refusal(request: Request) -> str:
        why = first(request)
        return why and (second(request) and why)

    return refusal
