"""`viewstamp journal dump` on a directory that a cluster left."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from viewstamp.cli import failures
from viewstamp.runtime.config import NodeConfig
from viewstamp.runtime.local import local_cluster
from viewstamp.services.kv import KeyValueStore

FLIPPED_BYTE = 700


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with writes and a snapshot."""
    folder = tmp_path_factory.mktemp("cluster")
    config = NodeConfig(snapshot_placement="inline", segment_bytes=1 << 20)
    made = local_cluster(KeyValueStore, replicas=1, directory=folder, node_config=config)
    with made as cluster, cluster.connect() as store:
        for number in range(20):
            store.set(f"key-{number}", b"value")
    return folder / "node-0"


def test_records_are_shown_when_a_directory_is_dumped(command: Command, used: Path) -> None:
    ran = command("journal", "dump", used)
    assert ran.code == failures.DONE
    assert "of cluster local" in ran.out.splitlines()[0]
    assert "EntryRecord(" in ran.out
    assert "HardState(" in ran.out


def test_every_line_is_json_when_asked_for(command: Command, used: Path) -> None:
    lines = [json.loads(line) for line in command("journal", "dump", used, "--json").out.splitlines()]
    assert {line["type"] for line in lines} >= {"identity", "segment", "frame"}


def test_bytes_are_shown_when_no_protocol_is_to_read_them(command: Command, used: Path) -> None:
    assert "EntryRecord(" not in command("journal", "dump", used, "--protocol", "bytes").out


def test_damage_is_named_when_a_byte_was_flipped(command: Command, used: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "journal").mkdir(parents=True)
    (copy / "snapshots").mkdir()
    (copy / "identity").write_bytes((used / "identity").read_bytes())
    for segment in (used / "journal").iterdir():
        content = bytearray(segment.read_bytes())
        content[FLIPPED_BYTE] ^= 1
        (copy / "journal" / segment.name).write_bytes(content)
    ran = command("journal", "dump", copy)
    assert ran.code == failures.STORAGE
    assert "DAMAGED at byte" in ran.out


def test_directory_is_refused_when_it_is_none(command: Command, tmp_path: Path) -> None:
    ran = command("journal", "dump", tmp_path)
    assert ran.code == failures.CONFIGURATION
    assert "is not a data directory" in ran.complaint
