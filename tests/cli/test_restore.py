"""`viewstamp restore`: what it refuses, and where a new life begins."""

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Cluster, Command
from tests.cli.test_backup import STORE, new_cluster, put
from viewstamp.backup.seeding import ENTRIES_PER_S
from viewstamp.cli import restore as restore_command
from viewstamp.runtime.log_reading import wall_time_ms


def test_restore_refuses_the_old_name_and_a_directory_in_use(
    command: Command, here: Cluster, tmp_path: Path
) -> None:
    put(here, "a", "1")
    assert command("backup", "one.vss").code == 0
    same = command("restore", "one.vss", STORE, "--cluster", "viewstamp.toml", "--data", "data")
    assert same.code == 78
    assert "another cluster_id" in same.complaint
    new_cluster(command, tmp_path)
    first = command("restore", "one.vss", STORE, "--cluster", "new.toml", "--data", "data", "--node", "1")
    assert first.code == 0, first.err
    assert "--life" in first.out
    again = command("restore", "one.vss", STORE, "--cluster", "new.toml", "--data", "data", "--node", "1")
    assert again.code == 78
    assert "not empty" in again.complaint


def test_members_of_one_life_begin_at_one_position_and_a_later_life_far_behind(
    command: Command, here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here, "twice", "1")
    assert command("backup", "one.vss").code == 0
    new_cluster(command, tmp_path)
    restoring = ("restore", "one.vss", STORE, "--cluster", "new.toml", "--data")

    def begin_of(*words: str) -> tuple[str, int]:
        ran = command(*restoring, *words)
        assert ran.code == 0, ran.err
        life = re.search(r"--life (\d+)", ran.out)
        (position,) = set(re.findall(r"goes on after \d+\.(\d+)", ran.out))
        return "" if life is None else life[1], int(position)

    life, first = begin_of("data1", "--node", "1")
    monkeypatch.setattr(restore_command, "wall_time_ms", lambda: wall_time_ms() + 3_600_000)
    assert begin_of("data2", "--node", "2", "--life", life)[1] == first, "an hour later, in the same life"
    _, again = begin_of("data")
    assert again >= first + 3_600 * ENTRIES_PER_S, "a life that begins an hour later"
    monkeypatch.setattr(restore_command, "wall_time_ms", lambda: wall_time_ms() - 3_600_000)
    early = command(*restoring, "early")
    assert early.code == 78
    assert "after the time that this machine's clock showed: set the clock" in early.complaint
    assert not (tmp_path / "early").exists()
    assert command(*restoring, "given", "--advance", "5").code == 0
    wrong = command(*restoring, "wrong", "--life", "0")
    assert wrong.code == 78
    assert "--life 0: give the number that was printed" in wrong.complaint


def test_restore_when_one_directory_cannot_be_made_writes_nothing(
    command: Command, here: Cluster, tmp_path: Path
) -> None:
    put(here, "a", "1")
    assert command("backup", "one.vss").code == 0
    new_cluster(command, tmp_path)

    def restore(data: str) -> str:
        ended = command("restore", "one.vss", STORE, "--cluster", "new.toml", "--data", data)
        assert ended.code == 78
        return ended.complaint

    (tmp_path / "data" / "node-2" / "kept").mkdir(parents=True)
    assert "not empty" in restore("data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["node-2"]
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "identity").touch()
    assert "is the data directory of a node: nothing was written" in restore("used")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["identity"]


def test_restore_needs_the_class_that_wrote_the_log(command: Command, here: Cluster, tmp_path: Path) -> None:
    put(here, "a", "1")
    assert command("backup", "one.vss").code == 0
    new_cluster(command, tmp_path)
    ended = command("restore", "one.vss", "--cluster", "new.toml", "--data", "data")
    assert ended.code == 1
    assert "backup of the class KeyValueStore" in ended.complaint
    assert not (tmp_path / "data").exists()
