"""What runs on a data directory is written into it: another protocol or class is refused."""

from pathlib import Path

import msgspec
import pytest

from tests.storage.beds import CLUSTER, NODE, SEGMENT_BYTES
from viewstamp.core.errors import ConfigurationError, JournalCorrupt
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.storage.directory import open_data_directory
from viewstamp.storage.files import OsFileSystem
from viewstamp.storage.identity import IdentityFile, Service, SkippedEntry, read_identity, write_identity

FILES = OsFileSystem()
WRITTEN = Service("raft", "Counter", {"total": "int", "names": "list[str]"})
OTHER_PROTOCOL = msgspec.structs.replace(WRITTEN, protocol="viewstamped")
SKIPPED = SkippedEntry("3.17", "00ff", "2026-01-01T00:00:00+00:00", "ops")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


def serve(path: Path, service: Service | None, *, accept_class: bool = False) -> None:
    """Do what a server does at its start."""
    directory = open_data_directory(
        FILES,
        str(path),
        cluster_id=CLUSTER,
        node=NodeId(NODE),
        incarnation=Incarnation(7),
        segment_bytes=SEGMENT_BYTES,
        service=service,
        accept_class=accept_class,
    )
    try:
        directory.confirm_service()
    finally:
        directory.close()


def recorded(path: Path) -> Service | None:
    found = read_identity(FILES, str(path))
    assert found is not None
    return found.service


def changed(**schema: str) -> Service:
    return msgspec.structs.replace(WRITTEN, schema={**WRITTEN.schema, **schema})


def test_what_runs_is_recorded_when_it_is_served(path: Path) -> None:
    serve(path, WRITTEN)
    assert recorded(path) == WRITTEN


def test_nothing_is_recorded_before_the_server_can_read_what_is_there(path: Path) -> None:
    open_data_directory(
        FILES,
        str(path),
        cluster_id=CLUSTER,
        node=NodeId(NODE),
        incarnation=Incarnation(7),
        segment_bytes=SEGMENT_BYTES,
        service=WRITTEN,
    ).close()
    assert recorded(path) is None


@pytest.mark.parametrize(
    ("service", "message"),
    [
        (
            OTHER_PROTOCOL,
            "by the protocol raft, the cluster file says viewstamped: nothing was changed",
        ),
        (msgspec.structs.replace(WRITTEN, machine="Board"), "the class Counter, and the class is Board"),
        (
            changed(total="str"),
            "total was int and is str: nothing was changed; start this node with",
        ),
        (msgspec.structs.replace(WRITTEN, schema={"total": "int"}), r"names \(list\[str\]\) is missing"),
    ],
)
def test_refused_when_something_else_ran_there(path: Path, service: Service, message: str) -> None:
    serve(path, WRITTEN)
    with pytest.raises(ConfigurationError, match=message) as refused:
        serve(path, service)
    assert "\n" not in str(refused.value)
    assert recorded(path) == WRITTEN
    serve(path, WRITTEN)


def test_started_and_recorded_when_the_class_has_a_new_attribute(path: Path) -> None:
    serve(path, WRITTEN)
    serve(path, changed(added="int"))
    assert recorded(path) == changed(added="int")


def test_any_schema_is_started_when_the_log_says_what_it_needs_of_the_class(path: Path) -> None:
    versioned = msgspec.structs.replace(WRITTEN, version=2)
    serve(path, versioned)
    older = msgspec.structs.replace(WRITTEN, schema={"total": "int"}, version=1)
    serve(path, older)
    assert recorded(path) == older


def test_another_class_is_started_when_it_is_accepted_and_another_protocol_never(path: Path) -> None:
    serve(path, WRITTEN)
    serve(path, changed(total="str"), accept_class=True)
    assert recorded(path) == changed(total="str")
    with pytest.raises(ConfigurationError, match="no protocol can read another one's data"):
        serve(path, OTHER_PROTOCOL, accept_class=True)


def test_a_tool_may_look_whatever_ran_there(path: Path) -> None:
    serve(path, WRITTEN)
    serve(path, None)
    assert recorded(path) == WRITTEN


def test_a_file_of_before_is_read_and_gets_what_runs(path: Path) -> None:
    serve(path, None)
    content = msgspec.json.decode((path / "identity").read_bytes())
    older = {name: content[name] for name in ("format_version", "cluster_id", "node", "incarnation", "check")}
    (path / "identity").write_bytes(msgspec.json.encode(older))
    serve(path, WRITTEN)
    assert recorded(path) == WRITTEN


@pytest.mark.parametrize("field", ["service", "skipped"])
def test_refused_when_what_ran_there_is_damaged(path: Path, field: str) -> None:
    serve(path, WRITTEN)
    found = read_identity(FILES, str(path))
    assert found is not None
    write_identity(FILES, str(path), msgspec.structs.replace(found, skipped=(SKIPPED,)))
    content = (path / "identity").read_bytes()
    old, new = (b"Counter", b"Kounter") if field == "service" else (b"ops", b"oops")
    damaged = content.replace(old, new)
    assert damaged != content
    (path / "identity").write_bytes(damaged)
    with pytest.raises(JournalCorrupt, match="its checksum is wrong"):
        serve(path, WRITTEN)


def test_skipped_entries_stay_when_the_class_changes(path: Path) -> None:
    serve(path, WRITTEN)
    found = read_identity(FILES, str(path))
    assert found is not None
    write_identity(FILES, str(path), IdentityFile(found.identity, found.service, (SKIPPED,)))
    serve(path, changed(added="int"))
    again = read_identity(FILES, str(path))
    assert again is not None
    assert again.skipped == (SKIPPED,)
