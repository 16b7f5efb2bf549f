"""I29: damaged or torn, a small data directory recovers to an allowed prefix or refuses. Never a third."""

import itertools
from collections.abc import Iterator
from random import Random

import pytest

from tests.storage.beds import PATH, open_on
from tests.storage.ledger import Ledger, records_of
from viewstamp.core.errors import ConfigurationError, JournalCorrupt
from viewstamp.core.ids import PersistSeq
from viewstamp.sim.world.content import SECTOR_BYTES, DiskFaults
from viewstamp.sim.world.disk import SimFileSystem

Image = dict[str, bytes | None]


def _synced_image(*, unsynced: int = 0, mark: bool = False) -> tuple[Image, Ledger]:
    """Return a directory of two segments and a snapshot, and the account of what it promises."""
    ledger = Ledger(SimFileSystem(Random(1), faults=DiskFaults(torn=0.0, kept=1.0)))
    ledger.open()
    ledger.save(2)
    for count in (1, 3, 4, 1, 2):
        ledger.sync(count)
    assert ledger.directory is not None
    if unsynced:
        ledger.append(unsynced)
        job = ledger.directory.journal.begin_sync()
        assert job is not None
        job.write()
    if mark:
        ledger.close()
    ledger.files.crash()
    image = ledger.files.image()
    assert len(_segments(image)) == 2
    return image, ledger


def _segments(image: Image) -> list[str]:
    return sorted(path for path in image if path.endswith(".wal"))


def _open_damaged(image: Image, path: str, content: bytes, promise: Ledger) -> str:
    """Open an image with one file replaced; return what happened, after checking that it is allowed."""
    files = SimFileSystem.from_image({**image, path: content}, Random(1))
    before = files.image()
    ledger = Ledger(files)
    ledger.durable, ledger.written = promise.durable, promise.written
    ledger.saved, ledger.attempted = promise.saved, promise.attempted
    try:
        directory = ledger.open()
    except (JournalCorrupt, ConfigurationError) as error:
        directory, refusal = None, str(error)
    else:
        refusal = ""
    if directory is None:
        assert "\n" not in refusal
        after = files.image()
        assert {path: after[path] for path in before} == before, "a refusal changed something"
        return "refused"
    assert directory.identity.incarnation == 11
    return "recovered"


def _flip(content: bytes, offset: int, bit: int) -> bytes:
    return content[:offset] + bytes([content[offset] ^ (1 << bit)]) + content[offset + 1 :]


def test_refused_when_a_file_is_cut_anywhere() -> None:
    image, promise = _synced_image()
    files = [path for path, content in image.items() if content and not path.endswith("lock")]
    assert len(files) == 4
    for path in files:
        content = image[path]
        assert content is not None
        for length in range(len(content) - (path.endswith("identity"))):
            assert _open_damaged(image, path, content[:length], promise) == "refused", (path, length)


@pytest.mark.parametrize("unsynced", [0, 1, 2])
def test_recovered_or_refused_when_any_byte_of_the_journal_flips_a_bit(unsynced: int) -> None:
    image, promise = _synced_image(unsynced=unsynced)
    for path in _segments(image):
        content = image[path]
        assert content is not None
        used = len(content.rstrip(b"\0"))
        outcomes = [
            _open_damaged(image, path, _flip(content, offset, (offset * 5 + unsynced) % 8), promise)
            for offset in range(min(used + 130, len(content)))
        ]
        assert outcomes.count("refused") > used // 2


@pytest.mark.parametrize("record", [bytes(1500), b"x" + bytes(1500) + b"x", b"\0" * 511 + b"y" * 600])
def test_refused_when_any_byte_of_a_last_group_full_of_zeros_flips_a_bit(record: bytes) -> None:
    """Zeros of the user's own must not look like sectors that a crash swallowed."""
    files = SimFileSystem(Random(1), faults=DiskFaults(torn=0.0, kept=1.0))
    ledger = Ledger(files)
    directory = ledger.open()
    directory.journal.append(PersistSeq(1), (record,))
    ledger.durable = ledger.written = directory.journal.sync()
    files.crash()
    image = files.image()
    (path,) = _segments(image)
    content = image[path]
    assert content is not None
    for offset in range(SECTOR_BYTES, SECTOR_BYTES + 64 + len(record) + 3):
        assert _open_damaged(image, path, _flip(content, offset, offset % 8), ledger) == "refused", offset


def test_recovered_or_refused_when_any_bit_of_a_frame_header_flips() -> None:
    image, promise = _synced_image()
    path = _segments(image)[-1]
    content = image[path]
    assert content is not None
    found = content.find(b"VSf1")
    while found >= 0:
        for offset, bit in itertools.product(range(found, found + 64), range(8)):
            assert _open_damaged(image, path, _flip(content, offset, bit), promise) == "refused"
        found = content.find(b"VSf1", found + 1)


def test_recovered_or_refused_when_any_byte_of_snapshot_or_identity_flips_a_bit() -> None:
    image, promise = _synced_image()
    for path in image:
        if path.endswith((".snap", "identity")):
            content = image[path]
            assert content is not None
            for offset in range(len(content)):
                outcome = _open_damaged(image, path, _flip(content, offset, offset % 8), promise)
                assert outcome == "refused" or path.endswith("identity")


def _sectors(content: bytes) -> list[bytes]:
    return [content[begin : begin + SECTOR_BYTES] for begin in range(0, len(content), SECTOR_BYTES)]


