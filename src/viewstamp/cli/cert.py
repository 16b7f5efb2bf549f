"""`viewstamp cert`: a CA of one's own, and certificates of nodes, clients and operators. Needs no openssl."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from viewstamp.cli.output import show_json, show_table
from viewstamp.cli.target import CERTIFICATES, CLUSTER_FILE, check_member, load_cluster
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.principals import is_name
from viewstamp.link.credentials import Certified, read_uris
from viewstamp.runtime.system import wall_s

if TYPE_CHECKING:
    from cryptography import x509

try:
    from viewstamp.cli import authority
except ModuleNotFoundError as error:
    raise ConfigurationError(
        f"{error.name} is not installed; nothing was done. Install it: pip install 'viewstamp[tls]'"
    ) from None

Folder = Annotated[Path | None, Parameter(help="Folder of the CA and what it signs; tls if not given.")]
ClusterFile = Annotated[Path, Parameter(help="Cluster file.")]
Renew = Annotated[bool, Parameter(negative="", help="Replace what is there.")]
Days = Annotated[int, Parameter(help="For how long it is valid.")]


def init(
    *,
    folder: Folder = None,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    days: Days = authority.CA_DAYS,
    renew: Annotated[
        bool, Parameter(negative="", help="Make another CA, and trust the old ones too.")
    ] = False,
    only_newest: Annotated[bool, Parameter(negative="", help="Trust the old CAs no longer.")] = False,
) -> None:
    """Make the CA of a cluster: ca.pem, which everybody may have, and ca.key, which signs.

    Keep ca.key away from the nodes: with it anybody is a member or an operator.
    """
    place = _folder(folder, cluster)
    if only_newest:
        newest = authority.Authority.load(place)
        newest.save(place, b"\n")
        print(f"{place / 'ca.pem'} holds the newest CA alone")
        return
    made = authority.Authority.new(load_cluster(cluster).cluster_id, days=days)
    made.save(place, (place / "ca.pem").read_bytes() if renew else b"")
    print(f"wrote {place / 'ca.pem'} and {place / 'ca.key'}")


def node(
    member: Annotated[int, Parameter(help="Which member.")],
    /,
    *hosts: Annotated[str, Parameter(help="Names for other programs; they decide nothing here.")],
    folder: Folder = None,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    days: Days = authority.LEAF_DAYS,
    renew: Renew = False,
) -> None:
    """Make the certificate of a member: node-ID.pem and node-ID.key."""
    config = load_cluster(cluster)
    check_member(config, member)
    place = _folder(folder, cluster)
    issue_node(place, config.cluster_id, member, hosts, days=days, renew=renew)
    print(f"wrote {place / f'node-{member}.pem'} and its key")


def client(
    name: Annotated[str, Parameter(help="Of the client; grants and the audit trail name it.")],
    /,
    *,
    role: Annotated[Literal["client", "operator"], Parameter(help="What it may do.")] = "client",
    folder: Folder = None,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    days: Days = authority.LEAF_DAYS,
    renew: Renew = False,
) -> None:
    """Make the certificate of a client or an operator: NAME.pem and NAME.key."""
    place = _folder(folder, cluster)
    issue_client(place, load_cluster(cluster).cluster_id, name, role, days=days, renew=renew)
    print(f"wrote {place / f'{name}.pem'} and its key: {role}/{name}")


def show(
    *files: Annotated[Path, Parameter(help="Certificates; all in the folder tls if none is given.")],
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
) -> None:
    """Say whom certificates name, who signed them, and for how long they are valid."""
    listed = files or tuple(sorted(Path(CERTIFICATES).glob("*.pem")))
    rows = [_row(path, each) for path in listed for each in authority.read_certificates(path)]
    if json:
        show_json([dict(zip(("file", "names", "issuer", "days"), row, strict=True)) for row in rows])
    else:
        show_table(("FILE", "NAMES", "SIGNED BY", "DAYS LEFT"), rows)


def make_authority(folder: Path, cluster_id: str) -> None:
    """Write a new CA."""
    authority.Authority.new(cluster_id).save(folder)


def issue_node(
    folder: Path,
    cluster_id: str,
    member: int,
    hosts: tuple[str, ...] = (),
    *,
    days: int = authority.LEAF_DAYS,
    renew: bool = False,
) -> None:
    """Write the certificate of a member, signed by the CA in the folder."""
    pair = authority.Authority.load(folder).issue(
        cluster_id, f"node/{member}", hosts, days=days, is_server=True
    )
    authority.write_pair(folder / f"node-{member}", pair, replace=renew)


def issue_client(
    folder: Path,
    cluster_id: str,
    name: str,
    role: str,
    *,
    days: int = authority.LEAF_DAYS,
    renew: bool = False,
) -> None:
    """Write the certificate of a client or an operator, signed by the CA in the folder."""
    if not is_name(name) or name == "ca" or name.startswith("node-"):
        raise ConfigurationError(f"{name!r} cannot be a name here: use letters, digits, '-', '_' or '.'")
    pair = authority.Authority.load(folder).issue(cluster_id, f"{role}/{name}", days=days, is_server=False)
    authority.write_pair(folder / name, pair, replace=renew)


def _folder(folder: Path | None, cluster: Path) -> Path:
    return cluster.parent / CERTIFICATES if folder is None else folder


def _row(path: Path, certificate: "x509.Certificate") -> tuple[str, str, str, int]:
    read = read_uris(authority.uris_of(certificate))
    named = f"{read.principal} of {read.cluster_id}" if isinstance(read, Certified) else "a CA or another one"
    left_s = certificate.not_valid_after_utc.timestamp() - wall_s()
    return str(path), named, certificate.issuer.rfc4514_string(), int(left_s // 86_400)
