"""The versioned store: the rules of 6.5840, and what was added to them (K26, B26, B57)."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from viewstamp.core.errors import ConfigurationError, InvalidCall
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.runner import MachineRunner
from viewstamp.services.kv import (
    KEY_BYTES_MAX,
    NEW,
    PAGE_BYTES_MAX,
    PAGE_ITEMS_MAX,
    VALUE_BYTES_MAX,
    InvalidKey,
    KeyValueStore,
    NoKey,
    ValueTooLong,
    VersionMismatch,
)


def _store(*keys: str) -> KeyValueStore:
    store = KeyValueStore()
    for key in keys:
        store.set(key, key.encode())
    return store


def _copy(store: KeyValueStore) -> KeyValueStore:
    again = KeyValueStore()
    again.restore(b"".join(store.snapshot()))
    return again


def test_the_rules_of_the_lab_hold_for_put_and_get() -> None:
    store = KeyValueStore()
    with pytest.raises(NoKey):
        store.get("k")
    with pytest.raises(NoKey):
        store.put("k", b"x", 1)
    assert store.put("k", b"one", NEW) == 1
    assert store.get("k") == (b"one", 1)
    with pytest.raises(VersionMismatch):
        store.put("k", b"x", NEW)
    with pytest.raises(VersionMismatch):
        store.put("k", b"x", 2)
    assert store.put("k", b"two", 1) == 2
    assert store.get("k") == (b"two", 2)


def test_set_creates_and_replaces_whatever_is_there() -> None:
    store = KeyValueStore()
    assert [store.set("k", b"a"), store.set("k", b"b")] == [1, 2]
    assert store.get("k") == (b"b", 2)


def test_deleting_tells_whether_there_was_something() -> None:
    store = _store("k")
    assert [store.delete("k"), store.delete("k")] == [True, False]
    with pytest.raises(NoKey):
        store.get("k")


def test_deleting_by_version_spares_another_version() -> None:
    store = _store("k")
    with pytest.raises(VersionMismatch):
        store.delete("k", 2)
    assert store.delete("k", 1)


def test_an_old_version_never_matches_when_a_key_was_deleted_and_created_again() -> None:
    store = KeyValueStore()
    for _ in range(3):
        store.set("k", b"old")
    store.delete("k")
    assert store.put("k", b"new", NEW) == 4
    for old in (1, 2, 3):
        with pytest.raises(VersionMismatch):
            store.put("k", b"x", old)
    again = _copy(store)
    again.delete("k")
    assert again.set("k", b"newer") == 5, "the floor is in the snapshot"


def test_versions_begin_with_1_when_nothing_was_ever_deleted() -> None:
    store = _store("a", "a", "a")
    assert store.put("b", b"x", NEW) == 1


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        ("", False),
        ("k" * KEY_BYTES_MAX, True),
        ("k" * (KEY_BYTES_MAX + 1), False),
        ("\N{SNOWMAN}" * (KEY_BYTES_MAX // 3), True),
        ("\N{SNOWMAN}" * (KEY_BYTES_MAX // 3 + 1), False),
        ("\x00\n../", True),
    ],
)
def test_a_key_is_refused_exactly_beyond_the_limit(key: str, fits: bool) -> None:
    store = KeyValueStore()
    if fits:
        assert [store.set(key, b""), store.put(key, b"", 1)] == [1, 2]
        return
    with pytest.raises(InvalidKey, match="from 1 to 4096 bytes, not"):
        store.set(key, b"")
    with pytest.raises(InvalidKey, match="from 1 to 4096 bytes, not"):
        store.put(key, b"", 1)
    assert len(store) == 0


def test_a_value_is_refused_exactly_beyond_the_limit() -> None:
    store = _store("k")
    store.set("k", bytes(VALUE_BYTES_MAX))
    with pytest.raises(ValueTooLong):
        store.set("k", bytes(VALUE_BYTES_MAX + 1))
    with pytest.raises(ValueTooLong):
        store.put("k", bytes(VALUE_BYTES_MAX + 1), 2)
    assert store.get("k")[1] == 2


@pytest.mark.parametrize(
    "arguments",
    [("set", "k", "text"), ("set", b"k", b"v"), ("put", "k", b"v", True), ("put", "k", b"v", 1.5)],
)
def test_a_call_is_invalid_when_an_argument_is_of_another_type(arguments: tuple[object, ...]) -> None:
    with pytest.raises(InvalidCall, match="Expected `"):
        MachineDefinition.of(KeyValueStore).decode("command", msgspec.msgpack.encode(arguments))


def test_what_an_error_says_stays_on_one_line_when_a_key_holds_control_characters() -> None:
    with pytest.raises(NoKey) as caught:
        KeyValueStore().get("\x1b[2Jfake\nline" + "x" * 1_000)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_range_is_ordered_by_key_and_within_its_prefix() -> None:
    store = _store("b/2", "a", "b/10", "b/1", "c", "b")
    page = store.range("b/")
    assert [item.key for item in page.items] == ["b/1", "b/10", "b/2"]
    assert [item.value for item in page.items] == [b"b/1", b"b/10", b"b/2"]
    assert not page.more


def test_a_deleted_key_is_in_no_range_whether_it_was_listed_before_or_not() -> None:
    store = _store("a", "b", "c")
    store.range()
    store.set("d", b"")
    for key in ("b", "d"):
        store.delete(key)
    assert [item.key for item in store.range().items] == ["a", "c"]
    store.set("b", b"")
    assert [item.key for item in store.range().items] == ["a", "b", "c"]


def test_a_range_goes_on_after_its_last_key_until_nothing_is_left() -> None:
    store = _store(*[f"k{number:02}" for number in range(10)])
    found, after = [], ""
    for _ in range(10):
        page = store.range("k", after, limit=3)
        found += [item.key for item in page.items]
        if not page.more:
            break
        after = page.items[-1].key
    assert found == [f"k{number:02}" for number in range(10)]


def test_a_page_ends_by_its_bytes_and_by_the_highest_limit() -> None:
    store = KeyValueStore()
    for number in range(4):
        store.set(f"k{number}", bytes(PAGE_BYTES_MAX // 2))
    assert len(store.range().items) == 2
    many = KeyValueStore()
    for number in range(PAGE_ITEMS_MAX + 1):
        many.set(str(number), b"")
    page = many.range(limit=10**9)
    assert (len(page.items), page.more) == (PAGE_ITEMS_MAX, True)


@pytest.mark.parametrize("limit", [0, -5])
def test_a_page_is_empty_when_nothing_is_asked_for(limit: int) -> None:
    page = _store("k").range(limit=limit)
    assert (page.items, page.more) == ([], True)


def test_a_large_snapshot_comes_in_pieces_and_a_small_one_is_small() -> None:
    store = _store(*[f"key {number}" for number in range(2_000)])
    pieces = list(store.snapshot())
    assert len(pieces) > 3
    assert len(_copy(store)) == 2_000
    assert len(b"".join(_store("x").snapshot())) < 50


@pytest.mark.parametrize("cut", [9, 11, 20])
def test_a_snapshot_is_refused_when_it_is_cut_short(cut: int) -> None:
    body = b"".join(_store("some key").snapshot())
    with pytest.raises(ConfigurationError, match="restore"):
        MachineRunner(MachineDefinition.of(KeyValueStore)).restored(body[:cut])


class AgainstModel(RuleBasedStateMachine):
    """Random use compared with a plain dict; at times replaced by a copy from its snapshot."""

    keys = st.sampled_from(["a", "ab", "b", "ba", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.store = KeyValueStore()
        self.model: dict[str, tuple[bytes, int]] = {}
        self.seen: set[tuple[str, int]] = set()

    def _write(self, key: str, value: bytes, version: int) -> None:
        assert (key, version) not in self.seen, "a version of a key is never used twice"
        self.seen.add((key, version))
        self.model[key] = value, version

    @rule(key=keys, value=st.binary(max_size=3))
    def set(self, key: str, value: bytes) -> None:
        self._write(key, value, self.store.set(key, value))

    @rule(key=keys, value=st.binary(max_size=3), version=st.integers(0, 6))
    def put(self, key: str, value: bytes, version: int) -> None:
        found = self.model.get(key, (b"", 0))[1]
        with suppress(NoKey, VersionMismatch):
            new = self.store.put(key, value, version)
            assert version == found
            self._write(key, value, new)
            return
        assert version != found

    @rule(key=keys)
    def delete(self, key: str) -> None:
        assert self.store.delete(key) == (key in self.model)
        self.model.pop(key, None)

    @rule(prefix=st.sampled_from(["", "a", "b", "bb"]), after=st.sampled_from(["", "a", "ab", "z"]))
    def range(self, prefix: str, after: str) -> None:
        expected = [key for key in sorted(self.model) if key.startswith(prefix) and key > after]
        assert [item.key for item in self.store.range(prefix, after).items] == expected

    @rule()
    def restart(self) -> None:
        self.store = _copy(self.store)

    @invariant()
    def agrees(self) -> None:
        assert len(self.store) == len(self.model)
        for key, found in self.model.items():
            assert self.store.get(key) == found


AgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestAgainstModel = AgainstModel.TestCase
