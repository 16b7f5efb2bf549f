"""The machine of a file system by itself: what it refuses changes nothing, and its snapshot is all of it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.machine.context import running_at
from viewstamp.services.extents import ExtentService, FileService
from viewstamp.services.extents.model import (
    BLOCK_BYTES,
    ROOT,
    STORE_BYTES_MAX,
    Attributes,
    Birth,
    Change,
    Fenced,
    FileLimits,
    FileRefused,
    InvalidChange,
    IsADirectory,
    NameTaken,
    NameTooLong,
    NoInode,
    NoName,
    NoSpace,
    NotADirectory,
    NotEmpty,
    StaleToken,
)
from viewstamp.services.extents.service import lock_of
from viewstamp.services.locks import NoSession

FILE = Birth("file", 0o644, 1, 2, 5)
DIRECTORY = Birth("directory", 0o755, 1, 2, 5)


class Desk:
    """Clients of one machine, each command with a position of its own."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.seqno = 0
        self.sequence = 0
        self.call(1, "make", DIRECTORY)

    def call(self, client: int, name: str, *arguments: Any, session: int = 1) -> Any:
        self.seqno += 1
        with running_at(self.machine, seqno=self.seqno, client=client, session=session) as context:
            result = getattr(self.machine, name)(*arguments)
            context.take_notifications()
        return result

    def lock(self, client: int, inode: int) -> Fenced:
        self.sequence += 1
        acquired = self.call(client, "acquire", lock_of(inode), self.sequence)
        assert acquired.state == "granted"
        return Fenced(inode, acquired.token)

    def release(self, client: int, inode: int) -> None:
        holder = self.machine.stat.__self__._locks[lock_of(inode)].holder
        self.call(client, "release", lock_of(inode), holder.sequence)

    def create(self, client: int, parent: Fenced, name: bytes, birth: Birth = FILE) -> int:
        made: tuple[Attributes, Attributes] = self.call(client, "create", parent, name, birth)
        return made[0].inode

    def refused(self, kind: type[Exception], client: int, name: str, *arguments: Any, **named: Any) -> None:
        before = b"".join(self.machine.snapshot())
        with pytest.raises(kind):
            self.call(client, name, *arguments, **named)
        assert b"".join(self.machine.snapshot()) == before

    def restored(self) -> Any:
        copy = type(self.machine)()
        copy.restore(b"".join(self.machine.snapshot()))
        return copy


def attributes(inode: int, size: int) -> Attributes:
    return Attributes(inode, "file", 0o600, 7, 8, 1, size, 1, 2, 3)


@pytest.mark.parametrize(
    "change", ["create", "link", "remove", "rename", "rename to", "replace", "store", "claim"]
)
def test_a_change_is_refused_when_its_token_is_not_that_of_the_present_holder(change: str) -> None:
    desk = Desk(FileService())
    root = desk.lock(1, ROOT)
    sub = desk.lock(1, desk.create(1, root, b"sub", DIRECTORY))
    file = desk.lock(1, desk.create(1, root, b"file"))
    other = desk.lock(1, desk.create(1, root, b"other"))
    calls: dict[str, Callable[[Fenced], tuple[Any, ...]]] = {
        "create": lambda fenced: ("create", fenced, b"x", FILE),
        "link": lambda fenced: ("link", fenced, root, b"x", 9),
        "remove": lambda fenced: ("remove", root, b"file", fenced, 9),
        "rename": lambda fenced: ("rename", fenced, b"file", sub, b"x", None, 9),
        "rename to": lambda fenced: ("rename", root, b"file", fenced, b"x", None, 9),
        "replace": lambda fenced: ("rename", root, b"other", root, b"file", fenced, 9),
        "store": lambda fenced: ("store", fenced, Change(attributes(fenced.inode, 1), None, [(0, b"x")])),
        "claim": lambda fenced: ("claim", fenced),
    }
    target = {"create": root, "rename": root, "rename to": sub}.get(change, file)
    assert other.inode
    call = calls[change]
    desk.refused(StaleToken, 1, *call(Fenced(target.inode, target.token - 1)))
    desk.refused(StaleToken, 1, *call(Fenced(target.inode, target.token + 1)))
    desk.refused(StaleToken, 2, *call(target))
    desk.release(1, target.inode)
    desk.refused(StaleToken, 1, *call(target))
    again = desk.lock(1, target.inode)
    root, sub = (again if fenced == target else fenced for fenced in (root, sub))
    desk.call(1, *call(again))


