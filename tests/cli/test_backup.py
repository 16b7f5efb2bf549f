"""`viewstamp backup`, `log`, `restore` and `replay` on a cluster in this process."""

import asyncio
import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Cluster, Command
from viewstamp.backup import collecting
from viewstamp.backup.execution import Execution, entries_of
from viewstamp.cli import backup as backup_command
from viewstamp.cli import log as log_command
from viewstamp.cli.app import run
from viewstamp.cli.stream_files import GrowingFile
from viewstamp.cli.stream_places import records_of
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import ORIGIN
from viewstamp.machine.interface import code_of
from viewstamp.runtime.config import ClusterConfig, NodeConfig
from viewstamp.runtime.local import LocalCluster, local_cluster
from viewstamp.runtime.log_reading import wall_time_ms
from viewstamp.runtime.secret_file import make_secret
from viewstamp.services.kv import KeyValueStore, NoKey
from viewstamp.stream.decoder import read_records
from viewstamp.stream.records import MAGIC, End, Header, LogEntry, encode_record

STORE = "viewstamp.services.kv:KeyValueStore"


def put(cluster: Cluster, key: str, value: str) -> None:
    with cluster.connect() as store:
        write(store, key, value)


def write(store: KeyValueStore, key: str, value: str) -> None:
    try:
        version = store.get(key)[1]
    except NoKey:
        version = 0
    store.put(key, value.encode(), version)


def entries(data: bytes) -> list[LogEntry]:
    return [one for one in read_records([data], growing=True) if isinstance(one, LogEntry)]


@contextmanager
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """Take in the bytes that a command writes to standard output."""
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, write_through=True))
    yield data


def new_cluster(command: Command, tmp_path: Path, name: str = "new.toml", **options: str) -> Path:
    flags = [text for flag, value in options.items() for text in (f"--{flag}", value)]
    assert command("init", name, "--cluster-id", "new", *flags).code == 0
    return tmp_path / name


def test_backup_holds_everything_acknowledged_and_today_s_code_fits(
    command: Command, here: Cluster, tmp_path: Path
) -> None:
    put(here, "a", "1")
    done = command("backup", "one.vss")
    assert done.code == 0, done.err
    assert "one.vss: " in done.out
    verified = command("backup", "verify", "one.vss", STORE)
    assert verified.code == 0, verified.err
    assert "whole" in verified.out
    assert "nothing was executed: this backup has no entries after its snapshot" in verified.out
    assert "same results" not in verified.out
    replayed = command("replay", "one.vss", STORE)
    assert replayed.code == 0, replayed.err
    assert replayed.out.startswith("nothing was executed: this backup has no entries after its snapshot")
    listed = command("backup", "list", "one.vss", "--json")
    assert listed.json["class"] == "KeyValueStore"
    assert listed.json["cluster"] == here.config.cluster_id


def test_backup_says_what_the_code_of_its_class_was(command: Command, here: Cluster, tmp_path: Path) -> None:
    put(here, "a", "1")
    assert command("backup", "coded.vss").code == 0
    header = next(iter(records_of(tmp_path / "coded.vss")))
    assert isinstance(header, Header)
    assert header.code == code_of(KeyValueStore)
    checked = command("upgrade", "check", STORE, "--backup", "coded.vss")
    assert (checked.code, "note" in checked.out) == (0, False)


def test_backup_of_each_node_is_the_same_state(command: Command, here: Cluster, tmp_path: Path) -> None:
    put(here, "b", "2")
    digests = set()
    for node in here.config.node_ids:
        assert command("backup", f"{node}.vss", "--from", node).code == 0
        header = next(iter(records_of(tmp_path / f"{node}.vss")))
        assert isinstance(header, Header)
        digests.add((header.viewstamp, header.digest, header.snapshot and header.snapshot.digest))
    assert len(digests) == 1


def test_backup_gets_a_name_in_a_directory_and_overwrites_nothing(
    command: Command, here: Cluster, tmp_path: Path
) -> None:
    put(here, "a", "1")
    (tmp_path / "kept").mkdir()
    for _ in range(2):
        assert command("backup", "kept").code == 0
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert len(names) == 2
    assert all(name.endswith(".vss") for name in names)
    again = command("backup", f"kept/{names[0]}")
    assert again.code == 78
    assert "never overwrites" in again.complaint
    assert command("backup", "list", "kept").out.count("\n") == 2


