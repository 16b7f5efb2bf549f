"""What travels between a file system's service and its clients, its limits, and what it refuses."""

import errno
from typing import ClassVar, Final, Literal, TypeAlias

import msgspec

BLOCK_BYTES: Final = 65_536
"""A file is a map of blocks of this size; one that is missing reads as NULs."""
NAME_BYTES_MAX: Final = 255
TARGET_BYTES_MAX: Final = 4_095
STORE_BYTES_MAX: Final = 512 * 1_024
"""Of the blocks in one command: less than what one command may hold (`ReplicaOptions.command_bytes_max`)."""
READ_BLOCKS_MAX: Final = 8
LISTING_MAX: Final = 1_000
ROOT: Final = 1
TIME_NS_MAX: Final = (1 << 63) - 1

Kind: TypeAlias = Literal["file", "directory", "symlink", "other"]
"""other: a socket, a pipe or a device, of which only the mode matters here."""


class FileRefused(Exception):
    """What a service refuses. Nothing was changed."""

    errno: ClassVar[int] = errno.EIO


class NoInode(FileRefused):
    """There is no such inode, or no file system yet."""

    errno = errno.ENOENT


class NoName(FileRefused):
    """The directory has no such name, or it is the name of another inode than the caller believes."""

    errno = errno.ENOENT


class NameTaken(FileRefused):
    """The directory has this name already; or a file system exists."""

    errno = errno.EEXIST


class NotADirectory(FileRefused):
    """The inode is not a directory."""

    errno = errno.ENOTDIR


class IsADirectory(FileRefused):
    """The inode is a directory."""

    errno = errno.EISDIR


class NotEmpty(FileRefused):
    """The directory has entries."""

    errno = errno.ENOTEMPTY


class NoSpace(FileRefused):
    """The file system is as large as it may be."""

    errno = errno.ENOSPC


class InvalidChange(FileRefused):
    """A name, size, block or move that makes no sense."""

    errno = errno.EINVAL


class NameTooLong(FileRefused):
    """A name or target has too many bytes."""

    errno = errno.ENAMETOOLONG


class StaleToken(FileRefused):
    """The caller no longer has the lock of this inode: the token is not that of the lock's present grant."""

    errno = errno.EIO


REFUSALS: Final[tuple[type[FileRefused], ...]] = (
    NoInode,
    NoName,
    NameTaken,
    NotADirectory,
    IsADirectory,
    NotEmpty,
    NoSpace,
    InvalidChange,
    NameTooLong,
    StaleToken,
)
ERRNO_OF: Final = {refusal.__name__: refusal.errno for refusal in REFUSALS}


class FileLimits(msgspec.Struct, frozen=True):
    """What one file system bears. Equal on all members: a refusal is a result like any other."""

    bytes_max: int = 2 << 30
    """Of the blocks of all files together. All of it is in the memory of each member."""
    inodes_max: int = 1_000_000
    file_bytes_max: int = 1 << 40
    """The largest size of a file, holes included."""
    links_max: int = 65_000
    pins_per_client_max: int = 65_536


class Attributes(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What `stat` says of an inode. Times are nanoseconds since 1970, as the clients say them."""

    inode: int
    kind: Kind
    mode: int
    """Permission bits, and for `other` the type as in `st_mode`."""
    uid: int
    gid: int
    links: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    device: int = 0


class Birth(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a new inode shall be."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    now_ns: int
    target: bytes = b""
    """Of a symbolic link."""
    device: int = 0


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A write to one inode: first `cut`, then the blocks, then size and attributes as they are to be."""

    attributes: Attributes
    """`inode`, `kind`, `links` and `device` are not written."""
    cut: int | None = None
    """Forget what is beyond this size; None: nothing."""
    blocks: list[tuple[int, bytes]] = []
    """Number and content; content after which the block has only NULs."""


class Fenced(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An inode, with the fencing token of its lock as the caller has it."""

    inode: int
    token: int


class Removed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What came of the removal of a name, or of a rename."""

    parents: list[Attributes]
    """Of the directories that changed, in the order in which the call names them."""
    gone: Attributes | None = None
    """The inode whose name was removed; `links` 0: it is gone, unless it is open."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One name of a directory."""

    name: bytes
    inode: int
    kind: Kind


class Listing(msgspec.Struct, frozen=True, array_like=True):
    """Part of a directory, in the order of the names."""

    entries: list[Entry]
    more: bool
    """There is more: ask again with `after` set to the last name of this page."""


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Some blocks of a file, in order; a missing block is empty."""

    attributes: Attributes
    blocks: list[bytes]


class Totals(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How full a file system is."""

    inodes: int
    inodes_max: int
    bytes: int
    bytes_max: int
    orphans: int
    """Inodes without a name that clients have open."""
    pins: int
    """Inodes that clients have open while another holds their lock, once for each client."""


def permission_bits(mode: int) -> int:
    """Return the bits of a mode that `chmod` changes."""
    return mode & 0o7777