def test_a_smaller_token_than_one_that_was_shown_is_refused_where_the_locks_are_elsewhere() -> None:
    desk = Desk(ExtentService())
    made = desk.create(1, Fenced(ROOT, 5), b"f")
    desk.call(2, "claim", Fenced(made, 9))
    change = Change(attributes(made, 1), None, [(0, b"x")])
    desk.refused(StaleToken, 1, "store", Fenced(made, 8), change)
    desk.refused(StaleToken, 1, "remove", Fenced(ROOT, 9), b"f", Fenced(made, 8), 9)
    desk.refused(StaleToken, 1, "create", Fenced(ROOT, 4), b"g", FILE)
    desk.machine = desk.restored()
    desk.refused(StaleToken, 1, "store", Fenced(made, 8), change)
    desk.call(2, "store", Fenced(made, 9), change)
    desk.call(1, "store", Fenced(made, 10), change)


def test_names_are_refused_that_are_none() -> None:
    desk = Desk(FileService())
    root = desk.lock(1, ROOT)
    file = desk.lock(1, desk.create(1, root, b"file"))
    for name in (b"", b".", b"..", b"a/b", b"a\0"):
        desk.refused(InvalidChange, 1, "create", root, name, FILE)
    desk.refused(NameTooLong, 1, "create", root, b"x" * 256, FILE)
    desk.refused(NameTooLong, 1, "create", root, b"s", Birth("symlink", 0o777, 0, 0, 1, b"x" * 4_096))
    desk.refused(NameTaken, 1, "create", root, b"file", FILE)
    desk.refused(NotADirectory, 1, "create", file, b"x", FILE)
    desk.refused(NoName, 1, "remove", root, b"other", file, 9)
    desk.refused(NameTaken, 1, "rename", root, b"file", root, b"file", None, 9)
    desk.refused(NameTaken, 1, "make", DIRECTORY)
    assert desk.create(1, root, bytes(range(1, 47)) + b"\xff") == file.inode + 1
    assert desk.call(1, "listing", ROOT).entries[0].name == bytes(range(1, 47)) + b"\xff"


def test_moves_are_refused_that_make_no_tree() -> None:
    desk = Desk(FileService())
    root = desk.lock(1, ROOT)
    one = desk.lock(1, desk.create(1, root, b"one", DIRECTORY))
    two = desk.lock(1, desk.create(1, one, b"two", DIRECTORY))
    file = desk.lock(1, desk.create(1, two, b"file"))
    desk.refused(InvalidChange, 1, "rename", root, b"one", two, b"x", None, 9)
    desk.refused(InvalidChange, 1, "rename", root, b"one", one, b"x", None, 9)
    desk.refused(NotEmpty, 1, "remove", root, b"one", one, 9)
    desk.refused(IsADirectory, 1, "rename", two, b"file", root, b"one", one, 9)
    desk.refused(NotADirectory, 1, "rename", root, b"one", two, b"file", file, 9)
    desk.refused(IsADirectory, 1, "link", one, root, b"x", 9)
    empty = desk.lock(1, desk.create(1, root, b"empty", DIRECTORY))
    desk.refused(NotEmpty, 1, "rename", root, b"empty", root, b"one", one, 9)
    desk.call(1, "rename", one, b"two", root, b"empty", empty, 9)
    assert desk.call(1, "look", ROOT).links == 4
    assert desk.call(1, "look", one.inode).links == 2
    with pytest.raises(NoInode):
        desk.call(1, "look", empty.inode)


def test_blocks_are_refused_that_are_out_of_range() -> None:
    desk = Desk(FileService())
    root = desk.lock(1, ROOT)
    file = desk.lock(1, desk.create(1, root, b"f"))
    for size, blocks in (
        (10, [(0, b"x" * 11)]),
        (BLOCK_BYTES * 2, [(0, b"x" * (BLOCK_BYTES + 1))]),
        (BLOCK_BYTES, [(1, b"x")]),
        (10, [(-1, b"x")]),
        (-1, []),
        ((1 << 40) + 1, []),
        (STORE_BYTES_MAX * 2, [(n, b"x" * BLOCK_BYTES) for n in range(9)]),
    ):
        desk.refused(InvalidChange, 1, "store", file, Change(attributes(file.inode, size), None, blocks))
    desk.refused(InvalidChange, 1, "store", root, Change(attributes(ROOT, 1), None, [(0, b"x")]))


