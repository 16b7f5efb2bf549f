"""Which cluster a command is about: `--cluster FILE`, `--servers HOST:PORT,...`, or `viewstamp.toml` here."""

import os
import sys
from pathlib import Path
from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.runtime.config import ClusterConfig, TlsFiles

CLUSTER_FILE: Final = "viewstamp.toml"
TOKEN_VARIABLE: Final = "VIEWSTAMP_TOKEN"  # noqa: S105  its name
CA_VARIABLE: Final = "VIEWSTAMP_CA"
CERT_VARIABLE: Final = "VIEWSTAMP_CERT"
KEY_VARIABLE: Final = "VIEWSTAMP_KEY"
CERTIFICATES: Final = "tls"
"""Folder of the certificates, beside the cluster file."""

TIMEOUT_S_MAX: Final = 86_400


def locate(cluster: Path, servers: str | None) -> ClusterConfig | str:
    """Return what `viewstamp.connect` wants; `ConfigurationError` where it cannot be used."""
    return servers if servers is not None else load_cluster(cluster)


def client_token() -> str | None:
    """Return the token in the environment (`VIEWSTAMP_TOKEN`): everybody can read the flags of a process."""
    return os.environ.get(TOKEN_VARIABLE) or None


def client_tls() -> TlsFiles | None:
    """Return the certificate in the environment, for addresses without a cluster file; None: none."""
    ca = os.environ.get(CA_VARIABLE)
    return None if not ca else _shown(TlsFiles(ca))


def _shown(files: TlsFiles) -> TlsFiles:
    """Return the files with the certificate that the environment names, if it names one."""
    cert = os.environ.get(CERT_VARIABLE)
    return TlsFiles(files.ca, cert, os.environ.get(KEY_VARIABLE)) if cert else files


def load_cluster(path: Path) -> ClusterConfig:
    """Return the configuration in a cluster file.

    Raises:
        ConfigurationError: there is no such file, which for the default name says how to make one.
    """
    if not os.path.lexists(path):
        raise ConfigurationError(
            f"no cluster file {path}: make one with `viewstamp init`, or name it with --cluster"
        )
    config = ClusterConfig.load(path)
    return config if config.tls is None else msgspec.structs.replace(config, tls=_shown(config.tls))


def look_here() -> None:
    """Let imports find modules in the current directory, after everything that is installed.

    First in the line they would take the place of any module of the standard library, or of a dependency,
    that is imported from then on.
    """
    if "" not in sys.path:
        sys.path.append("")


def check_member(cluster: ClusterConfig, node: int) -> NodeId:
    """Return the node, which is a member.

    Raises:
        ConfigurationError: it is not.
    """
    if node not in cluster.node_ids:
        members = ", ".join(map(str, cluster.node_ids))
        raise ConfigurationError(f"node {node} is not a member: the cluster file lists {members}")
    return NodeId(node)


def check_timeout(timeout: float, flag: str = "--timeout") -> float:
    """Return the seconds; `ConfigurationError` unless they are positive and finite."""
    if not 0 < timeout <= TIMEOUT_S_MAX:
        raise ConfigurationError(f"{flag} {timeout}: give seconds, more than 0 and at most {TIMEOUT_S_MAX}")
    return timeout
