"""The messages of /dev/fuse, in bytes. No input or output.

Source: the interface of Linux, `include/uapi/linux/fuse.h`, protocol 7.31 and later; the kernel speaks an
older one to a server that answers so.
"""

import struct
from typing import Final

import msgspec

from viewstamp.core.errors import ViewstampError

MAJOR: Final = 7
MINOR: Final = 31
WRITE_BYTES_MAX: Final = 512 * 1_024
BUFFER_BYTES: Final = WRITE_BYTES_MAX + 8_192
"""What one read of the device can return at most."""

LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK = 1, 2, 3, 4, 5, 6
MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, OPEN = 8, 9, 10, 11, 12, 13, 14
READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT = 15, 16, 17, 18, 20, 25, 26
OPENDIR, READDIR, RELEASEDIR, FSYNCDIR = 27, 28, 29, 30
CREATE, INTERRUPT, DESTROY, BATCH_FORGET, RENAME2 = 35, 36, 38, 42, 45

SILENT: Final = frozenset({FORGET, BATCH_FORGET, INTERRUPT})
"""Requests that are not answered."""
RENAME_NOREPLACE: Final = 1
DIRECT_IO: Final = 1
"""Of an open file: reads and writes come here, and nothing is kept in the kernel."""

SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME = 1, 2, 4, 8, 16, 32
SET_ATIME_NOW, SET_MTIME_NOW = 128, 256

_ASYNC_READ, _BIG_WRITES, _AUTO_INVALIDATE, _PARALLEL_DIRECTORIES, _MAX_PAGES = (
    1 << 0,
    1 << 5,
    1 << 12,
    1 << 18,
    1 << 22,
)
_WANTED: Final = _ASYNC_READ | _BIG_WRITES | _AUTO_INVALIDATE | _PARALLEL_DIRECTORIES | _MAX_PAGES
_PAGE_BYTES: Final = 4_096
_NOTIFY_INVALIDATE_INODE: Final = 2

_HEADER: Final = struct.Struct("<IIQQIIIHH")
_REPLY: Final = struct.Struct("<IiQ")
_INIT_IN: Final = struct.Struct("<IIII")
_INIT_OUT: Final = struct.Struct("<IIIIHHIIHHII24x")
_ATTRIBUTES: Final = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY: Final = struct.Struct("<QQQQII")
_VALID: Final = struct.Struct("<QII")
_OPENED: Final = struct.Struct("<QII")
_STATFS: Final = struct.Struct("<QQQQQIIII24x")
_DIRENT: Final = struct.Struct("<QQII")
_INVALIDATE: Final = struct.Struct("<Qqq")

BODIES: Final = {
    SETATTR: struct.Struct("<IIQQQQQQIIIIIIII"),
    MKNOD: struct.Struct("<IIII"),
    MKDIR: struct.Struct("<II"),
    RENAME: struct.Struct("<Q"),
    RENAME2: struct.Struct("<QII"),
    LINK: struct.Struct("<Q"),
    OPEN: struct.Struct("<II"),
    READ: struct.Struct("<QQIIQII"),
    WRITE: struct.Struct("<QQIIQII"),
    RELEASE: struct.Struct("<QIIQ"),
    FSYNC: struct.Struct("<QII"),
    FLUSH: struct.Struct("<QIIQ"),
    OPENDIR: struct.Struct("<II"),
    READDIR: struct.Struct("<QQIIQII"),
    RELEASEDIR: struct.Struct("<QIIQ"),
    FSYNCDIR: struct.Struct("<QII"),
    CREATE: struct.Struct("<IIII"),
    INTERRUPT: struct.Struct("<Q"),
}
"""How the numbers of a request are laid out; names or data follow."""


