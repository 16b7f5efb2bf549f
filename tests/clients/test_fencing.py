"""Guards for what a grant protects: a lower token writes nothing."""

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest

from viewstamp.clients.fencing import (
    HEADER,
    TOKEN_MAX,
    Fenced,
    FencedFile,
    FencedStore,
    StoredObject,
    headers,
    put_fenced,
    read_token,
    require_token,
)
from viewstamp.core.errors import ConfigurationError


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE jobs (name TEXT PRIMARY KEY, fence BIGINT NOT NULL, state TEXT)")
    yield connection
    connection.close()


def rows(database: sqlite3.Connection) -> list[tuple[str, int, str]]:
    return database.execute("SELECT * FROM jobs ORDER BY name").fetchall()


def test_a_row_is_written_by_the_newest_holder_alone(database: sqlite3.Connection) -> None:
    store = FencedStore("jobs", "name")
    store.write(database, "a", 5, {"state": "one"})
    store.write(database, "a", 5, {"state": "two"})
    store.write(database, "a", 7, {"state": "three"})
    with pytest.raises(Fenced, match="nothing was written") as caught:
        store.write(database, "a", 6, {"state": "late"})
    assert caught.value.token == 6
    assert store.update(database, "a", 8, {"state": "four"})
    with pytest.raises(Fenced) as caught:
        store.update(database, "a", 7, {"state": "late"})
    assert caught.value.highest == 8
    assert not store.update(database, "b", 9, {"state": "nobody"})
    assert rows(database) == [("a", 8, "four")]


def test_names_and_tokens_are_checked(database: sqlite3.Connection) -> None:
    with pytest.raises(ConfigurationError, match="not a plain name"):
        FencedStore("jobs; DROP TABLE jobs", "name")
    store = FencedStore("jobs", "name")
    with pytest.raises(ConfigurationError):
        store.write(database, "a", 1, {"state = 1; --": "x"})
    for token in (0, -1, TOKEN_MAX + 1, 7.5, True, None, "7"):
        with pytest.raises(ConfigurationError, match="not a fencing token: nothing was written"):
            store.write(database, "a", cast("int", token), {})
        with pytest.raises(ConfigurationError, match="not a fencing token"):
            headers(cast("int", token))
    with pytest.raises(ConfigurationError, match="not a plain name"):
        FencedStore(cast("str", None), "name")
    assert rows(database) == []


@pytest.mark.parametrize("name", ["fence", "FENCE", "name", "Name"])
def test_values_cannot_write_over_the_fence_or_the_key(database: sqlite3.Connection, name: str) -> None:
    store = FencedStore("jobs", "name")
    store.write(database, "a", 8, {"state": "one"})
    with pytest.raises(
        ConfigurationError, match="the key or the fence of jobs, and not a value: nothing was"
    ):
        store.update(database, "a", 9, {name: 1})
    with pytest.raises(ConfigurationError, match="nothing was written"):
        store.write(database, "a", 9, {name: 1})
    assert rows(database) == [("a", 8, "one")]
    with pytest.raises(ConfigurationError, match="the key and the fence"):
        FencedStore("jobs", "Fence")


class Bucket:
    """An object store with conditional writes, and another writer between its look and its write."""

    def __init__(self, *others: int) -> None:
        self.objects: dict[str, tuple[str, bytes, Mapping[str, str]]] = {}
        self.others = list(others)

    def head(self, name: str) -> StoredObject | None:
        found = self.objects.get(name)
        known = None if found is None else StoredObject(found[0], found[2])
        if self.others:
            self.store(name, b"other", {"viewstamp-fencing-token": str(self.others.pop(0))})
        return known

    def put(self, name: str, body: bytes, metadata: Mapping[str, str], if_match: str | None) -> bool:
        found = self.objects.get(name)
        if (None if found is None else found[0]) != if_match:
            return False
        self.store(name, body, metadata)
        return True

    def store(self, name: str, body: bytes, metadata: Mapping[str, str]) -> None:
        self.objects[name] = f"tag{len(self.objects)}{metadata}", body, metadata


def test_an_object_is_written_by_the_newest_holder_whoever_writes_in_between() -> None:
    bucket = Bucket(3, 4)
    put_fenced(bucket, "x", b"mine", 5)
    assert bucket.objects["x"][1] == b"mine"
    bucket = Bucket(3, 6)
    with pytest.raises(Fenced) as caught:
        put_fenced(bucket, "x", b"mine", 5)
    assert (caught.value.highest, bucket.objects["x"][1]) == (6, b"other")
    with pytest.raises(OSError, match="changed by others"):
        put_fenced(Bucket(*range(1, 40)), "x", b"mine", 50)


def test_a_request_carries_its_token_in_a_header() -> None:
    seen = [0]

    def take(given: Mapping[str, str]) -> int:
        return require_token(given, lambda: seen[0], lambda token: seen.__setitem__(0, token), "the account")

    assert headers(7) == {HEADER: "7"}
    assert [take(headers(token)) for token in (5, 5, 7)] == [5, 5, 7]
    with pytest.raises(Fenced, match="the account has seen 7"):
        take({HEADER.lower(): "6"})
    for wrong in ({}, {HEADER: ""}, {HEADER: "-1"}, {HEADER: "9" * 19}, {HEADER: "1" * 5_000}, {HEADER: "٣"}):
        with pytest.raises(ConfigurationError, match="not a fencing token"):
            take(wrong)
    assert read_token("12") == 12


def test_a_file_is_replaced_by_the_newest_holder_alone(tmp_path: Path) -> None:
    file = FencedFile(tmp_path / "report")
    file.write(b"one", 5)
    file.write(b"two", 7)
    with pytest.raises(Fenced):
        file.write(b"late", 6)
    assert (tmp_path / "report").read_bytes() == b"two"
    assert (tmp_path / "report.fence").read_bytes() == b"7"


def test_a_file_whose_token_was_damaged_is_not_written(tmp_path: Path) -> None:
    file = FencedFile(str(tmp_path / "report"))
    file.write(b"one", 5)
    (tmp_path / "report.fence").write_bytes(b"\xff?")
    with pytest.raises(ConfigurationError, match="holds no token: nothing was written"):
        file.write(b"two", 6)
    assert (tmp_path / "report").read_bytes() == b"one"
    (tmp_path / "report.fence").write_bytes(b"5\n")
    file.write(b"two", 6)
    assert (tmp_path / "report").read_bytes() == b"two"
