"""Requests of the kernel as operations of the cache, and their results as replies. No input or output."""

import errno
import os
import stat
from collections.abc import Callable
from typing import Any, Final

from viewstamp.filesystem import kernel
from viewstamp.filesystem.kernel import NodeAttributes, Request
from viewstamp.services.extents.model import NAME_BYTES_MAX, ROOT, Attributes, Birth, Entry, Kind, Totals
from viewstamp.services.extents.operations import (
    Close,
    Create,
    GetAttributes,
    GetTotals,
    LinkTo,
    Lookup,
    Open,
    Opened,
    Operation,
    Read,
    ReadLink,
    Remove,
    Rename,
    SetAttributes,
    Sync,
    Write,
)

_TYPE_BITS: Final[dict[Kind, int]] = {
    "file": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "other": 0,
}
_STATFS_BYTES: Final = 4_096
Encoded = Callable[[Any, int], bytes]
"""Makes the body of a reply of a result, and of how long its attributes are valid."""


def understood(request: Request, now_ns: int) -> tuple[Operation, Encoded] | int:  # noqa: C901, PLR0912  a flat table
    """Return the operation that a request asks for, and what encodes its result; or an error number."""
    node = request.node
    match request.opcode:
        case kernel.LOOKUP:
            return Lookup(node, request.names(1)[0]), _entry
        case kernel.GETATTR:
            return GetAttributes(node), _attributes
        case kernel.SETATTR:
            return _set_attributes(request, now_ns), _attributes
        case kernel.READLINK:
            return ReadLink(node), _bytes
        case kernel.SYMLINK:
            name, target = request.names(2)
            birth = Birth("symlink", 0o777, request.uid, request.gid, now_ns, target)
            return Create(node, name, birth), _entry
        case kernel.MKNOD:
            return _make_node(request, now_ns), _entry
        case kernel.MKDIR:
            birth = Birth("directory", request.numbers()[0] & 0o7777, request.uid, request.gid, now_ns)
            return Create(node, request.names(1)[0], birth), _entry
        case kernel.UNLINK | kernel.RMDIR:
            return Remove(node, request.names(1)[0], request.opcode == kernel.RMDIR), _nothing
        case kernel.RENAME | kernel.RENAME2:
            return _rename(request)
        case kernel.LINK:
            return LinkTo(request.numbers()[0], node, request.names(1)[0]), _entry
        case kernel.OPEN:
            flags = request.numbers()[0]
            return Open(node), _opened_as(flags)
        case kernel.CREATE:
            flags, mode = request.numbers()[:2]
            birth = Birth("file", mode & 0o7777, request.uid, request.gid, now_ns)
            exclusive, cut = bool(flags & os.O_EXCL), bool(flags & os.O_TRUNC)
            return Create(node, request.names(1)[0], birth, True, exclusive, cut), _created_as(flags)
        case kernel.READ:
            handle, offset, size = request.numbers()[:3]
            return Read(handle, offset, size), _bytes
        case kernel.WRITE:
            handle, offset, size, _, _, flags, _ = request.numbers()
            append = bool(flags & os.O_APPEND)
            return Write(handle, offset, request.rest()[:size], append), _written
        case kernel.STATFS:
            return GetTotals(), _statfs
        case kernel.FLUSH | kernel.FSYNC:
            return Sync(request.numbers()[0]), _nothing
        case kernel.RELEASE:
            return Close(request.numbers()[0]), _nothing
        case _:
            return errno.ENOSYS


def _set_attributes(request: Request, now_ns: int) -> SetAttributes:
    valid, _, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = request.numbers()

    def time(bit: int, now_bit: int, seconds: int, rest: int) -> int | None:
        if valid & now_bit:
            return now_ns
        signed = seconds - (1 << 64) if seconds >> 63 else seconds
        return signed * 1_000_000_000 + rest if valid & bit else None

    return SetAttributes(
        request.node,
        mode & 0o7777 if valid & kernel.SET_MODE else None,
        uid if valid & kernel.SET_UID else None,
        gid if valid & kernel.SET_GID else None,
        size if valid & kernel.SET_SIZE else None,
        time(kernel.SET_ATIME, kernel.SET_ATIME_NOW, atime, atime_ns),
        time(kernel.SET_MTIME, kernel.SET_MTIME_NOW, mtime, mtime_ns),
    )


