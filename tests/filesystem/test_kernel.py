"""The messages of /dev/fuse: their layouts, and that bad ones raise `KernelMessageInvalid` alone."""

import errno
import os
import stat
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.filesystem import kernel, translation
from viewstamp.filesystem.kernel import KernelMessageInvalid, Request
from viewstamp.services.extents.model import Attributes, Entry, Totals
from viewstamp.services.extents.operations import (
    Create,
    LinkTo,
    Lookup,
    Opened,
    Remove,
    Rename,
    SetAttributes,
    Write,
)

HEADER = struct.Struct("<IIQQIIIHH")
NOW = 7_000_000_001


def message(opcode: int, body: bytes = b"", *, node: int = 5) -> bytes:
    return HEADER.pack(HEADER.size + len(body), opcode, 77, node, 1_000, 1_001, 42, 0, 0) + body


def understood(opcode: int, body: bytes, node: int = 5) -> Any:
    return translation.understood(kernel.decode(message(opcode, body, node=node)), NOW)


def test_a_request_is_read() -> None:
    request = kernel.decode(message(kernel.LOOKUP, b"name\0"))
    assert request == Request(kernel.LOOKUP, 77, 5, 1_000, 1_001, b"name\0")
    assert request.names(1) == [b"name"]


@pytest.mark.parametrize("bad", [b"", b"x" * 39, message(1)[:-1], message(1) + b"x"])
def test_what_is_no_request_is_refused(bad: bytes) -> None:
    with pytest.raises(KernelMessageInvalid):
        kernel.decode(bad)


@given(st.integers(0, 60), st.binary(max_size=200))
def test_a_short_body_is_refused_and_nothing_else_is_raised(opcode: int, body: bytes) -> None:
    try:
        found = understood(opcode, body)
    except KernelMessageInvalid:
        return
    assert isinstance(found, int | tuple)


@pytest.mark.parametrize(
    ("opcode", "body", "expected"),
    [
        (kernel.LOOKUP, b"a\0", Lookup(5, b"a")),
        (kernel.UNLINK, b"a\0", Remove(5, b"a", False)),
        (kernel.RMDIR, b"a\0", Remove(5, b"a", True)),
        (kernel.RENAME, struct.pack("<Q", 6) + b"a\0b\0", Rename(5, b"a", 6, b"b", False)),
        (kernel.RENAME2, struct.pack("<QII", 6, 1, 0) + b"a\0b\0", Rename(5, b"a", 6, b"b", True)),
        (kernel.RENAME2, struct.pack("<QII", 6, 2, 0) + b"a\0b\0", errno.EINVAL),
        (kernel.LINK, struct.pack("<Q", 9) + b"a\0", LinkTo(9, 5, b"a")),
        (
            kernel.WRITE,
            struct.pack("<QQIIQII", 3, 10, 2, 0, 0, os.O_APPEND | os.O_WRONLY, 0) + b"xy",
            Write(3, 10, b"xy", True),
        ),
        (44, b"", errno.ENOSYS),
    ],
)
def test_requests_are_operations(opcode: int, body: bytes, expected: object) -> None:
    found = understood(opcode, body)
    assert (found if isinstance(found, int) else found[0]) == expected


def test_attributes_are_set_as_asked() -> None:
    valid = kernel.SET_MODE | kernel.SET_SIZE | kernel.SET_ATIME | kernel.SET_MTIME | kernel.SET_MTIME_NOW
    before = (1 << 64) - 2  # two seconds before 1970
    body = struct.pack("<IIQQQQQQIIIIIIII", valid, 0, 0, 11, 0, before, 1, 0, 5, 6, 0, 0o100640, 0, 8, 9, 0)
    found = understood(kernel.SETATTR, body)[0]
    assert found == SetAttributes(5, 0o640, None, None, 11, -2 * 10**9 + 5, NOW)


def test_created_files_get_the_caller_and_the_flags() -> None:
    body = struct.pack("<IIII", os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o100644, 0o22, 0) + b"f\0"
    operation, encode = understood(kernel.CREATE, body)
    assert isinstance(operation, Create)
    birth = operation.birth
    assert (birth.kind, birth.mode, birth.uid, birth.gid, birth.now_ns) == ("file", 0o644, 1_000, 1_001, NOW)
    assert (operation.opening, operation.exclusive, operation.cut) == (True, True, False)
    reply = encode(Opened(9, Attributes(6, "file", 0o644, 1, 2, 1, 0, 0, 0, 0)), 5)
    assert len(reply) == 128 + 16
    assert struct.unpack("<QII", reply[128:]) == (9, kernel.DIRECT_IO, 0)


def test_attributes_are_laid_out_as_the_kernel_wants_them() -> None:
    attributes = Attributes(6, "directory", 0o755, 1, 2, 3, 1_000, -1, 2 * 10**9 + 3, 4, 5)
    packed = translation.node_attributes(attributes).packed()
    fields = struct.unpack("<6Q10I", packed)
    assert fields[:3] == (6, 1_000, 2)
    assert fields[3:9] == ((1 << 64) - 1, 2, 0, 999_999_999, 3, 4)
    assert fields[9:15] == (stat.S_IFDIR | 0o755, 3, 1, 2, 5, 65_536)
    entry = kernel.entry(translation.node_attributes(attributes), 1_500_000)
    assert struct.unpack("<QQQQII", entry[:40]) == (6, 0, 0, 1, 0, 500_000_000)
    assert len(kernel.attributes_reply(translation.node_attributes(attributes), 0)) == 104


def test_the_welcome_says_what_is_spoken() -> None:
    offered = (1 << 32) - 1
    answer = kernel.welcome(
        kernel.decode(message(kernel.INIT, struct.pack("<IIII", 7, 45, 131_072, offered)))
    )
    assert len(answer) == 16 + 64
    major, minor, _, flags = struct.unpack("<IIII", answer[16:32])
    assert (major, minor) == (7, 31)
    assert not flags & (1 << 16), "the kernel keeps nothing that was written"
    assert flags & (1 << 12), "the kernel drops pages where the time of the last change is another"
    with pytest.raises(KernelMessageInvalid, match="speaks"):
        kernel.welcome(kernel.decode(message(kernel.INIT, struct.pack("<IIII", 7, 20, 0, 0))))
    with pytest.raises(KernelMessageInvalid):
        kernel.welcome(kernel.decode(message(kernel.INIT)))


def test_a_directory_is_read_in_pieces() -> None:
    entries = [Entry(b"n%03d" % number, number + 2, "file") for number in range(50)]
    found: list[bytes] = []
    offset = 0
    while piece := translation.listing(entries, offset, 400):
        assert len(piece) <= 400
        at = 0
        while at < len(piece):
            inode, offset, length, kind = struct.unpack_from("<QQII", piece, at)
            found.append(piece[at + 24 : at + 24 + length])
            assert (inode, kind) == (entries[len(found) - 1].inode, 8)
            at += (24 + length + 7) // 8 * 8
    assert found == [entry.name for entry in entries]


def test_room_is_told() -> None:
    _, encode = understood(kernel.STATFS, b"")
    blocks, free, available, files, files_free = struct.unpack_from(
        "<5Q", encode(Totals(10, 100, 8_192, 81_920, 0, 0), 0)
    )
    assert (blocks, free, available, files, files_free) == (20, 18, 18, 100, 90)
    assert struct.unpack("<IiQ", kernel.reply(3, error=errno.EIO)) == (16, -errno.EIO, 3)
    assert struct.unpack("<IiQQqq", kernel.forget_attributes(9)) == (40, 2, 0, 9, -1, 0)
