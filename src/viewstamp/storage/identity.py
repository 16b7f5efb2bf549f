"""The file that says whose data directory it is, what runs on it, and which entries an operator skipped.

The owner never changes. What runs on it is written when a server starts on it (`Service`), so that another
class or another protocol is refused before it reads a single record. The skipped entries are a record for
people: what replicas obey is the mark in the log.
"""

from typing import Final

import msgspec
import xxhash

from viewstamp.core.errors import ConfigurationError, JournalCorrupt
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.storage.files import FileSystem, explained, read_small_file, replace_file
from viewstamp.storage.framing import CLUSTER_ID_BYTES_MAX, FORMAT_VERSION, Identity

IDENTITY_NAME: Final = "identity"
IDENTITY_BYTES_MAX: Final = 4 << 20


class Service(msgspec.Struct, frozen=True, omit_defaults=True):
    """What runs on a data directory."""

    protocol: str
    machine: str
    """Name of the machine's class."""
    schema: dict[str, str]
    """What its snapshot consists of, by name (`machine.schema`)."""
    version: int = 0
    """Of the class; 0: written before the log said what is in force, so that the schemas are compared."""
    code: dict[str, str] = {}
    """A digest of what each of its methods does (`machine.interface.code_of`)."""


class SkippedEntry(msgspec.Struct, frozen=True):
    """An entry that an operator skipped."""

    viewstamp: str
    digest: str
    """Of the entry's data, in hexadecimal (`replica.skip_mark.digest_of`)."""
    when: str
    """Date and time in UTC, ISO 8601."""
    who: str
    """The user's name on the machine where it was done."""


class IdentityFile(msgspec.Struct, frozen=True):
    """All that stands in the file."""

    identity: Identity
    service: Service | None = None
    """None: no server has started on it that says."""
    skipped: tuple[SkippedEntry, ...] = ()


class _File(msgspec.Struct):
    """The file as JSON. `format_version` comes first and always keeps its name."""

    format_version: int
    cluster_id: str
    node: int
    incarnation: int
    check: str
    """Of the four fields before."""
    service: Service | None = None
    skipped: tuple[SkippedEntry, ...] = ()
    rest_check: str = ""
    """Of the two fields before; empty where neither says anything."""


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


def write_identity(files: FileSystem, directory: str, content: IdentityFile) -> None:
    """Put the file in place, durably and atomically.

    Raises:
        ConfigurationError: it would be too long.
        StorageError: the disk refused.
    """
    identity = content.identity
    encoded = msgspec.json.encode(
        _File(
            identity.format_version,
            identity.cluster_id,
            identity.node,
            identity.incarnation,
            _check(identity),
            content.service,
            content.skipped,
            _rest_check(content),
        )
    )
    if len(encoded) >= IDENTITY_BYTES_MAX:
        raise ConfigurationError(f"{directory}/{IDENTITY_NAME} would have {len(encoded)} bytes: too many")
    replace_file(files, directory, IDENTITY_NAME, encoded + b"\n")


def read_identity(files: FileSystem, directory: str) -> IdentityFile | None:
    """Return whose directory it is, and the rest; None: nobody's yet.

    Raises:
        ConfigurationError: a newer program wrote it.
        JournalCorrupt: the file is damaged.
    """
    path = f"{directory}/{IDENTITY_NAME}"
    with explained("read", path):
        if files.status(path) is None:
            return None
        content = read_small_file(files, path, IDENTITY_BYTES_MAX)
    return _decode(content, path)


def _decode(content: bytes, path: str) -> IdentityFile:
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
    decoded = IdentityFile(identity, found.service, found.skipped)
    if found.check != _check(identity) or found.rest_check != _rest_check(decoded):
        raise _damaged(path, "its checksum is wrong")
    return decoded


def _damaged(path: str, reason: str) -> JournalCorrupt:
    return JournalCorrupt(f"{path} is damaged: {reason}; nothing was changed: restore it from a backup")


def _check(identity: Identity) -> str:
    return xxhash.xxh3_64_hexdigest(msgspec.json.encode(identity))


def _rest_check(content: IdentityFile) -> str:
    if content.service is None and not content.skipped:
        return ""
    return xxhash.xxh3_64_hexdigest(msgspec.json.encode((content.service, content.skipped)))
