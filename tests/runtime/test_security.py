"""Closed by default: what a configuration makes of trust, and the file of the secret."""

import os
from pathlib import Path

import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.link.credentials import Trust
from viewstamp.runtime.config import ClusterConfig, Member, NodeConfig
from viewstamp.runtime.secret_file import make_secret, read_secret, user_secret
from viewstamp.runtime.security import INSECURE, client_security, is_loopback, server_security

LOCAL = ClusterConfig(cluster_id="c", members=(Member(1, "127.0.0.1", 7001), Member(2, "localhost", 7002)))
WIDE = ClusterConfig(cluster_id="c", members=(Member(1, "10.0.0.1", 7001), Member(2, "10.0.0.2", 7002)))
HERE = ("127.0.0.1", 7001)
ONE = NodeId(1)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.org", False),
        ("node-1", False),
    ],
)
def test_host_is_loopback_when_only_this_machine_reaches_it(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_members_are_proved_by_the_secret_when_all_is_on_one_machine() -> None:
    security = server_security(LOCAL, ONE, NodeConfig(), HERE)
    assert (security.trust, security.warnings) == (Trust.SECRET, ())
    assert security.secret is not None


@pytest.mark.parametrize(
    ("cluster", "config", "listen"),
    [
        (WIDE, NodeConfig(), ("10.0.0.1", 7001)),
        (LOCAL, NodeConfig(), ("0.0.0.0", 7001)),
        (LOCAL, NodeConfig(advertise="10.0.0.1:7001"), HERE),
        (WIDE, NodeConfig(), HERE),
    ],
)
def test_node_does_not_start_when_others_can_reach_it_and_nothing_protects_it(
    cluster: ClusterConfig, config: NodeConfig, listen: tuple[str, int]
) -> None:
    with pytest.raises(ConfigurationError, match="--insecure"):
        server_security(cluster, ONE, config, listen)


def test_each_status_says_so_when_a_node_was_started_insecure() -> None:
    security = server_security(WIDE, ONE, NodeConfig(insecure=True), ("10.0.0.1", 7001))
    assert (security.trust, security.warnings) == (Trust.NOTHING, (INSECURE,))


def test_secret_still_counts_when_a_node_was_started_insecure(tmp_path: Path) -> None:
    make_secret(tmp_path / "s")
    cluster = ClusterConfig(cluster_id="c", members=WIDE.members, secret=str(tmp_path / "s"))
    security = server_security(cluster, ONE, NodeConfig(insecure=True), ("10.0.0.1", 7001))
    assert (security.trust, security.warnings) == (Trust.SECRET, (INSECURE,))


def test_client_needs_no_secret_when_it_gives_no_directive(tmp_path: Path) -> None:
    unreadable = ClusterConfig(cluster_id="c", members=LOCAL.members, secret=str(tmp_path / "none"))
    assert client_security(unreadable, operator=False).secret is None
    with pytest.raises(ConfigurationError, match="cannot read the secret"):
        client_security(unreadable, operator=True)
    assert client_security(LOCAL, operator=True).secret is not None


def test_secret_is_this_users_alone_when_it_is_made(tmp_path: Path) -> None:
    path = tmp_path / "s"
    make_secret(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["s"]
    text = path.read_text()
    with pytest.raises(ConfigurationError, match="cannot write"):
        make_secret(path)
    assert path.read_text() == text
    read_secret(path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_secret_is_refused_when_others_may_touch_it(tmp_path: Path, mode: int) -> None:
    make_secret(tmp_path / "s")
    (tmp_path / "s").chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_secret(tmp_path / "s")


@pytest.mark.parametrize("text", ["", "00", "g" * 64, "00" * 33, "\xff" * 64, "0" * 5000])
def test_secret_is_refused_when_it_is_not_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s"
    path.touch(0o600)
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigurationError, match="does not hold"):
        read_secret(path)


@pytest.mark.parametrize("kind", ["directory", "link", "missing", "pipe"])
def test_secret_is_refused_when_it_is_no_regular_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "directory":
        path.mkdir(0o700)
    elif kind == "link":
        make_secret(tmp_path / "real")
        path.symlink_to(tmp_path / "real")
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    with pytest.raises(ConfigurationError):
        read_secret(path)


def test_user_has_one_secret_when_several_need_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert user_secret().code(b"", b"", b"") == user_secret().code(b"", b"", b"")
    assert [each.name for each in (tmp_path / "state" / "viewstamp").iterdir()] == ["secret"]