def _make_node(request: Request, now_ns: int) -> Create:
    mode, device = request.numbers()[:2]
    kind: Kind = "file" if stat.S_IFMT(mode) in {0, stat.S_IFREG} else "other"
    kept = mode & 0o7777 if kind == "file" else mode
    birth = Birth(kind, kept, request.uid, request.gid, now_ns, device=device)
    return Create(request.node, request.names(1)[0], birth)


def _rename(request: Request) -> tuple[Operation, Encoded] | int:
    new_parent, *rest = request.numbers()
    flags = rest[0] if rest else 0
    if flags & ~kernel.RENAME_NOREPLACE:
        return errno.EINVAL
    name, new_name = request.names(2)
    return Rename(request.node, name, new_parent, new_name, bool(flags)), _nothing


# Replies


def node_attributes(attributes: Attributes) -> NodeAttributes:
    """Return attributes as the kernel wants them."""
    mode = attributes.mode | _TYPE_BITS[attributes.kind]
    return NodeAttributes(
        attributes.inode, mode, attributes.links, attributes.uid, attributes.gid, attributes.device,
        attributes.size, attributes.atime_ns, attributes.mtime_ns, attributes.ctime_ns,
    )  # fmt: skip


def _entry(result: Attributes, valid_us: int) -> bytes:
    return kernel.entry(node_attributes(result), valid_us)


def _attributes(result: Attributes, valid_us: int) -> bytes:
    return kernel.attributes_reply(node_attributes(result), valid_us)


def _nothing(_: object, __: int) -> bytes:
    return b""


def _bytes(result: bytes, _: int) -> bytes:
    return result


def _written(result: int, _: int) -> bytes:
    return kernel.written(result)


def _open_flags(flags: int) -> int:
    """Let appends come here as they are: the kernel would keep them where it believes the end to be."""
    return kernel.DIRECT_IO if flags & os.O_APPEND else 0


def _opened_as(flags: int) -> Encoded:
    def encode(result: Opened, _: int) -> bytes:
        return kernel.opened(result.handle, _open_flags(flags))

    return encode


def _created_as(flags: int) -> Encoded:
    def encode(result: Opened, _: int) -> bytes:
        entry = kernel.entry(node_attributes(result.attributes), 0)
        return entry + kernel.opened(result.handle, _open_flags(flags))

    return encode


def _statfs(result: Totals, _: int) -> bytes:
    free = max(0, result.bytes_max - result.bytes) // _STATFS_BYTES
    return kernel.statfs(
        blocks=result.bytes_max // _STATFS_BYTES,
        free=free,
        files=result.inodes_max,
        files_free=max(0, result.inodes_max - result.inodes),
        block_bytes=_STATFS_BYTES,
        name_max=NAME_BYTES_MAX,
    )


def listing(entries: list[Entry], offset: int, size: int) -> bytes:
    """Return as many entries of a directory, from a place on, as fit; none: the end."""
    pieces: list[bytes] = []
    room = size
    for place in range(offset, len(entries)):
        entry = entries[place]
        kind = stat.S_IFMT(_TYPE_BITS[entry.kind]) >> 12
        piece = kernel.directory_entry(entry.inode, place + 1, kind, entry.name)
        if len(piece) > room:
            break
        pieces.append(piece)
        room -= len(piece)
    return b"".join(pieces)


def released_handle(request: Request) -> int:
    """Return the handle that a request about an open directory names."""
    return request.numbers()[0]


assert ROOT == 1, "the kernel calls the root 1"
