"""What one or two clients of a file system see; the rest is in test_model.py."""

import pytest

from tests.services.extents.town import ROOT, SESSION_US, Town
from viewstamp.services.extents.model import BLOCK_BYTES, Birth
from viewstamp.services.extents.operations import (
    Cancelled,
    Close,
    Create,
    FileFailure,
    FileOptions,
    GetAttributes,
    GetTotals,
    LinkTo,
    ListNames,
    Lookup,
    Open,
    Opened,
    Read,
    ReadLink,
    Remove,
    Rename,
    SetAttributes,
    Sync,
    Ticket,
    Write,
)

FILE = Birth("file", 0o644, 1, 2, 5)
DIRECTORY = Birth("directory", 0o755, 1, 2, 5)
EVERYWHERE = pytest.mark.parametrize("apart", [False, True])


def make(town: Town, client: int = 1, name: bytes = b"f", content: bytes = b"") -> Opened:
    opened = town.do(client, Create(ROOT, name, FILE, opening=True))
    assert isinstance(opened, Opened)
    if content:
        assert town.do(client, Write(opened.handle, 0, content)) == len(content)
    return opened


def content_of(town: Town, client: int, name: bytes = b"f", parent: int = ROOT) -> bytes:
    found = town.do(client, Lookup(parent, name))
    opened = town.do(client, Open(found.inode))
    read = town.do(client, Read(opened.handle, 0, found.size + 1))
    town.do(client, Close(opened.handle))
    assert isinstance(read, bytes)
    return read


@EVERYWHERE
def test_another_client_sees_what_was_written_and_not_flushed(apart: bool) -> None:
    town = Town(1, apart=apart)
    make(town, content=b"hello")
    assert town.files.counts.get("store", 0) == 0
    assert content_of(town, 2) == b"hello"
    assert town.files.counts["store"] == 1


def test_reading_and_writing_again_costs_no_message() -> None:
    town = Town(1)
    opened = make(town, content=b"hello")
    town.do(1, Lookup(ROOT, b"f"))
    before = dict(town.files.counts)
    for _ in range(20):
        town.do(1, Write(opened.handle, 0, b"HE"))
        assert town.do(1, Read(opened.handle, 0, 9)) == b"HEllo"
        town.do(1, Lookup(ROOT, b"f"))
    assert town.files.counts == before


def test_holes_and_cut_files_read_as_nuls() -> None:
    town = Town(2)
    opened = make(town, content=b"x" * 100)
    town.do(1, Sync(opened.handle))
    town.do(1, SetAttributes(opened.attributes.inode, size=50))
    town.do(1, SetAttributes(opened.attributes.inode, size=80))
    town.do(1, Write(opened.handle, BLOCK_BYTES + 10, b"end"))
    expected = b"x" * 50 + bytes(BLOCK_BYTES - 40) + b"end"
    assert town.do(1, Read(opened.handle, 0, 1 << 20)) == expected
    assert content_of(town, 2) == expected
    town.do(2, SetAttributes(opened.attributes.inode, size=BLOCK_BYTES))
    town.do(2, SetAttributes(opened.attributes.inode, size=BLOCK_BYTES + 20))
    assert content_of(town, 1) == expected[:BLOCK_BYTES] + bytes(20)


def test_appends_of_two_clients_follow_each_other() -> None:
    town = Town(3)
    one = make(town)
    two = town.do(2, Open(one.attributes.inode))
    ended: list[object] = []
    for turn in range(6):
        client, handle = ((1, one.handle), (2, two.handle))[turn % 2]
        town.clients[client].request(Write(handle, 0, b"abc", append=True), ended.append)
    town.run(lambda: len(ended) == 6)
    assert content_of(town, 1) == b"abc" * 6