def test_directory_that_is_not_there_is_made_where_one_is_meant(
    command: Command, here: Cluster, tmp_path: Path
) -> None:
    put(here, "a", "1")
    assert command("backup", "backups/").code == 0
    (made,) = (tmp_path / "backups").iterdir()
    assert made.suffix == ".vss"
    assert (tmp_path / "backups").stat().st_mode & 0o777 == 0o700
    refused = command("backup", "missing/backups/")
    assert refused.code == 78
    assert "no backup was taken" in refused.complaint
    (tmp_path / "one.vss").touch()
    series = command("backup", "one.vss", "--every", "1h", "--keep", "1d")
    assert series.code == 78
    assert "--every needs a directory" in series.complaint
    assert (tmp_path / "one.vss").read_bytes() == b""


def test_backup_in_a_pipe_is_a_whole_stream(
    command: Command, here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here, "a", "1")
    for words in (("-",), ("take", "-"), ("-", "--from", str(here.leader())), ("take", "--", "-")):
        with monkeypatch.context() as patch, captured(patch) as out:
            assert run(["backup", *words]) == 0
            (tmp_path / "piped.vss").write_bytes(out.getvalue())
        verified = command("backup", "verify", tmp_path / "piped.vss", STORE)
        assert verified.code == 0, verified.err
        assert "whole" in verified.out


def test_old_backups_are_removed_and_the_newest_never(
    command: Command, here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here, "a", "1")
    (tmp_path / "kept").mkdir()
    assert command("backup", "kept").code == 0
    (tmp_path / "kept" / "mine.vss").write_bytes(b"mine")
    now = wall_time_ms()
    monkeypatch.setattr(backup_command, "wall_time_ms", lambda: now + 100_000_000)
    backup_command._remove_old(str(tmp_path / "kept"), here.config.cluster_id, 60.0)
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert command("backup", "kept").code == 0
    backup_command._remove_old(str(tmp_path / "kept"), here.config.cluster_id, 60.0)
    assert len(list((tmp_path / "kept").iterdir())) == 2


