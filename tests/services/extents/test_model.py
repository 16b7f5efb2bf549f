"""Random operations of several clients that stand still now and then, against a dict of contents.

An operation changes the dict at the moment when its client is told, and reads must fit the dict at that
moment: the client is inside of the locks until then. What a client wrote and lost with its session is
taken back when the service ends the session; each handle of such a file must hear EIO, once, and no other
handle may.
"""

import errno
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.services.extents.town import ROOT, SESSION_US, Client, Town
from viewstamp.services.extents.model import BLOCK_BYTES, Attributes, Birth
from viewstamp.services.extents.operations import (
    Close,
    Create,
    FileFailure,
    FileOptions,
    GetAttributes,
    ListNames,
    Lookup,
    Open,
    Opened,
    Read,
    Remove,
    Rename,
    SetAttributes,
    Sync,
    Write,
)

NAMES = (b"a", b"b", b"c")
LATER = {errno.ENOENT, errno.EIO}


Judge = Callable[[Any], None]


class Handle:
    def __init__(self, number: int, inode: int) -> None:
        self.number = number
        self.inode = inode
        self.may_hear = False
        self.must_hear = False


class Judged:
    """A town whose clients are judged."""

    def __init__(self, seed: int, *, apart: bool) -> None:
        self.rng = Random(seed)
        options = FileOptions(
            claims=apart, dirty_bytes_max=4 * BLOCK_BYTES, held_max=3, clean_bytes_max=BLOCK_BYTES
        )
        self.town = Town(seed, clients=3, apart=apart, options=options)
        self.town.on_end = self.session_ended
        self.content: dict[int, bytes] = {}
        self.handles: dict[int, list[Handle]] = {client: [] for client in self.town.clients}
        self.running = 0
        self.losses = 0
        self.heard = 0

    @property
    def tree(self) -> Any:
        return self.town.files.machine._tree

    def stored(self, inode: int) -> bytes:
        found = self.tree.inodes.get(inode)
        if found is None:
            return b""
        blocks = (found.blocks.get(n, b"") for n in range(-(-found.size // BLOCK_BYTES)))
        return b"".join(block + bytes(BLOCK_BYTES - len(block)) for block in blocks)[: found.size]

    def is_stale(self, client: Client) -> bool:
        known = self.town.locks.sessions.get(client.number)
        return known is None or known[0] != client.session

    def session_ended(self, client: Client) -> None:
        cache = client.cache
        for held in [*cache.held.values(), *cache._leaving.values()]:
            if held.is_dirty:
                stored = self.stored(held.inode)
                arrived = stored == self.content.get(held.inode, b"")  # only the answer is under way
                self.content[held.inode] = stored
                self.losses += not arrived
                self.lost(client, held.inode, must_hear=not arrived)

    def lost(self, client: Client, inode: int, *, must_hear: bool = True) -> None:
        for handle in self.handles[client.number]:
            if handle.inode == inode:
                handle.may_hear = True
                handle.must_hear = handle.must_hear or must_hear

    # One operation at a time of each client

    def go(self, operations: int) -> None:
        for number, client in self.town.clients.items():
            self.running += 1
            self.next(client, operations, self.rng.choice((0, 1_000 * number)))
        self.town.run(lambda: not self.running, seconds=3_600)

    def next(self, client: Client, left: int, pause: int) -> None:
        if not left:
            self.running -= 1
            return
        draw = self.rng.random()
        if draw < 0.02:
            self.town.freeze(client.number, self.rng.randrange(3 * SESSION_US))
        self.town.after(pause, lambda: self.act(client, left))

    def act(self, client: Client, left: int) -> None:
        if self.town.now < client.frozen_until:
            self.town.at(client.frozen_until, lambda: self.act(client, left))
            return
        operation, judge = self.draw(client)

        def ended(result: Any) -> None:
            judge(result)
            self.next(client, left - 1, self.rng.choice((0, 10, 5_000, 60_000)))

        client.request(operation, ended)

    def draw(self, client: Client) -> Any:
        rng = self.rng
        handles = self.handles[client.number]
        name = rng.choice(NAMES)
        kind = rng.choice(("create", "open", "remove", "rename", "list", "lookup", *("handle",) * 12))
        if kind == "handle" and handles:
            return self.draw_of_handle(client, rng.choice(handles))
        if kind == "create" or kind == "handle":
            birth = Birth("file", 0o644, 0, 0, 1)
            return Create(ROOT, name, birth, opening=True), lambda result: self.opened(client, result)
        if kind == "remove":
            return Remove(ROOT, name, directory=False), lambda _: None
        if kind == "rename":
            return Rename(ROOT, name, ROOT, rng.choice(NAMES)), lambda _: None
        if kind == "list":
            return ListNames(ROOT), self.listed
        inode = self.tree.find(ROOT, name)
        if kind == "open" and inode is not None:
            return Open(inode.inode), lambda result: self.opened(client, result)
        return Lookup(ROOT, name), self.looked

    def draw_of_handle(self, client: Client, handle: Handle) -> Any:
        rng = self.rng
        offset = rng.choice((0, 3, 100, BLOCK_BYTES - 2, 2 * BLOCK_BYTES, 5 * BLOCK_BYTES))
        size = rng.choice((1, 7, BLOCK_BYTES, 3 * BLOCK_BYTES))
        kind = rng.choice(("read", "read", "write", "write", "append", "sync", "size", "stat", "close"))
        data = bytes([rng.randrange(1, 256)]) * size

        def told(judge: Judge) -> Judge:
            return lambda result: self.told(client, handle, result, judge)

        if kind == "read":
            return Read(handle.number, offset, size), told(
                lambda result: self.read(handle, offset, size, result)
            )
        if kind == "write":
            return Write(handle.number, offset, data), told(
                lambda _: self.wrote(client, handle, offset, data)
            )
        if kind == "append":
            write = Write(handle.number, 0, data, append=True)
            return write, told(lambda _: self.wrote(client, handle, None, data))
        if kind == "sync":
            return Sync(handle.number), told(lambda _: None)
        if kind == "size":
            cut = SetAttributes(handle.inode, size=offset)
            return cut, lambda result: self.resized(client, handle, offset, result)
        if kind == "stat" or handle.must_hear:
            return GetAttributes(handle.inode), self.looked
        self.handles[client.number].remove(handle)
        return Close(handle.number), lambda _: None

    # What clients are told

    def told(self, client: Client, handle: Handle, result: Any, judge: Any) -> None:
        if isinstance(result, FileFailure):
            if result.errno == errno.ENOENT:
                assert (
                    handle.inode not in self.tree.inodes
                )  # its last name went, and the pin with the session
                return
            assert result.errno == errno.EIO, result
            assert handle.may_hear, "EIO without a loss, or twice"
            handle.may_hear = handle.must_hear = False
            self.heard += 1
            return
        assert not handle.must_hear or self.is_stale(client), "a loss was not told"
        judge(result)

    def opened(self, client: Client, result: Any) -> None:
        if isinstance(result, Opened):
            inode = result.attributes.inode
            self.handles[client.number].append(Handle(result.handle, inode))
            if result.attributes.links:
                self.content.setdefault(inode, b"")
        else:
            assert result.errno in {errno.EEXIST, *LATER}, result

    def read(self, handle: Handle, offset: int, size: int, result: bytes) -> None:
        assert result == self.content[handle.inode][offset : offset + size], handle.inode

    def wrote(self, client: Client, handle: Handle, offset: int | None, data: bytes) -> None:
        if self.is_stale(client):
            self.lost(client, handle.inode)
            return
        before = self.content[handle.inode]
        start = len(before) if offset is None else offset
        before += bytes(max(0, start - len(before)))
        self.content[handle.inode] = before[:start] + data + before[start + len(data) :]

    def resized(self, client: Client, handle: Handle, size: int, result: Any) -> None:
        if isinstance(result, FileFailure):
            assert result.errno in LATER
        elif self.is_stale(client):
            self.lost(client, handle.inode)
        else:
            before = self.content[handle.inode]
            self.content[handle.inode] = before[:size] + bytes(max(0, size - len(before)))

    def looked(self, result: Any) -> None:
        if isinstance(result, Attributes):
            if result.inode != ROOT:
                assert result.size == len(self.content.get(result.inode, b""))
        else:
            assert isinstance(result, FileFailure)
            assert result.errno == errno.ENOENT

    def listed(self, result: Any) -> None:
        assert [entry.name for entry in result] == sorted(
            name.encode("latin-1") for name in self.tree.inodes[ROOT].names
        )

    def finish(self) -> None:
        """Let every client write its last, then compare what all see, and what the service has."""
        self.town.wait(4 * SESSION_US)
        for number, handles in self.handles.items():
            for handle in handles:
                for _ in range(2):
                    town_failure = None
                    try:
                        self.town.do(number, Sync(handle.number))
                    except FileFailure as failure:
                        town_failure = failure
                    self.told(self.town.clients[number], handle, town_failure, lambda _: None)
                assert not handle.must_hear
        self.town.close()
        for inode in self.tree.inodes:
            if inode != ROOT:
                assert self.stored(inode) == self.content.get(inode, b""), inode
        assert self.tree.used == sum(
            len(block) for inode in self.tree.inodes.values() for block in inode.blocks.values()
        )


@pytest.mark.parametrize("apart", [False, True])
def test_clients_see_one_file_system_and_losses_are_said_once(apart: bool) -> None:
    losses = heard = 0
    for seed in range(30):
        judged = Judged(seed, apart=apart)
        try:
            judged.go(120)
            judged.finish()
        except Exception as failure:
            failure.add_note(f"seed {seed}, apart {apart}")
            raise
        losses += judged.losses
        heard += judged.heard
    assert losses >= 5
    assert heard >= 5