def test_large_content_goes_in_several_commands_and_comes_back() -> None:
    town = Town(4)
    content = bytes(range(256)) * (20 * BLOCK_BYTES // 256) + b"tail"
    opened = make(town, content=content)
    town.do(1, Sync(opened.handle))
    assert town.files.counts["store"] == 3
    assert content_of(town, 2) == content


def test_what_is_written_beyond_the_limit_is_flushed_first() -> None:
    town = Town(5, options=FileOptions(dirty_bytes_max=2 * BLOCK_BYTES))
    opened = make(town)
    for block in range(6):
        town.do(1, Write(opened.handle, block * BLOCK_BYTES, b"z" * BLOCK_BYTES))
    assert town.files.counts["store"] >= 2


def test_an_open_file_is_flushed_in_time() -> None:
    town = Town(6)
    make(town, content=b"soon")
    town.run(lambda: town.files.counts.get("store", 0) == 1, seconds=8)


@EVERYWHERE
def test_a_file_that_is_open_elsewhere_outlives_its_name(apart: bool) -> None:
    town = Town(7, apart=apart)
    opened = make(town, content=b"kept")
    town.do(2, Remove(ROOT, b"f", directory=False))
    assert town.fails(2, Lookup(ROOT, b"f")) == "ENOENT"
    assert town.fails(1, Lookup(ROOT, b"f")) == "ENOENT"
    assert town.do(1, Read(opened.handle, 0, 9)) == b"kept"
    town.do(1, Write(opened.handle, 4, b"!"))
    assert town.do(1, GetAttributes(opened.attributes.inode)).links == 0
    assert town.do(1, GetTotals()).orphans == 1
    town.do(1, Close(opened.handle))
    assert town.do(1, GetTotals()).inodes == 1


def test_an_own_open_file_outlives_its_name_and_ends_with_the_session() -> None:
    town = Town(8)
    opened = make(town, content=b"kept")
    town.do(1, Remove(ROOT, b"f", directory=False))
    assert town.do(1, Read(opened.handle, 0, 9)) == b"kept"
    town.freeze(1, 2 * SESSION_US)
    town.wait(2 * SESSION_US + 1)
    assert town.do(2, GetTotals()).inodes == 1


def test_a_rename_over_an_open_file_keeps_it_for_its_handle() -> None:
    town = Town(9)
    old = make(town, 1, b"old", b"old")
    make(town, 2, b"new", b"new")
    town.do(2, Rename(ROOT, b"new", ROOT, b"old"))
    assert content_of(town, 1, b"old") == b"new"
    assert town.do(1, Read(old.handle, 0, 9)) == b"old"
    assert town.fails(1, Lookup(ROOT, b"new")) == "ENOENT"


def test_directories() -> None:
    town = Town(10)
    sub = town.do(1, Create(ROOT, b"sub", DIRECTORY)).inode
    deep = town.do(2, Create(sub, b"deep", DIRECTORY)).inode
    assert town.do(1, GetAttributes(ROOT)).links == 3
    assert town.fails(1, Create(ROOT, b"sub", FILE)) == "EEXIST"
    assert town.fails(2, Remove(ROOT, b"sub", directory=True)) == "ENOTEMPTY"
    assert town.fails(2, Remove(ROOT, b"sub", directory=False)) == "EISDIR"
    assert town.fails(1, Rename(ROOT, b"sub", deep, b"loop")) == "EINVAL"
    town.do(1, Rename(sub, b"deep", ROOT, b"flat"))
    assert [entry.name for entry in town.do(2, ListNames(ROOT))] == [b"flat", b"sub"]
    town.do(2, Remove(ROOT, b"sub", directory=True))
    assert town.fails(1, GetAttributes(sub)) == "ENOENT"
    assert town.fails(1, Create(sub, b"late", FILE)) == "ENOENT"
    assert town.do(1, GetAttributes(ROOT)).links == 3


def test_links_and_symbolic_links() -> None:
    town = Town(11)
    opened = make(town, content=b"x")
    inode = opened.attributes.inode
    assert town.do(2, LinkTo(inode, ROOT, b"g")).links == 2
    town.do(1, Remove(ROOT, b"f", directory=False))
    assert content_of(town, 2, b"g") == b"x"
    assert town.do(1, GetAttributes(inode)).links == 1
    link = town.do(1, Create(ROOT, b"s", Birth("symlink", 0o777, 0, 0, 5, b"g")))
    assert town.do(2, ReadLink(link.inode)) == b"g"
    assert town.fails(2, ReadLink(inode)) == "EINVAL"
    assert link.size == 1


@EVERYWHERE
def test_a_stale_client_writes_nothing_and_hears_so_once(apart: bool) -> None:
    town = Town(12, apart=apart)
    opened = make(town, content=b"first")
    town.do(1, Sync(opened.handle))
    town.do(1, Write(opened.handle, 0, b"STALE"))
    second = town.do(1, Open(opened.attributes.inode))
    town.freeze(1, 2 * SESSION_US)
    assert content_of(town, 2) == b"first"
    two = town.do(2, Open(opened.attributes.inode))
    town.do(2, Write(two.handle, 0, b"other"))
    town.wait(2 * SESSION_US)
    assert town.fails(1, Write(opened.handle, 0, b"again")) == "EIO"
    assert town.fails(1, Sync(second.handle)) == "EIO"
    town.do(1, Sync(opened.handle))
    town.do(1, Sync(second.handle))
    assert content_of(town, 2) == b"other"
    assert content_of(town, 1) == b"other"
    assert len(town.clients[1].said) == 1


def test_a_caller_that_waits_no_longer_hears_so() -> None:
    town = Town(13)
    opened = make(town, content=b"x")
    town.freeze(1, SESSION_US // 2)
    ended: list[object] = []
    ticket = town.clients[2].request(GetAttributes(opened.attributes.inode), ended.append)
    town.wait(SESSION_US // 4)
    assert not ended
    town.clients[2].feed(Cancelled(Ticket(ticket)))
    assert isinstance(ended[0], FileFailure)
    assert content_of(town, 2) == b"x"


def test_locks_go_back_where_there_are_too_many() -> None:
    town = Town(14, options=FileOptions(held_max=4))
    for number in range(12):
        make(town, 1, b"%d" % number, b"x")
    town.run(lambda: len(town.clients[1].cache) <= 5)
    assert content_of(town, 1, b"0") == b"x"


def test_blocks_are_forgotten_where_there_are_too_many() -> None:
    town = Town(15, options=FileOptions(clean_bytes_max=4 * BLOCK_BYTES))
    for number in range(4):
        opened = make(town, 1, b"%d" % number, bytes([number]) * 3 * BLOCK_BYTES)
        town.do(1, Sync(opened.handle))
    kept = sum(len(held.blocks) for held in town.clients[1].cache.held.values())
    assert kept <= 7
    assert content_of(town, 1, b"0") == bytes(3 * BLOCK_BYTES)


def test_closing_gives_everything_to_the_service() -> None:
    town = Town(16)
    opened = make(town, content=b"last")
    town.close()
    tree = town.files.machine._tree
    assert tree.inodes[opened.attributes.inode].blocks[0] == b"last"
    assert len(town.clients[1].cache) == 0


def test_a_lock_goes_back_when_the_kernel_has_forgotten() -> None:
    town = Town(17)
    opened = make(town, content=b"x")
    town.clients[1].keeps_kernel_waiting = True
    ended: list[object] = []
    town.clients[2].request(GetAttributes(opened.attributes.inode), ended.append)
    town.wait(SESSION_US)
    assert not ended
    assert town.files.machine._tree.inodes[opened.attributes.inode].size == 1, "it was flushed before"
    town.clients[1].tell_kernel()
    town.run(lambda: bool(ended))


def test_a_read_that_ends_in_doubt_begins_again() -> None:
    town = Town(18)
    opened = make(town, content=b"old")
    town.do(1, Sync(opened.handle))
    for held in town.clients[1].cache.held.values():
        held.evict()
    ended: list[object] = []
    town.clients[1].request(Read(opened.handle, 0, 9), ended.append)
    town.freeze(1, 2 * SESSION_US)  # the answer is read when another has the lock
    two = town.do(2, Open(opened.attributes.inode))
    town.do(2, Write(two.handle, 0, b"new"))
    town.run(lambda: bool(ended))
    assert ended == [b"new"]


@pytest.mark.parametrize("seed", range(5))
def test_crossed_renames_do_not_wait_for_each_other(seed: int) -> None:
    town = Town(seed)
    one = town.do(1, Create(ROOT, b"one", DIRECTORY)).inode
    two = town.do(1, Create(ROOT, b"two", DIRECTORY)).inode
    town.do(1, Create(one, b"a", FILE))
    town.do(2, Create(two, b"b", FILE))
    ended: list[object] = []
    town.clients[1].request(Rename(one, b"a", two, b"a"), ended.append)
    town.clients[2].request(Rename(two, b"b", one, b"b"), ended.append)
    town.run(lambda: len(ended) == 2, seconds=60)
    assert ended == [None, None]
    assert [entry.name for entry in town.do(1, ListNames(one))] == [b"b"]


@pytest.mark.parametrize("seed", range(8))
def test_a_removal_and_a_link_do_not_wait_for_each_other(seed: int) -> None:
    town = Town(seed)
    file = make(town, 1, b"f", b"x").attributes.inode
    sub = town.do(1, Create(ROOT, b"sub", DIRECTORY)).inode
    town.do(2, Rename(ROOT, b"f", sub, b"f"))
    ended: list[object] = []
    town.clients[1].request(Remove(sub, b"f", directory=False), ended.append)
    town.clients[2].request(LinkTo(file, sub, b"g"), ended.append)
    town.clients[1].request(LinkTo(file, sub, b"h"), ended.append)
    town.clients[2].request(GetAttributes(file), ended.append)
    town.run(lambda: len(ended) == 4, seconds=60)


def test_a_cut_reaches_what_is_not_cached() -> None:
    town = Town(19)
    inode = make(town, content=b"x" * 100).attributes.inode
    town.do(2, Lookup(ROOT, b"f"))
    two = town.do(2, Open(inode))
    town.do(2, SetAttributes(inode, size=10))
    town.do(2, SetAttributes(inode, size=30))
    assert town.do(2, Read(two.handle, 0, 99)) == b"x" * 10 + bytes(20)


def test_a_file_that_another_has_created_first_is_opened() -> None:
    town = Town(20)
    make(town, 1, b"f", b"old")
    opened = town.do(2, Create(ROOT, b"f", FILE, opening=True, exclusive=False))
    assert town.do(2, Read(opened.handle, 0, 9)) == b"old"
    opened = town.do(2, Create(ROOT, b"f", FILE, opening=True, exclusive=False, cut=True))
    assert (opened.attributes.size, content_of(town, 1)) == (0, b"")
    town.do(2, Create(ROOT, b"d", DIRECTORY))
    assert town.fails(1, Create(ROOT, b"d", FILE, opening=True, exclusive=False)) == "EISDIR"
    assert town.fails(1, Create(ROOT, b"f", FILE, opening=True)) == "EEXIST"


def test_names_are_looked_up_without_the_lock_while_others_want_it() -> None:
    town = Town(21)
    sub = [town.do(1, Create(ROOT, b"s%d" % client, DIRECTORY)).inode for client in (1, 2)]
    for client in (1, 2, 1, 2):
        town.do(client, ListNames(ROOT))
    before = town.files.counts["acquire"]
    for _ in range(5):
        for client in (1, 2):
            name = b"s%d" % client
            assert town.do(client, Lookup(ROOT, name)).inode == sub[client - 1]
            assert town.do(client, GetAttributes(ROOT)).links == 4
    assert town.files.counts["acquire"] - before <= 3
    town.wait(2_000_000)
    assert town.fails(1, Lookup(ROOT, b"none")) == "ENOENT"


def test_a_pipe_whose_mode_is_changed_stays_a_pipe() -> None:
    town = Town(0)
    made = town.do(1, Create(ROOT, b"pipe", Birth("other", 0o010644, 1, 2, 5)))
    for client, mode in ((1, 0o600), (2, 0o7777)):
        changed = town.do(client, SetAttributes(made.inode, mode=mode))
        assert changed.mode == 0o010000 | mode
