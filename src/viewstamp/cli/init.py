"""`viewstamp init`: write a cluster file."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from viewstamp.cli.target import CERTIFICATES, CLUSTER_FILE
from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.addresses import parse_address
from viewstamp.runtime.config import ClusterConfig, Member, TlsFiles
from viewstamp.runtime.secret_file import make_secret, read_secret
from viewstamp.runtime.security import is_loopback
from viewstamp.runtime.system import fresh_number

FIRST_PORT: Final = 7101
MEMBERS: Final = 3


def init(
    cluster: Annotated[Path, Parameter(help="The file to write.")] = Path(CLUSTER_FILE),
    *,
    members: Annotated[str | None, Parameter(help="HOST:PORT,... one for each member.")] = None,
    protocol: Annotated[str, Parameter(help="The protocol.")] = "raft",
    cluster_id: Annotated[str | None, Parameter(help="Drawn at random if not given.")] = None,
    tls: Annotated[bool, Parameter(negative="", help="Make certificates, and speak TLS.")] = False,
) -> None:
    """Write a cluster file; without members, of three on this machine.

    Every node and every client may have the file. Nodes get the ids 1, 2, 3, ... in the order given. Where
    all members are on this machine, the secret beside it, which this user alone can read, is what members and
    operators know each other by.

    With --tls it also makes a CA and the certificates of all nodes, of a client and of an operator, in the
    folder tls beside the file. Each machine gets ca.pem and what its own processes show; ca.key stays here.
    """
    addresses = _addresses(members)
    config = ClusterConfig(
        cluster_id=cluster_id if cluster_id is not None else f"cluster-{fresh_number() % 0xFFFFFF:06x}",
        members=tuple(Member(node, host, port) for node, (host, port) in enumerate(addresses, start=1)),
        protocol=protocol,
    )
    secret = cluster.with_suffix(".secret")
    is_local = all(is_loopback(host) for host, _ in addresses)
    if tls:
        config = msgspec.structs.replace(config, tls=TlsFiles(ca=f"{CERTIFICATES}/ca.pem"))
    elif is_local:
        config = msgspec.structs.replace(config, secret=secret.name)
    config.check()
    if cluster.exists():
        raise ConfigurationError(
            f"{cluster} exists and is left as it is: name another file, or remove it first"
        )
    if tls:
        _provide_certificates(config, cluster.parent / CERTIFICATES)
    elif is_local:
        _provide_secret(secret)
    config.save(cluster)
    print(f"wrote {cluster}: {len(addresses)} members, protocol {protocol}")
    print(f"start each: viewstamp serve --cluster {cluster} --node 1 --data data1    (and 2, 3, ...)")


def _provide_certificates(config: ClusterConfig, folder: Path) -> None:
    """Make a CA, and what each node, a client and an operator show."""
    from viewstamp.cli import cert

    cert.make_authority(folder, config.cluster_id)
    for member in config.members:
        cert.issue_node(folder, config.cluster_id, member.id, (member.host,))
    for name in ("client", "operator"):
        cert.issue_client(folder, config.cluster_id, name, name)
    print(f"wrote {folder}: a CA, {len(config.members)} nodes, client and operator, for 365 days")


def _provide_secret(path: Path) -> None:
    """See to it that there is a secret, of which one that exists is kept."""
    if path.exists():
        read_secret(path)
    else:
        make_secret(path)


def _addresses(members: str | None) -> list[tuple[str, int]]:
    if members is None:
        return [("127.0.0.1", FIRST_PORT + number) for number in range(MEMBERS)]
    listed = [text for text in members.split(",") if text.strip()]
    if not listed:
        raise ConfigurationError("--members is empty: list HOST:PORT of each member, with commas")
    return [parse_address(text) for text in listed]