class KernelMessageInvalid(ViewstampError):
    """The device gave something that is not a request: the mount cannot go on."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request of the kernel."""

    opcode: int
    unique: int
    node: int
    uid: int
    gid: int
    body: bytes

    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of the body; raise `KernelMessageInvalid` where it is too short."""
        layout = BODIES[self.opcode]
        if len(self.body) < layout.size:
            raise KernelMessageInvalid(f"a request {self.opcode} of the kernel has {len(self.body)} bytes")
        return layout.unpack_from(self.body)

    def rest(self) -> bytes:
        """Return what follows the numbers."""
        layout = BODIES.get(self.opcode)
        return self.body if layout is None else self.body[layout.size :]

    def names(self, count: int) -> list[bytes]:
        """Return the names that follow the numbers; raise `KernelMessageInvalid` where there are fewer."""
        names = self.rest().split(b"\0")
        if len(names) <= count:
            raise KernelMessageInvalid(f"a request {self.opcode} of the kernel has no {count} names")
        return names[:count]


def decode(message: bytes) -> Request:
    """Return the request in what one read of the device returned.

    Raises:
        KernelMessageInvalid: it is none.
    """
    if len(message) < _HEADER.size:
        raise KernelMessageInvalid(f"the kernel sent {len(message)} bytes")
    length, opcode, unique, node, uid, gid, _, _, _ = _HEADER.unpack_from(message)
    if length != len(message):
        raise KernelMessageInvalid(f"the kernel sent {len(message)} bytes and says {length}")
    return Request(opcode, unique, node, uid, gid, message[_HEADER.size :])


def reply(unique: int, body: bytes = b"", *, error: int = 0) -> bytes:
    """Return an answer: a body, or an error number."""
    return _REPLY.pack(_REPLY.size + len(body), -error, unique) + body


def welcome(request: Request) -> bytes:
    """Return the answer to INIT.

    Raises:
        KernelMessageInvalid: the kernel speaks another protocol.
    """
    if len(request.body) < _INIT_IN.size:
        raise KernelMessageInvalid("the first request of the kernel is too short")
    major, minor, read_ahead, offered = _INIT_IN.unpack_from(request.body)
    if major != MAJOR or minor < MINOR:
        raise KernelMessageInvalid(
            f"the kernel speaks version {major}.{minor} of FUSE: {MAJOR}.{MINOR} is needed"
        )
    pages = WRITE_BYTES_MAX // _PAGE_BYTES
    body = _INIT_OUT.pack(
        MAJOR, MINOR, read_ahead, offered & _WANTED, 64, 48, WRITE_BYTES_MAX, 1, pages, 0, 0, 0
    )
    return reply(request.unique, body)


class NodeAttributes(msgspec.Struct, frozen=True, gc=False):
    """Attributes as the kernel wants them; `mode` with the type."""

    inode: int
    mode: int
    links: int
    uid: int
    gid: int
    device: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int

    def packed(self) -> bytes:
        """Return `struct fuse_attr`."""
        (atime, atime_ns), (mtime, mtime_ns), (ctime, ctime_ns) = (
            divmod(time, 1_000_000_000) for time in (self.atime_ns, self.mtime_ns, self.ctime_ns)
        )
        mask = (1 << 64) - 1
        return _ATTRIBUTES.pack(
            self.inode, self.size, -(-self.size // 512), atime & mask, mtime & mask, ctime & mask, atime_ns,
            mtime_ns, ctime_ns, self.mode, self.links, self.uid, self.gid, self.device, 65_536, 0,
        )  # fmt: skip


def entry(attributes: NodeAttributes, valid_us: int) -> bytes:
    """Return `struct fuse_entry_out`: a name is asked for again each time, attributes when they are old."""
    seconds, rest = divmod(valid_us, 1_000_000)
    return _ENTRY.pack(attributes.inode, 0, 0, seconds, 0, rest * 1_000) + attributes.packed()


def attributes_reply(attributes: NodeAttributes, valid_us: int) -> bytes:
    """Return `struct fuse_attr_out`."""
    seconds, rest = divmod(valid_us, 1_000_000)
    return _VALID.pack(seconds, rest * 1_000, 0) + attributes.packed()


def opened(handle: int, flags: int = 0) -> bytes:
    """Return `struct fuse_open_out`."""
    return _OPENED.pack(handle, flags, 0)


def written(count: int) -> bytes:
    """Return `struct fuse_write_out`."""
    return struct.pack("<II", count, 0)


def statfs(*, blocks: int, free: int, files: int, files_free: int, block_bytes: int, name_max: int) -> bytes:
    """Return `struct fuse_statfs_out`."""
    return _STATFS.pack(blocks, free, free, files, files_free, block_bytes, name_max, block_bytes, 0)


def directory_entry(inode: int, offset: int, kind: int, name: bytes) -> bytes:
    """Return `struct fuse_dirent`; `offset` is where the next one is asked for."""
    packed = _DIRENT.pack(inode, offset, len(name), kind) + name
    return packed + bytes(-len(packed) % 8)


def forget_attributes(inode: int) -> bytes:
    """Return the notice that lets the kernel forget the attributes of an inode.

    Its pages stay: a reader asks for the attributes first, and the kernel drops the pages itself where the
    time of the last change is another one. So nothing here waits for a page that is being read.
    """
    body = _INVALIDATE.pack(inode, -1, 0)
    return _REPLY.pack(_REPLY.size + len(body), _NOTIFY_INVALIDATE_INODE, 0) + body
