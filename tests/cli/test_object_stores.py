"""Streams in object stores: in memory, in a directory, and in a server that speaks S3."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer
from obstore.store import MemoryStore

from viewstamp.cli.object_stores import UPLOADED_BYTES, ObjectFolder, is_object_url, split_url
from viewstamp.core.errors import ConfigurationError, NotExecuted, StorageError


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """Run a server of S3 on loopback, with one bucket, and return its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    with urlopen(Request(f"{address}/backups", method="PUT")) as answer:
        assert answer.status == 200
    yield address
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the environment say how to reach the server; return the URL of the bucket."""
    for name, value in (
        ("ACCESS_KEY_ID", "name"),
        ("SECRET_ACCESS_KEY", "secret"),
        ("REGION", "us-east-1"),
        ("ENDPOINT_URL", s3_server),
        ("ALLOW_HTTP", "true"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    return "s3://backups/"


@pytest.fixture(params=["memory", "file", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectFolder:
    if request.param == "memory":
        return ObjectFolder("memory:///", MemoryStore())
    if request.param == "file":
        (tmp_path / "store").mkdir()
        return ObjectFolder.open(f"file://{tmp_path}/store/")
    return ObjectFolder.open(f"{request.getfixturevalue('s3')}{tmp_path.name}/")


def large() -> Iterator[bytes]:
    """Yield more than goes into two parts of an upload."""
    for number in range(2 * UPLOADED_BYTES // (1 << 20) + 1):
        yield bytes([number]) * (1 << 20)


def test_an_object_is_what_was_written(folder: ObjectFolder) -> None:
    assert folder.write_whole("small.vss", [b"a", b"bc"]) == 3
    assert b"".join(folder.pieces("small.vss")) == b"abc"
    assert folder.write_whole("large.vss", large()) == 2 * UPLOADED_BYTES + (1 << 20)
    assert b"".join(folder.pieces("large.vss")) == b"".join(large())
    assert folder.names() == [("large.vss", 2 * UPLOADED_BYTES + (1 << 20)), ("small.vss", 3)]
    folder.remove("large.vss")
    assert folder.names() == [("small.vss", 3)]


def test_an_object_is_never_overwritten(folder: ObjectFolder) -> None:
    folder.write_whole("one.vss", [b"first"])
    with pytest.raises(ConfigurationError, match="exists: a backup never overwrites anything"):
        folder.write_whole("one.vss", [b"second"])
    assert b"".join(folder.pieces("one.vss")) == b"first"
    assert [name for name, _ in folder.names()] == ["one.vss"]


def test_a_name_that_another_process_writes_is_refused(folder: ObjectFolder) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"first, "
        with ThreadPoolExecutor() as other, pytest.raises(ConfigurationError, match="written by another"):
            other.submit(folder.write_whole, "one.vss", [b"second"]).result()
        yield b"whole"

    folder.write_whole("one.vss", pieces())
    assert b"".join(folder.pieces("one.vss")) == b"first, whole"
    assert [name for name, _ in folder.names()] == ["one.vss"]


@pytest.mark.parametrize("parts", [0, 3])
def test_what_breaks_off_appears_under_no_name(folder: ObjectFolder, parts: int) -> None:
    def breaks() -> Iterator[bytes]:
        for _ in range(parts):
            yield bytes(UPLOADED_BYTES)
        raise NotExecuted("no member answered")

    with pytest.raises(NotExecuted, match="no member answered"):
        folder.write_whole("one.vss", breaks())
    assert folder.names() == []
    with pytest.raises(ConfigurationError, match="there is no such object"):
        list(folder.pieces("one.vss"))


def test_a_bucket_that_is_not_there_is_told_in_one_line(s3: str) -> None:
    folder = ObjectFolder.open(s3.replace("backups", "nowhere"))
    with pytest.raises(StorageError, match="no backup was made") as refused:
        folder.write_whole("one.vss", [b"a"])
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500
    with pytest.raises(ConfigurationError, match="cannot read s3://nowhere/"):
        folder.names()


def test_a_url_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="nothing was done"):
        ObjectFolder.open("az://")


def test_urls_are_told_from_files() -> None:
    assert all(map(is_object_url, ("s3://b/x", "S3://b/x", "gs://b", "az://c/x", "file:///tmp")))
    assert not any(map(is_object_url, ("one.vss", "s3", "s3:/b", "./s3://b", "http://b/x", "-")))
    assert split_url("s3://bucket/prod/one.vss") == ("s3://bucket/prod/", "one.vss")
    assert split_url("s3://bucket/prod/") == ("s3://bucket/prod/", "")
    assert split_url("s3://bucket") == ("s3://bucket", "")