@pytest.mark.parametrize("mark", [False, True])
def test_recovered_or_refused_when_two_sectors_are_swapped(mark: bool) -> None:
    image, promise = _synced_image(mark=mark)
    for path in _segments(image):
        content = image[path]
        assert content is not None
        sectors = _sectors(content)
        for one, other in itertools.combinations(range(len(sectors)), 2):
            swapped = list(sectors)
            swapped[one], swapped[other] = sectors[other], sectors[one]
            if swapped != sectors:
                assert _open_damaged(image, path, b"".join(swapped), promise) == "refused", (one, other)


def test_refused_when_a_sector_holds_that_of_another_segment() -> None:
    image, promise = _synced_image()
    one, other = _segments(image)
    first, second = image[one], image[other]
    assert first is not None
    assert second is not None
    for number, stale in enumerate(_sectors(first)):
        begin = number * SECTOR_BYTES
        if second[begin : begin + SECTOR_BYTES] == stale:
            continue
        damaged = second[:begin] + stale + second[begin + SECTOR_BYTES :]
        outcome = _open_damaged(image, other, damaged, promise)
        assert outcome == "refused" or begin >= len(second.rstrip(b"\0")), number


def test_refused_when_two_segments_are_swapped() -> None:
    image, promise = _synced_image()
    one, other = _segments(image)
    first, second = image[one], image[other]
    assert first is not None
    assert second is not None
    assert _open_damaged({**image, one: second}, other, first, promise) == "refused"


def test_refused_when_a_segment_in_the_middle_is_missing() -> None:
    files = SimFileSystem(Random(1), faults=DiskFaults(torn=0.0, kept=1.0))
    ledger = Ledger(files)
    ledger.open()
    for _ in range(12):
        ledger.sync(3)
    files.crash()
    names = _segments(files.image())
    assert len(names) > 3
    for name in names[1:-1]:
        image = {path: content for path, content in files.image().items() if path != name}
        with pytest.raises(JournalCorrupt, match=f"{name} is missing; nothing was changed: only while"):
            open_on(SimFileSystem.from_image(image, Random(1)))


def test_refused_when_all_segments_are_missing() -> None:
    image, _ = _synced_image()
    without = {path: content for path, content in image.items() if not path.endswith(".wal")}
    with pytest.raises(JournalCorrupt, match="holds no journal"):
        open_on(SimFileSystem.from_image(without, Random(1)))


@pytest.mark.parametrize("mark", [False, True])
def test_refused_when_a_sector_is_stale_unless_it_is_the_last_group(mark: bool) -> None:
    """A zeroed sector of the last group looks like a tear; behind a mark, or another group, nothing does."""
    image, promise = _synced_image(mark=mark)
    path = _segments(image)[-1]
    content = image[path]
    assert content is not None
    last_group = content.rfind(b"VSf1")
    for number in range(len(content.rstrip(b"\0")) // SECTOR_BYTES + 1):
        begin = number * SECTOR_BYTES
        if begin + SECTOR_BYTES > last_group:
            break
        damaged = content[:begin] + bytes(SECTOR_BYTES) + content[begin + SECTOR_BYTES :]
        assert _open_damaged(image, path, damaged, promise) == "refused", number


def _torn_images(before: Image, after: Image) -> Iterator[Image]:
    """Yield every mixture of old and new sectors of the one file that differs."""
    (path,) = (path for path in after if before[path] != after[path])
    old, new = before[path], after[path]
    assert old is not None
    assert new is not None
    pairs = list(zip(_sectors(old), _sectors(new), strict=True))
    changed = [number for number, (one, other) in enumerate(pairs) if one != other]
    for chosen in itertools.product((0, 1), repeat=len(changed)):
        choice = dict(zip(changed, chosen, strict=True))
        yield {**after, path: b"".join(pair[choice.get(number, 0)] for number, pair in enumerate(pairs))}


@pytest.mark.parametrize(
    "records", [(b"a",), (b"b" * 1200,), (bytes(1500),), (b"c" * 400, bytes(600), b"d" * 300)]
)
def test_recovered_when_the_last_group_is_torn_in_any_way(records: tuple[bytes, ...]) -> None:
    files = SimFileSystem(Random(1))
    directory = open_on(files, incarnation=11)
    for seq in range(1, 4):
        directory.journal.append(PersistSeq(seq), records_of(seq))
    directory.journal.sync()
    before = files.image()
    directory.journal.append(PersistSeq(4), records)
    directory.journal.append(PersistSeq(5), (b"last",))
    job = directory.journal.begin_sync()
    assert job is not None
    job.write()
    seen = set()
    for image in _torn_images(before, files.image()):
        torn = SimFileSystem.from_image(image, Random(1))
        recovered = open_on(torn, incarnation=11)
        assert recovered.recovered.written in (3, 5)
        seen.add(recovered.recovered.written)
        recovered.journal.append(PersistSeq(recovered.recovered.written + 1), (b"next",))
        recovered.journal.sync()
        torn.crash()
        assert list(open_on(torn).recovered.writes)[-1][1] == (b"next",)
    assert seen == {3, 5}


def test_recovered_when_a_short_write_stopped_at_any_byte() -> None:
    """A write that stopped in the middle of a sector may be refused, but nothing synced is ever lost."""
    files = SimFileSystem(Random(1))
    directory = open_on(files, incarnation=11)
    directory.journal.append(PersistSeq(1), (b"first",))
    directory.journal.sync()
    before = files.image()
    directory.journal.append(PersistSeq(2), (b"x" * 300,))
    directory.journal.sync()
    path = f"{PATH}/journal/0000000000000001.wal"
    old, new = before[path], files.read(path)
    assert old is not None
    for length in range(len(new.rstrip(b"\0"))):
        torn = SimFileSystem.from_image({**before, path: new[:length] + old[length:]}, Random(1))
        try:
            written = open_on(torn).recovered.written
        except JournalCorrupt:
            continue
        assert written in (1, 2)
