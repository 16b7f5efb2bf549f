"""The snapshot of a file tree: pieces behind their lengths, equal for equal trees."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from viewstamp.services.extents.model import Kind
from viewstamp.services.extents.tree import FileTree, Inode

LENGTH_BYTES: Final = 4
_IMAGES_PER_PIECE: Final = 256
_PIECE_BYTES: Final = 1 << 20


class _InodeImage(msgspec.Struct, frozen=True, array_like=True):
    number: int
    kind: Kind
    mode: int
    owner: tuple[int, int]
    times: tuple[int, int, int]
    links: int
    size: int
    device: int
    fence: int
    parent: int
    target: bytes
    pins: list[int]


class _Piece(msgspec.Struct, frozen=True, array_like=True):
    next_inode: int
    inodes: list[_InodeImage] = []
    names: list[tuple[int, str, int]] = []
    """Directory, name, inode."""
    blocks: list[tuple[int, int, bytes]] = []
    """Inode, number, content."""


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(_Piece).decode


def framed(encoded: bytes) -> bytes:
    """Return a piece behind its length."""
    return len(encoded).to_bytes(LENGTH_BYTES, "big") + encoded


def frames(snapshot: bytes | memoryview) -> Iterator[memoryview]:
    """Yield the pieces; raise ValueError where the bytes end within one."""
    body = memoryview(snapshot)
    offset = 0
    while offset < len(body):
        start = offset + LENGTH_BYTES
        offset = start + int.from_bytes(body[offset:start], "big")
        if offset > len(body):
            raise ValueError("the snapshot of a file system is cut short")
        yield body[start:offset]


def pieces_of(tree: FileTree) -> Iterator[bytes]:
    """Yield the tree in pieces, each behind its length."""
    after = tree.next_inode
    yield framed(_ENCODE(_Piece(after)))
    images = (_image(number, inode) for number, inode in sorted(tree.inodes.items()))
    while some := list(islice(images, _IMAGES_PER_PIECE)):
        yield framed(_ENCODE(_Piece(after, some)))
    names = (
        (number, name, inode.names[name])
        for number, inode in sorted(tree.inodes.items())
        for name in inode.sorted.page("", "", len(inode.names))
    )
    while entries := list(islice(names, 4 * _IMAGES_PER_PIECE)):
        yield framed(_ENCODE(_Piece(after, [], entries)))
    yield from (framed(_ENCODE(_Piece(after, [], [], blocks))) for blocks in _block_runs(tree))


def _block_runs(tree: FileTree) -> Iterator[list[tuple[int, int, bytes]]]:
    run: list[tuple[int, int, bytes]] = []
    size = 0
    for number, inode in sorted(tree.inodes.items()):
        for block, content in sorted(inode.blocks.items()):
            run.append((number, block, content))
            size += len(content)
            if size >= _PIECE_BYTES:
                yield run
                run, size = [], 0
    if run:
        yield run


def _image(number: int, inode: Inode) -> _InodeImage:
    return _InodeImage(
        number, inode.kind, inode.mode, inode.owner, inode.times, inode.links, inode.size, inode.device,
        inode.fence, inode.parent, inode.target, sorted(inode.pins),
    )  # fmt: skip


def restore_piece(tree: FileTree, piece: memoryview) -> None:
    """Add what a piece holds to a fresh tree; raise ValueError where it is none."""
    decoded = _DECODE(piece)
    tree.next_inode = decoded.next_inode
    for image in decoded.inodes:
        _restore_inode(tree, image)
    for directory, name, number in decoded.names:
        tree.inodes[directory].names[name] = number
        tree.inodes[directory].sorted.add(name)
    for number, block, content in decoded.blocks:
        tree.inodes[number].blocks[block] = content
        tree.used += len(content)


def _restore_inode(tree: FileTree, image: _InodeImage) -> None:
    inode = tree.inodes[image.number] = Inode(image.kind, image.mode, image.owner, image.times)
    inode.links, inode.size, inode.device = image.links, image.size, image.device
    inode.fence, inode.parent, inode.target = image.fence, image.parent, image.target
    for client in image.pins:
        inode.pins.add(client)
        tree.pinned.setdefault(client, set()).add(image.number)
