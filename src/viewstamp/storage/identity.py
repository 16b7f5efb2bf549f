"""The file that says whose data directory it is."""

from typing import Final

import msgspec
import xxhash

from viewstamp.core.errors import ConfigurationError, JournalCorrupt
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.storage.files import FileSystem, explained, read_all, replace_file
from viewstamp.storage.framing import CLUSTER_ID_BYTES_MAX, FORMAT_VERSION, Identity

IDENTITY_NAME: Final = "identity"
_IDENTITY_BYTES_MAX: Final = 4096


class _File(msgspec.Struct):
    """What stands in the file, as JSON. `format_version` comes first and always keeps its name."""

    format_version: int
    cluster_id: str
    node: int
    incarnation: int
    check: str


class _Version(msgspec.Struct):
    format_version: int


def make_identity(cluster_id: str, node: NodeId, incarnation: Incarnation) -> Identity:
    """Return the identity of a new data directory.

    Raises:
        ConfigurationError: the cluster's id is empty or too long.
    """
    if not 1 <= len(cluster_id.encode()) <= CLUSTER_ID_BYTES_MAX:
        raise ConfigurationError(f"a cluster id has 1 to {CLUSTER_ID_BYTES_MAX} bytes, not {cluster_id!r}")
    return Identity(cluster_id, node, incarnation)


def write_identity(files: FileSystem, directory: str, identity: Identity) -> None:
    """Put the file in place, durably and atomically."""
    content = _File(
        identity.format_version, identity.cluster_id, identity.node, identity.incarnation, _check(identity)
    )
    replace_file(files, directory, IDENTITY_NAME, msgspec.json.encode(content) + b"\n")


def read_identity(files: FileSystem, directory: str) -> Identity | None:
    """Return whose directory it is; None: nobody's yet.

    Raises:
        ConfigurationError: a newer program wrote it.
        JournalCorrupt: the file is damaged.
    """
    path = f"{directory}/{IDENTITY_NAME}"
    with explained("read", path):
        if files.status(path) is None:
            return None
        file = files.open(path, writable=False)
        try:
            content = read_all(file, _IDENTITY_BYTES_MAX, 0)
        finally:
            file.close()
    return _decode(content, path)


def _decode(content: bytes, path: str) -> Identity:
    try:
        version = msgspec.json.decode(content, type=_Version).format_version
        if version != FORMAT_VERSION:
            raise ConfigurationError(
                f"{path} has format {version}, this program reads {FORMAT_VERSION}: use the one that wrote it"
            )
        found = msgspec.json.decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    identity = Identity(found.cluster_id, NodeId(found.node), Incarnation(found.incarnation), version)
    if found.check != _check(identity):
        raise _damaged(path, "its checksum is wrong")
    return identity


def _damaged(path: str, reason: str) -> JournalCorrupt:
    return JournalCorrupt(f"{path} is damaged: {reason}; nothing was changed: restore it from a backup")


def _check(identity: Identity) -> str:
    return xxhash.xxh3_64_hexdigest(msgspec.json.encode(identity))
