"""`viewstamp init`."""

from pathlib import Path

import pytest

from tests.cli.conftest import Command
from viewstamp.cli import failures
from viewstamp.runtime.config import ClusterConfig


def test_three_on_loopback_when_nothing_is_said(command: Command, tmp_path: Path) -> None:
    ran = command("init")
    config = ClusterConfig.load(tmp_path / "viewstamp.toml")
    assert (ran.code, config.protocol) == (failures.DONE, "raft")
    assert config.addresses == {1: ("127.0.0.1", 7101), 2: ("127.0.0.1", 7102), 3: ("127.0.0.1", 7103)}
    assert config.secret == str(tmp_path / "viewstamp.secret")
    assert (tmp_path / "viewstamp.secret").stat().st_mode & 0o777 == 0o600
    assert config.local_secret is not None


def test_two_clusters_differ_when_no_id_is_given(command: Command, tmp_path: Path) -> None:
    command("init", "one.toml")
    command("init", "two.toml")
    ids = {ClusterConfig.load(tmp_path / name).cluster_id for name in ("one.toml", "two.toml")}
    assert len(ids) == 2


def test_members_get_ids_in_order_when_they_are_listed(command: Command, tmp_path: Path) -> None:
    command("init", "five.toml", "--members", "a:1,b:2,[::1]:3", "--cluster-id", "mine")
    config = ClusterConfig.load(tmp_path / "five.toml")
    assert config.addresses == {1: ("a", 1), 2: ("b", 2), 3: ("::1", 3)}
    assert (config.cluster_id, config.secret) == ("mine", None)
    assert not (tmp_path / "five.secret").exists()


def test_secret_is_kept_when_there_is_one(command: Command, tmp_path: Path) -> None:
    command("init")
    before = (tmp_path / "viewstamp.secret").read_text()
    (tmp_path / "viewstamp.toml").unlink()
    assert command("init").code == failures.DONE
    assert (tmp_path / "viewstamp.secret").read_text() == before


def test_existing_file_is_left_as_it_is(command: Command, tmp_path: Path) -> None:
    (tmp_path / "viewstamp.toml").write_text("precious")
    ran = command("init")
    assert ran.code == failures.CONFIGURATION
    assert "exists and is left as it is" in ran.complaint
    assert (tmp_path / "viewstamp.toml").read_text() == "precious"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ("a:1,a:1", "two members have the address"),
        ("a", "HOST:PORT"),
        ("a:0", "out of range"),
        ("a:70000", "out of range"),
        ("::1:7000", "brackets"),
        (" , ", "--members is empty"),
    ],
)
def test_members_are_refused_in_one_line_when_they_cannot_be_used(
    command: Command, tmp_path: Path, members: str, reason: str
) -> None:
    ran = command("init", "--members", members)
    assert ran.code == failures.CONFIGURATION
    assert reason in ran.complaint
    assert not (tmp_path / "viewstamp.toml").exists()


@pytest.mark.parametrize(
    ("flag", "value"), [("--protocol", "zab"), ("--cluster-id", "no spaces"), ("--cluster-id", "")]
)
def test_setting_is_refused_when_it_cannot_be_used(command: Command, flag: str, value: str) -> None:
    ran = command("init", flag, value)
    assert ran.code == failures.CONFIGURATION
    assert ran.complaint


def test_file_is_refused_when_two_members_share_an_id(command: Command, tmp_path: Path) -> None:
    command("init")
    path = tmp_path / "viewstamp.toml"
    path.write_text(path.read_text().replace("id = 2", "id = 1"))
    ran = command("status")
    assert ran.code == failures.CONFIGURATION
    assert "two members have the id 1" in ran.complaint
