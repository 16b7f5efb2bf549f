"""`viewstamp upgrade`, against a cluster in this process."""

from pathlib import Path
from typing import Final

from tests.cli.conftest import Cluster, Command
from tests.evolution.changes import Shop
from tests.evolution.group import LEADER, Group
from tests.evolution.tags import first_tags
from viewstamp.core.ids import NodeId
from viewstamp.machine.interface import code_of
from viewstamp.runtime.local import local_cluster
from viewstamp.services.kv import KeyValueStore
from viewstamp.stream.encoder import StreamEncoder
from viewstamp.stream.records import FORMAT, Chunk, Header, LogEntry, SnapshotHead

STORE: Final = "viewstamp.services.kv:KeyValueStore"


def test_a_new_cluster_has_all_in_force_that_its_code_can_do(here: Cluster, command: Command) -> None:
    with here.connect() as kv:
        kv.put("versions", b"1", 0)
    ran = command("upgrade", "status", "--json")
    assert ran.code == 0
    leader = here.leader()
    (row,) = [node for node in ran.json["nodes"] if node["node"] == leader]
    assert (row["level"], row["machine"], row["state"]) == (1, 1, "in force")
    assert "in force" in command("upgrade", "status").out


def test_finalize_says_what_is_in_force_when_nothing_is_to_be_raised(here: Cluster, command: Command) -> None:
    with here.connect() as kv:
        kv.get("versions")
    ran = command("upgrade", "finalize")
    assert (ran.code, ran.out) == (0, "in force: level 1, class version 1\n")


def test_finalize_is_refused_by_name_when_the_level_is_not_known(here: Cluster, command: Command) -> None:
    ran = command("upgrade", "finalize", 9)
    assert ran.code == 1
    assert "nothing was raised: this code can raise to level 1, not to 9" in ran.complaint


def test_check_says_that_a_class_may_be_deployed_on_a_data_directory(
    command: Command, tmp_path: Path
) -> None:
    with local_cluster(KeyValueStore, directory=tmp_path / "nodes") as cluster:
        with cluster.connect() as kv:
            kv.put("a", b"1", 0)
        node = cluster.leader()
    ran = command("upgrade", "check", STORE, "--data", tmp_path / "nodes" / f"node-{node}")
    assert (ran.code, ran.err) == (0, "")
    assert "in force: version 1; this class has version 1" in ran.out
    assert "entries executed again with equal results: it may be deployed" in ran.out


def test_check_asks_for_something_to_check_the_class_on(command: Command) -> None:
    ran = command("upgrade", "check", STORE)
    assert ran.code == 78
    assert "say on what to check the class: --data DIR or --backup FILE" in ran.complaint


def test_check_reads_a_backup(command: Command, tmp_path: Path) -> None:
    group = Group(Shop, Shop, Shop)
    group.call("add", "tea", 2)
    written = write_backup(group, tmp_path / "shop.vsl", "keep", "tea")
    ran = command("upgrade", "check", "tests.evolution.changes:Shop", "--backup", written)
    assert (ran.code, ran.err) == (0, "")
    assert "1 entries executed again with equal results: it may be deployed" in ran.out
    ran = command("upgrade", "check", "tests.evolution.changes:AttributeRenamed", "--backup", written)
    assert ran.code == 1
    assert "refused: stock (dict[str, int]) is missing" in ran.out


def test_check_refuses_a_migration_when_it_differs_in_another_process(
    command: Command, tmp_path: Path
) -> None:
    group = Group(first_tags(), first_tags(), first_tags())
    for number in range(20):
        group.call("tag", f"tag {number}")
    written = write_backup(group, tmp_path / "tags.vsl", "tag", "last")
    ran = command("upgrade", "check", "tests.evolution.tags:Tags", "--backup", written)
    assert ran.code == 1
    assert "refused: _list_tags(): migrations make another state of the same one" in ran.out
    ran = command("upgrade", "check", "tests.evolution.tags:SortedTags", "--backup", written)
    assert (ran.code, ran.err) == (0, "")
    assert "migrations included: it may be deployed" in ran.out


def test_check_compares_the_code_of_the_class_that_a_backup_is_of(command: Command, tmp_path: Path) -> None:
    group = Group(Shop, Shop, Shop)
    group.call("add", "tea", 2)
    written = write_backup(group, tmp_path / "shop.vss", "keep", "tea", code=code_of(Shop))
    ran = command("upgrade", "check", "tests.evolution.changes:Shop", "--backup", written)
    assert (ran.code, ran.err) == (0, "")
    assert "note" not in ran.out
    ran = command("upgrade", "check", "tests.evolution.changes:OtherBehaviour", "--backup", written)
    assert ran.code == 1, "no entry calls what has changed"
    assert "refused: add() does something else than before, and version is 1 as before" in ran.out


def test_check_compares_the_results_of_the_last_entry_of_a_backup(command: Command, tmp_path: Path) -> None:
    group = Group(Shop, Shop, Shop)
    group.call("keep", "tea")
    written = write_backup(group, tmp_path / "shop.vss", "add", "tea", 2)
    ran = command("upgrade", "check", "tests.evolution.changes:OtherBehaviour", "--backup", written)
    assert ran.code == 1, "no later entry says what the last one came to"
    assert "refused: entry 1.2: a command up to here gives another result than it did" in ran.out


def test_check_says_that_a_backup_of_an_earlier_program_holds_no_code(
    command: Command, tmp_path: Path
) -> None:
    group = Group(Shop, Shop, Shop)
    group.call("add", "tea", 2)
    written = write_backup(group, tmp_path / "shop.vss", "keep", "tea")
    ran = command("upgrade", "check", "tests.evolution.changes:OtherBehaviour", "--backup", written)
    assert (ran.code, ran.err) == (0, "")
    assert "note: the backup does not say what the code of the class was" in ran.out


def write_backup(
    group: Group, path: Path, method: str, *arguments: object, code: dict[str, str] | None = None
) -> Path:
    """Write a snapshot of the group, and one call after it."""
    taken = group.save(1)
    group.call(method, *arguments)
    meta, encoder = taken.meta, StreamEncoder()
    head = SnapshotHead(meta.size_bytes, meta.digest, meta.format, meta.header)
    entry = group.log[-1].entry
    digest = group.benches[LEADER].replica.digest
    header = Header(
        FORMAT,
        "c",
        "raft",
        "Shop",
        1,
        1,
        meta.viewstamp,
        0,
        0,
        0,
        (NodeId(1),),
        {"sessions_max": 9},
        head,
        code or {},
    )
    stream = encoder.begin(header) + encoder.record(Chunk(0, taken.body))
    stream += encoder.record(LogEntry(entry.viewstamp.view, entry.viewstamp.seqno, digest, entry.data))
    path.write_bytes(stream + encoder.end())
    return path