@pytest.mark.parametrize(
    "flags",
    [
        ("--every", "0s"),
        ("--every", "5"),
        ("--every", "h"),
        ("--every", "²h"),
        ("--keep", "7d"),
        ("--log", "--every", "1h"),
        ("--log", "--keep", "7d"),
    ],
)
def test_wrong_times_are_refused_before_anything_is_done(
    command: Command, here: Cluster, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    assert command("backup", "x.vss", *flags).code == 78
    assert not (tmp_path / "x.vss").exists()


def test_nothing_is_left_when_nobody_answers(command: Command, tmp_path: Path) -> None:
    new_cluster(command, tmp_path, "viewstamp.toml")
    ended = command("backup", "x.vss", "--timeout", "0.3")
    assert ended.code == 3
    assert "nothing was read" in ended.complaint
    assert list(tmp_path.glob("x*")) == []


def test_damaged_backup_is_refused_by_each_command(command: Command, here: Cluster, tmp_path: Path) -> None:
    put(here, "a", "1")
    assert command("backup", "one.vss").code == 0
    data = (tmp_path / "one.vss").read_bytes()
    (tmp_path / "flipped.vss").write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
    (tmp_path / "short.vss").write_bytes(data[:-1])
    new_cluster(command, tmp_path)
    for name in ("flipped.vss", "short.vss"):
        for words in (
            ("backup", "verify", name),
            ("replay", name, STORE),
            ("restore", name, STORE, "--cluster", "new.toml", "--data", "data"),
        ):
            ended = command(*words)
            assert ended.code == 1, (words, ended)
            assert name in ended.complaint
            assert not (tmp_path / "data").exists()


def test_backup_when_it_ends_inside_its_snapshot_is_refused_also_as_one_that_grows(
    command: Command, here: Cluster, tmp_path: Path
) -> None:
    put(here, "a", "1")
    assert command("backup", "one.vss").code == 0
    data = (tmp_path / "one.vss").read_bytes()
    header_ends = len(MAGIC) + len(encode_record(next(iter(records_of(tmp_path / "one.vss")))))
    new_cluster(command, tmp_path)
    for size in (header_ends, header_ends + 20):
        (tmp_path / "cut.vss").write_bytes(data[:size])
        for words in (
            ("backup", "verify", "cut.vss"),
            ("backup", "verify", "cut.vss", STORE),
            ("replay", "cut.vss", STORE),
            ("restore", "cut.vss", STORE, "--cluster", "new.toml", "--data", "data"),
        ):
            ended = command(*words, "--growing")
            assert ended.code == 1, (words, ended)
            assert f"ends at byte {size} inside its snapshot" in ended.complaint
            assert not (tmp_path / "data").exists()


def test_exported_log_has_each_entry_once_and_goes_on_without_a_gap(
    command: Command, here: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here, "c", "3")
    with captured(monkeypatch) as out:
        assert log_command.export() == 0
    first = entries(out.getvalue())
    assert first[0].seqno == 1
    assert isinstance(list(read_records([out.getvalue()]))[-1], End)
    put(here, "c", "4")
    with captured(monkeypatch) as out:
        assert log_command.export(after=str(first[-1].viewstamp)) == 0
    second = entries(out.getvalue())
    assert second[0].seqno == first[-1].seqno + 1


def test_follower_gets_what_is_committed_while_it_follows(
    command: Command, here: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here, "d", "1")
    rounds = iter(range(3))

    def wait() -> None:
        number = next(rounds, None)
        if number is None:
            raise KeyboardInterrupt
        put(here, "d", f"while following {number}")

    monkeypatch.setattr(log_command, "wait_for_more", wait)
    with captured(monkeypatch) as out, pytest.raises(KeyboardInterrupt):
        log_command.follow(node=here.leader())
    followed = entries(out.getvalue())
    assert [one.seqno for one in followed] == list(range(1, len(followed) + 1))
    assert any(b"while following 1" in one.data for one in followed)


def test_position_that_is_unknown_is_refused(command: Command, here: Cluster) -> None:
    put(here, "a", "1")
    ended = command("log", "export", "--after", "1.99999999")
    assert ended.code == 3
    assert "applied up to" in ended.complaint


def test_growing_backup_goes_on_where_it_was_interrupted_and_is_restored_at_a_time(
    command: Command, here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1_700_000_000_000]
    monkeypatch.setattr(backup_command, "wall_time_ms", lambda: clock[0])

    def grow(*values: str) -> None:
        waiting = iter(values)

        def wait() -> None:
            value = next(waiting, None)
            if value is None:
                raise KeyboardInterrupt
            clock[0] += 1_000
            put(here, "grown", value)

        monkeypatch.setattr(backup_command, "wait_for_more", wait)
        assert command("backup", "grown.vss", "--log", "--from", here.leader()).code == 130

    put(here, "grown", "before")
    grow("one", "two")
    with (tmp_path / "grown.vss").open("ab") as file:
        file.write(b"\x03\x99torn")
    clock[0] += 60_000
    grow("three", "four")
    short = command("backup", "verify", "grown.vss", STORE)
    assert short.code == 1
    assert "without its end record" in short.complaint
    verified = command("backup", "verify", "grown.vss", STORE, "--growing")
    assert verified.code == 0, verified.err
    assert "NOT WHOLE" in verified.out
    assert "comes to the same results" in verified.out
    new_cluster(command, tmp_path, members="127.0.0.1:7000")
    seen = []
    for number, at in enumerate(("2023-11-14T22:13:20Z", "2023-11-14T22:13:21.5", "2023-11-14T23:00")):
        restored = command(
            *("restore", "grown.vss", STORE, "--cluster", "new.toml", "--data", f"data{number}"),
            *("--at", at, "--growing"),
        )
        assert restored.code == 0, restored.err
        # The last of these times is beyond what the file knows of: that is told.
        assert ("caution: grown.vss knows of nothing after" in restored.out) == (number == 2)
        seen.append(value_in(tmp_path / f"data{number}" / "node-1", tmp_path / "new.toml"))
    assert seen == [b"before", b"one", b"four"]
    early = command(
        *("restore", "grown.vss", STORE, "--cluster", "new.toml", "--data", "x"),
        *("--at", "2020-01-01", "--growing"),
    )
    assert early.code == 78
    assert "holds the states from" in early.complaint


def test_growing_backup_when_another_process_writes_it_is_refused_and_stays(
    command: Command, here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here, "a", "1")
    path = tmp_path / "grown.vss"
    before: list[bytes] = []

    def wait() -> None:
        before.append(path.read_bytes())
        put(here, "a", "2")
        with pytest.raises(ConfigurationError, match="another `viewstamp backup`"):
            GrowingFile(path)
        second = command("backup", "grown.vss", "--log")
        assert second.code == 78
        assert "nothing was changed" in second.complaint
        assert path.read_bytes() == before[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(backup_command, "wait_for_more", wait)
    assert command("backup", "grown.vss", "--log", "--from", here.leader()).code == 130
    assert len(before) == 1
    GrowingFile(path).close()  # the lock ended with the command
    assert path.read_bytes() == before[0]
    missing = command("backup", "missing/grown.vss", "--log")
    assert missing.code == 78
    assert "cannot write" in missing.complaint


def value_in(data: Path, cluster: Path) -> bytes:
    """Return the value of the key `grown` in a restored directory of a cluster of one."""

    async def read() -> bytes:
        config = ClusterConfig.load(cluster)
        async with LocalCluster(KeyValueStore, config, NodeConfig(), data.parent) as running:
            await running.leader()
            async with running.connect() as store:
                value: bytes = (await store.get("grown"))[0]
                return value

    return asyncio.run(read())


def test_replay_names_the_first_difference(
    command: Command, here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here, "first", "1")
    put(here, "second", "2")
    with captured(monkeypatch) as out:
        assert log_command.export() == 0
        (tmp_path / "log.vss").write_bytes(out.getvalue())
    monkeypatch.undo()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "changed_store.py").write_text(CHANGED)
    same = command("replay", tmp_path / "log.vss", STORE)
    assert same.code == 0, same.err
    assert "no difference" in same.out
    differs = command("replay", tmp_path / "log.vss", "changed_store:KeyValueStore", "--against", STORE)
    assert differs.code == 1, differs.err
    assert "put('second'" in differs.out
    digests = command("replay", tmp_path / "log.vss", "changed_store:KeyValueStore")
    first, second = digests.out.splitlines()
    assert first.endswith("came to other results")
    assert second.startswith("1 of ")
    unknown = command("replay", tmp_path / "log.vss", "changed_store:KeyValueStore", "--allow", "typo")
    assert unknown.code == 78
    assert "there is no such command" in unknown.complaint
    allowed = command("replay", tmp_path / "log.vss", "changed_store:KeyValueStore", "--allow", "put")
    assert allowed.code == 0, allowed.out


CHANGED = """
import viewstamp
from viewstamp.services import kv

class KeyValueStore(kv.KeyValueStore):
    @viewstamp.command
    def put(self, key: str, value: bytes, version: int) -> int:
        result = kv.KeyValueStore.put.function(self, key, value, version)
        return result + 1_000 if key == "second" else result
"""


def test_reader_that_lags_is_told_and_the_file_stays(command: Command, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    make_secret(secret)
    with local_cluster(KeyValueStore, replica={"log_tail_bytes_max": 2_000}, secret=secret) as small:
        small.leader()
        for number in range(30):
            put(small, "k", str(number))
        small.config.save(tmp_path / "viewstamp.toml")
        ended = command("log", "export", "--after", "0.0")
        assert ended.code == 3
        assert "compacted" in ended.complaint
        assert command("backup", "one.vss").code == 0


def test_backup_is_taken_while_clients_write(command: Command, here: Cluster, tmp_path: Path) -> None:
    stop = threading.Event()
    written: list[int] = []

    def work() -> None:
        with here.connect() as store:
            while not stop.is_set():
                written.append(len(written))
                write(store, "busy", str(len(written)))

    put(here, "busy", "0")
    writer = threading.Thread(target=work)
    writer.start()
    try:
        for number in range(3):
            before = len(written) - 1
            assert command("backup", f"{number}.vss").code == 0
            verified = command("backup", "verify", f"{number}.vss", STORE)
            assert verified.code == 0, verified.err
            assert value_at(tmp_path / f"{number}.vss") >= before
    finally:
        stop.set()
        writer.join()


def value_at(path: Path) -> int:
    header = next(iter(records_of(path)))
    assert isinstance(header, Header)
    execution = Execution(KeyValueStore, header.limits)
    for entry in entries_of(records_of(path), execution):
        execution.execute(entry)
    machine = execution.state.runner.machine
    assert isinstance(machine, KeyValueStore)
    return int(machine.get("busy")[0])


def test_origin_is_before_the_first_entry() -> None:
    assert log_command._position(None) == ORIGIN
    assert collecting.ATTEMPTS > 1