def test_a_full_file_system_refuses_and_takes_removals() -> None:
    class Small(FileService):
        file_limits = FileLimits(bytes_max=100, inodes_max=3, links_max=2)

    desk = Desk(Small())
    root = desk.lock(1, ROOT)
    file = desk.lock(1, desk.create(1, root, b"f"))
    desk.create(1, root, b"g")
    desk.refused(NoSpace, 1, "create", root, b"h", FILE)
    desk.call(1, "store", file, Change(attributes(file.inode, 100), None, [(0, b"x" * 100)]))
    desk.refused(NoSpace, 1, "store", file, Change(attributes(file.inode, 101), None, [(0, b"x" * 101)]))
    desk.call(1, "store", file, Change(attributes(file.inode, 100), None, [(0, b"y" * 100)]))
    desk.call(1, "link", file, root, b"l", 9)
    desk.refused(NoSpace, 1, "link", file, root, b"m", 9)
    for name in (b"f", b"l"):
        desk.call(1, "remove", root, name, file, 9)
    assert desk.call(1, "totals").bytes == 0


def test_an_open_inode_outlives_its_name_until_its_client_is_gone() -> None:
    desk = Desk(FileService())
    root = desk.lock(1, ROOT)
    file = desk.lock(1, desk.create(1, root, b"f"))
    desk.call(2, "pin", file.inode)
    desk.refused(NoSession, 1, "remove", root, b"f", file, 9, True, session=0)
    desk.call(1, "remove", root, b"f", file, 9, True)
    assert desk.call(1, "totals").orphans == 2
    desk.refused(NoInode, 1, "link", file, root, b"again", 9)
    desk.machine = desk.restored()
    desk.call(2, "unpin", file.inode)
    assert desk.call(1, "look", file.inode).links == 0
    desk.call(1, "session_ended", 1)
    with pytest.raises(NoInode):
        desk.call(2, "look", file.inode)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["create", "remove", "rename", "store", "cut", "link", "pin", "end"]),
            st.integers(0, 5),
            st.integers(0, 5),
            st.integers(0, 3 * BLOCK_BYTES),
        ),
        max_size=40,
    )
)
def test_a_snapshot_is_all_there_is(steps: list[tuple[str, int, int, int]]) -> None:
    desk = Desk(ExtentService())
    for step, one, two, size in steps:
        tree = desk.machine._tree
        numbers = sorted(tree.inodes)
        inode = numbers[one % len(numbers)]
        name, other = b"n%d" % one, b"n%d" % two
        entry = tree.find(ROOT, name)
        replaced = tree.find(ROOT, other)
        over = None if replaced is None else Fenced(replaced.inode, 1)
        birth = (FILE, DIRECTORY, Birth("symlink", 0o777, 0, 0, 1, b"t"))[two % 3]
        calls: dict[str, tuple[Any, ...]] = {
            "create": ("create", Fenced(ROOT, 1), name, birth),
            "remove": (
                "remove",
                Fenced(ROOT, 1),
                name,
                Fenced(entry.inode if entry else 99, 1),
                9,
                two % 2 == 0,
            ),
            "rename": ("rename", Fenced(ROOT, 1), name, Fenced(ROOT, 1), other, over, 9, True),
            "store": (
                "store",
                Fenced(inode, 1),
                Change(attributes(inode, size), None, [(0, b"x" * min(size, 9))]),
            ),
            "cut": ("store", Fenced(inode, 1), Change(attributes(inode, size), size // 2)),
            "link": ("link", Fenced(inode, 1), Fenced(ROOT, 1), other, 9),
            "pin": ("pin", inode),
            "end": ("session_ended", 1),
        }
        with suppress(FileRefused):
            desk.call(1 + two % 2, *calls[step])
        assert tree.used == sum(len(b) for i in tree.inodes.values() for b in i.blocks.values())
        assert all(inode.links or inode.pins for inode in tree.inodes.values())
    image = b"".join(desk.machine.snapshot())
    copy = desk.restored()
    assert b"".join(copy.snapshot()) == image
    desk.machine = copy
    desk.call(1, "create", Fenced(ROOT, 1), b"next", FILE)


def test_a_snapshot_with_locks_is_all_there_is() -> None:
    desk = Desk(FileService())
    root = desk.lock(1, ROOT)
    file = desk.lock(2, desk.create(1, root, b"f"))
    desk.call(2, "store", file, Change(attributes(file.inode, 3), None, [(0, b"abc")]))
    image = b"".join(desk.machine.snapshot())
    desk.machine = desk.restored()
    assert b"".join(desk.machine.snapshot()) == image
    desk.refused(StaleToken, 1, "store", file, Change(attributes(file.inode, 0)))
    desk.call(2, "store", file, Change(attributes(file.inode, 3), None, [(0, b"def")]))
    for cut in (1, len(image) // 2, len(image) - 1):
        with pytest.raises(ValueError):  # noqa: PT011  any of msgspec's
            FileService().restore(image[:cut])
