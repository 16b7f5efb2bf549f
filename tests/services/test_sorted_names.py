"""A sorted set of names: equal to sorting, at the price of a page."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from viewstamp.services.sorted_names import BLOCK_NAMES_MAX, SortedNames

WORDS = st.text("ab/", max_size=5)


@given(st.lists(WORDS), WORDS, WORDS, st.integers(0, 10))
def test_a_page_is_what_sorting_all_names_would_give(
    words: list[str], prefix: str, after: str, limit: int
) -> None:
    names, kept = SortedNames(), set[str]()
    for word in words:  # a word that comes twice is removed
        (names.remove if word in kept else names.add)(word)
        kept ^= {word}
    expected = sorted(word for word in kept if word > after and word.startswith(prefix))
    after_all = names.page(prefix, after, limit)
    # The empty name, which no lock has, follows nothing.
    assert after_all == expected[:limit]


@given(st.lists(st.sets(WORDS), max_size=6))
def test_many_names_added_at_once_stand_as_if_added_one_by_one(parts: list[set[str]]) -> None:
    names, kept = SortedNames(), set[str]()
    for part in parts:
        names.update(sorted(part - kept, key=hash))
        kept |= part
        assert list(names.since("", "")) == sorted(kept - {""})


def test_few_names_added_to_many_leave_the_other_blocks_as_they_are() -> None:
    names = SortedNames()
    names.update([f"{number:06d}" for number in range(8 * BLOCK_NAMES_MAX)])
    blocks = [id(block) for block in names._blocks]
    names.update(["000000a", "000001a"])
    assert [id(block) for block in names._blocks] == blocks
    assert names.page("000000", "", 9) == ["000000", "000000a"]


def test_many_names_stand_in_blocks_through_all_changes() -> None:
    rng = Random(1)
    all_names = [f"{number:06d}" for number in range(5 * BLOCK_NAMES_MAX)]
    names = SortedNames()
    for name in rng.sample(all_names, len(all_names)):
        names.add(name)
    assert max(map(len, names._blocks)) <= BLOCK_NAMES_MAX
    assert names.page("", "", len(all_names)) == all_names
    gone = set(rng.sample(all_names, 4 * BLOCK_NAMES_MAX))
    for name in gone:
        names.remove(name)
    rest = [name for name in all_names if name not in gone]
    assert names.page("", rest[100], 50) == rest[101:151]
    for name in rest:
        names.remove(name)
    assert names.page("", "", 1) == []


def test_a_page_reads_only_the_blocks_that_hold_it() -> None:
    names = SortedNames()
    for number in range(4 * BLOCK_NAMES_MAX):
        names.add(f"{number:06d}")

    class Unread(list[str]):
        def __getitem__(self, index: object) -> str:  # type: ignore[override]
            raise AssertionError("a page reads a block that it does not need")

        def __iter__(self) -> object:  # type: ignore[override]
            raise AssertionError("a page reads a block that it does not need")

    names._blocks[0] = Unread(names._blocks[0])
    last = f"{4 * BLOCK_NAMES_MAX - 2:06d}"
    assert names.page("", last, 5) == [f"{4 * BLOCK_NAMES_MAX - 1:06d}"]
