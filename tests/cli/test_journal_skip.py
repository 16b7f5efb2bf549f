"""`viewstamp journal skip` and `journal show` on the directories that a cluster left."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.conftest import Command, Ran
from tests.poison import data_at, opened, plant
from viewstamp.cli import failures
from viewstamp.core.ids import Viewstamp
from viewstamp.replica.skip_mark import digest_of, read_skip_mark
from viewstamp.runtime.config import ClusterConfig, NodeConfig
from viewstamp.runtime.local import local_cluster
from viewstamp.services.kv import KeyValueStore
from viewstamp.storage.files import OsFileSystem
from viewstamp.storage.inspect import inspect_identity

VICTIM = b"the-victim"
CONFIG = NodeConfig(snapshot_placement="inline", segment_bytes=1 << 20)


class Left(NamedTuple):
    """What a cluster left."""

    folder: Path
    config: ClusterConfig
    viewstamp: Viewstamp
    """Of the entry that writes the victim."""

    @property
    def directories(self) -> list[Path]:
        return sorted(self.folder.glob("node-*"))

    @property
    def cluster_file(self) -> Path:
        return self.folder / "cluster.toml"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Left:
    folder = tmp_path_factory.mktemp("cluster")
    with local_cluster(KeyValueStore, replicas=3, directory=folder, node_config=CONFIG) as cluster:
        with cluster.connect() as store:
            store.set("before", b"1")
            store.set(VICTIM.decode(), b"2")
            for number in range(5):
                store.set(f"behind-{number}", b"3")
            while len({status.last for status in cluster.statuses().values()}) > 1:
                store.get("before")  # until every member holds every entry
        config = cluster.config
    config.save(folder / "cluster.toml")
    left = Left(folder, config, Viewstamp(0, 0))  # type: ignore[arg-type]
    for path in left.directories:
        with opened(path, "raft") as (_, log):
            for seqno in range(log.base.seqno + 1, log.last.seqno + 1):
                if VICTIM in log.entry(seqno).data:
                    left = left._replace(viewstamp=log.entry(seqno).viewstamp)
    assert left.viewstamp.seqno > 0
    return left


@pytest.fixture
def left(original: Left, tmp_path: Path) -> Left:
    copy = tmp_path / "cluster"
    shutil.copytree(original.folder, copy)
    return original._replace(folder=copy)


def skip(command: Command, left: Left, *arguments: object, directories: list[Path] | None = None) -> Ran:
    named = left.directories if directories is None else directories
    return command(
        *("journal", "skip", *named, "--cluster", left.cluster_file), "--at", left.viewstamp, *arguments
    )


def contents(left: Left) -> dict[Path, bytes]:
    """All files of the logs and identities; the lock and unused space do not count."""
    return {
        path: path.read_bytes() for path in left.folder.rglob("*") if path.is_file() and path.name != "lock"
    }


def held(left: Left) -> list[bytes]:
    """What those that hold the entry have there: a majority at least, since it was acknowledged."""
    found = [data_at(path, "raft", left.viewstamp) for path in left.directories]
    return [data for data in found if data is not None]


def values(left: Left) -> dict[str, bytes]:
    with (
        local_cluster(KeyValueStore, replicas=3, directory=left.folder, node_config=CONFIG) as cluster,
        cluster.connect() as store,
    ):
        return {item.key: item.value for item in store.range("", "", 100).items}


def test_a_mark_takes_the_place_of_the_entry_on_every_member(command: Command, left: Left) -> None:
    plant(left.directories, "raft", VICTIM)
    ran = skip(command, left, "--yes")
    assert ran.code == failures.DONE
    assert f"entry {left.viewstamp} is skipped on nodes" in ran.out
    (data,) = set(held(left))
    mark = read_skip_mark(data)
    assert mark is not None
    for path in left.directories:
        (skipped,) = inspect_identity(OsFileSystem(), str(path)).skipped
        assert (skipped.viewstamp, skipped.digest) == (str(left.viewstamp), mark.digest.hex())
    found = values(left)
    assert VICTIM.decode() not in found
    assert found["before"] == b"1"
    assert found["behind-4"] == b"3"


def test_replicas_go_on_when_the_leader_had_executed_the_entry(command: Command, left: Left) -> None:
    """The entries behind it say what its results were: none of that may stop a replica now."""
    assert skip(command, left, "--yes").code == failures.DONE
    found = values(left)
    assert VICTIM.decode() not in found
    assert found["behind-4"] == b"3"


def test_a_member_that_lost_its_disk_gets_the_mark_from_the_others(command: Command, left: Left) -> None:
    plant(left.directories, "raft", VICTIM)
    assert skip(command, left, "--yes").code == failures.DONE
    wiped = left.directories[2]
    shutil.rmtree(wiped)
    with (
        local_cluster(KeyValueStore, replicas=3, directory=left.folder, node_config=CONFIG) as cluster,
        cluster.connect() as store,
    ):
        while any(status.waiting_for for status in cluster.statuses().values()):
            store.get("before")
    data = data_at(wiped, "raft", left.viewstamp)
    assert data is not None
    assert {data} == set(held(left))


def test_nothing_changes_without_yes(command: Command, left: Left) -> None:
    plant(left.directories, "raft", VICTIM)
    before = held(left)
    ran = skip(command, left)
    assert ran.code == failures.REFUSED
    assert "nothing was changed" in ran.out
    assert held(left) == before


def test_a_repeated_skip_finishes_one_that_was_interrupted(command: Command, left: Left) -> None:
    plant(left.directories, "raft", VICTIM)
    first, *_ = left.directories
    assert skip(command, left, "--yes", "--only", directories=[first]).code == failures.DONE
    for _ in range(2):
        assert skip(command, left, "--yes").code == failures.DONE
    assert len(set(held(left))) == 1
    for path in left.directories:
        assert len(inspect_identity(OsFileSystem(), str(path)).skipped) == 1


def test_one_directory_alone_is_skipped_with_a_command_for_the_others(command: Command, left: Left) -> None:
    plant(left.directories, "raft", VICTIM)
    first, *others = left.directories
    ran = skip(command, left, "--yes", "--only", directories=[first])
    assert "WARNING: before any member starts, every other one must get the very same skip" in ran.out
    digest = ran.out.partition("--digest ")[2].split()[0]
    for path in others:
        again = skip(command, left, "--yes", "--only", "--digest", digest, directories=[path])
        assert again.code == failures.DONE
    assert len(set(held(left))) == 1


def test_refused_when_the_digest_is_another_members(command: Command, left: Left) -> None:
    plant(left.directories, "raft", VICTIM)
    ran = skip(command, left, "--yes", "--only", "--digest", "00", directories=left.directories[:1])
    assert ran.code == failures.CONFIGURATION
    assert "the members hold different entries; nothing was changed" in ran.complaint


def test_refused_when_the_members_differ(command: Command, left: Left) -> None:
    plant(left.directories[:1], "raft", VICTIM, poison=b"\xff one")
    plant(left.directories[1:], "raft", VICTIM, poison=b"\xff another")
    before = held(left)
    ran = skip(command, left, "--yes")
    assert ran.code == failures.CONFIGURATION
    assert f"hold different entries {left.viewstamp}" in ran.complaint
    assert held(left) == before


def test_refused_when_a_directory_is_missing(command: Command, left: Left) -> None:
    before = contents(left)
    ran = skip(command, left, "--yes", directories=left.directories[:2])
    assert ran.code == failures.CONFIGURATION
    assert "is missing: name those of all members, or" in ran.complaint
    assert "--only" in ran.complaint
    assert contents(left).keys() == before.keys()


def test_refused_when_a_directory_is_named_twice(command: Command, left: Left) -> None:
    first, *_ = left.directories
    ran = skip(command, left, "--yes", directories=[first, first])
    assert ran.code == failures.CONFIGURATION
    assert "in use" in ran.complaint or "same node" in ran.complaint


def test_refused_when_a_server_holds_the_lock(command: Command, left: Left) -> None:
    with opened(left.directories[1], "raft"):
        ran = skip(command, left, "--yes")
    assert ran.code == failures.CONFIGURATION
    assert "is in use by process" in ran.complaint
    assert all(read_skip_mark(data) is None for data in held(left))


def test_refused_when_a_snapshot_holds_the_effect(command: Command, left: Left) -> None:
    with opened(left.directories[0], "raft") as (directory, log):
        directory.snapshots.save(log.last, b"", [b"state"])
    ran = skip(command, left, "--yes")
    assert ran.code == failures.CONFIGURATION
    assert f"has executed entry {left.viewstamp}" in ran.complaint


def test_refused_when_no_majority_holds_the_entry(command: Command, left: Left) -> None:
    absent = left._replace(viewstamp=Viewstamp(left.viewstamp.view, left.viewstamp.seqno + 1_000))  # type: ignore[arg-type]
    ran = skip(command, absent, "--yes")
    assert ran.code == failures.CONFIGURATION
    assert "none of these directories has it" in ran.complaint


def test_refused_when_the_entry_is_the_protocols_own(command: Command, left: Left) -> None:
    with opened(left.directories[0], "raft") as (_, log):
        own = next(
            entry.viewstamp
            for entry in map(log.entry, range(log.base.seqno + 1, log.last.seqno + 1))
            if not entry.data
        )
    ran = skip(command, left._replace(viewstamp=own), "--yes")
    assert ran.code == failures.CONFIGURATION
    assert "is the protocol's own" in ran.complaint


def test_refused_when_a_directory_is_another_clusters(command: Command, left: Left, tmp_path: Path) -> None:
    members = left.config.members
    ClusterConfig(cluster_id="another", members=members).save(tmp_path / "other.toml")
    ran = command("journal", "skip", *left.directories, "--at", "1.1", "--cluster", tmp_path / "other.toml")
    assert ran.code == failures.CONFIGURATION
    assert "belongs to cluster 'local', the cluster file describes 'another'" in ran.complaint


@pytest.mark.parametrize("at", ["3", "3.", "x.1", "-1.2", "1.2.3", f"1.{'9' * 30}"])
def test_refused_when_the_viewstamp_is_none(command: Command, left: Left, at: str) -> None:
    ran = command("journal", "show", left.directories[0], f"--at={at}")
    assert ran.code == failures.CONFIGURATION
    assert "write it as VIEW.SEQNO" in ran.complaint


def test_an_entry_is_shown_with_its_calls(command: Command, left: Left) -> None:
    ran = command("journal", "show", left.directories[0], "--at", left.viewstamp)
    assert ran.code == failures.DONE
    assert VICTIM.decode() in ran.out


def test_an_entry_that_cannot_be_read_is_shown_with_its_first_bytes(command: Command, left: Left) -> None:
    plant(left.directories, "raft", VICTIM)
    ran = command("journal", "show", left.directories[0], "--at", left.viewstamp, "--json")
    document = json.loads(ran.out)
    data = data_at(left.directories[0], "raft", left.viewstamp)
    assert data is not None
    assert document["digest"] == digest_of(data).hex()
    assert document["begins with"].startswith("ff")


def test_a_skipped_entry_is_shown_as_one(command: Command, left: Left) -> None:
    skip(command, left, "--yes")
    ran = command("journal", "show", left.directories[0], "--at", left.viewstamp)
    assert "skipped: by an operator" in ran.out
    dumped = command("journal", "dump", left.directories[0])
    assert f"entry {left.viewstamp} was skipped by" in dumped.out
