"""With whom a connection speaks: what was proved, and what may follow from it. No certificate is read here.

How the ends of connections are proved depends on the cluster:

- `CERTIFICATE`: a TLS handshake came before the first frame. Each certificate has one URI among its names,
  `viewstamp://CLUSTER/node/3`, `.../client/NAME` or `.../operator/NAME`, and that is all that counts of it: a
  name from the DNS decides nothing. A member is accepted only if hello and certificate name the same node.
- `SECRET`: members and operators show that they have the cluster's secret (`proof`); everybody else is an
  anonymous client.
- `NOTHING`: what a hello says is believed. Only where the operator has asked for it.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Final

import msgspec

from viewstamp.core.ids import NodeId
from viewstamp.core.principals import ANONYMOUS, LOCAL_OPERATOR, Role, node_principal, role_of

SCHEME: Final = "viewstamp://"
_URI_LENGTH_MAX: Final = 200


class Trust(Enum):
    """How the ends of a cluster's connections are proved."""

    CERTIFICATE = "certificate"
    SECRET = "secret"  # noqa: S105  the name of a way
    NOTHING = "nothing"


class Certified(msgspec.Struct, frozen=True):
    """What a certificate says that the CA of the cluster has signed."""

    cluster_id: str
    principal: str


def uri_of(cluster_id: str, principal: str) -> str:
    """Return the URI that stands in the certificate of a principal."""
    return f"{SCHEME}{cluster_id}/{principal}"


def read_uris(uris: Iterable[str]) -> Certified | str:
    """Return what the one URI of ours among a certificate's names says, or why it says nothing."""
    ours = [uri for uri in uris if uri.lower().startswith(SCHEME)]  # others may read it in any case
    if len(ours) != 1 or not ours[0].startswith(SCHEME):
        return f"the certificate has {len(ours)} names that begin with {SCHEME}, and needs one"
    cluster_id, _, principal = ours[0].removeprefix(SCHEME).partition("/")
    known = bool(cluster_id) and role_of(principal) is not Role.ANONYMOUS and principal != LOCAL_OPERATOR
    if not known or len(ours[0]) > _URI_LENGTH_MAX or not ours[0].isascii() or not ours[0].isprintable():
        return f"the certificate's name is not {SCHEME}CLUSTER/node/ID, .../client/NAME or .../operator/NAME"
    return Certified(cluster_id, principal)


def principal_of(
    trust: Trust, role: str, node: int, *, cluster_id: str, certified: Certified | None
) -> tuple[str, str | None]:
    """Return (principal, None) of the end that says this hello, or ("", why it is refused).

    `role` and `node` are those of the hello. Where secrets are used this is the principal of an end that has
    shown the secret.
    """
    if trust is Trust.CERTIFICATE:
        return _principal_certified(role, node, cluster_id, certified)
    if role == "peer":
        return node_principal(NodeId(node)), None
    return (LOCAL_OPERATOR if role == "operator" else ANONYMOUS), None


def _principal_certified(
    role: str, node: int, cluster_id: str, certified: Certified | None
) -> tuple[str, str | None]:
    if certified is None:
        return "", "a certificate is needed here, and none was shown"
    if certified.cluster_id != cluster_id:
        return "", f"the certificate is of cluster {certified.cluster_id!r}, and this is {cluster_id!r}"
    principal = certified.principal
    if role == "peer" and principal != node_principal(NodeId(node)):
        return "", f"the certificate is that of {principal}, not of node/{node}"
    if role == "operator" and role_of(principal) is not Role.OPERATOR:
        return "", f"the certificate is that of {principal}, not of an operator"
    return principal, None


def refuse_server(certified: Certified | str | None, cluster_id: str, node: NodeId | None) -> str | None:
    """Return why the end that was dialled is not the server that was meant; None: it is.

    An empty cluster id accepts each cluster of the CA, and None each of its nodes.
    """
    if certified is None:
        return "the server showed no certificate"
    if isinstance(certified, str):
        return certified
    if cluster_id and certified.cluster_id != cluster_id:
        return f"the certificate there is of cluster {certified.cluster_id!r}, not of {cluster_id!r}"
    if role_of(certified.principal) is not Role.NODE:
        return f"the certificate there is that of {certified.principal}, which is not a node"
    if node is not None and certified.principal != node_principal(node):
        return f"the certificate there is that of {certified.principal}, not of node/{node}"
    return None
