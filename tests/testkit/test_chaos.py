"""Real servers under disasters: allowed, judged, and healed in the end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.addresses import LOOPBACK, free_ports
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.testkit.chaos import Chaos

ROOT = Path(__file__).parents[2]


def cluster(*, chaos: bool = True, host: str = LOOPBACK) -> ClusterConfig:
    members = tuple(Member(node, host, port) for node, port in enumerate(free_ports(3), 1))
    return ClusterConfig(cluster_id="staging", members=members, chaos=chaos)


@pytest.mark.parametrize(
    ("config", "told"),
    [(cluster(chaos=False), "chaos = true"), (cluster(host="192.0.2.1"), "member 1 is not on 127.0.0.1")],
    ids=["not allowed", "elsewhere"],
)
def test_nothing_is_started_when_a_cluster_may_not_be_disturbed(
    config: ClusterConfig, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Chaos(tmp_path / "c.toml", config, tmp_path, 1, print)


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    cluster().save(tmp_path / "staging.toml")
    program = [sys.executable, "-m", "viewstamp", "chaos", "--cluster", str(tmp_path / "staging.toml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    # In the background of a shell, tests are told to ignore Ctrl-C, and what they start inherits that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen([*program, *arguments], stdout=subprocess.PIPE, text=True, env=environment)
    finally:
        signal.signal(signal.SIGINT, before)


def children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(number) for number in text.split()]


@pytest.mark.process
def test_cluster_is_healed_and_stopped_when_chaos_is_interrupted(tmp_path: Path) -> None:
    with start(tmp_path, "--minutes", "10", "--only", "pause,kill", "--seed", "1") as running:
        assert running.stdout is not None
        assert "node" in running.stdout.readline()
        servers = children(running.pid)
        assert servers
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    assert [server for server in servers if Path(f"/proc/{server}").exists()] == []


@pytest.mark.process
def test_history_is_judged_when_a_cluster_was_disturbed(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    arguments = ("--minutes", "0.1", "--only", "partition,slow-disk,clock", "--history", str(history))
    with start(tmp_path, *arguments) as running:
        out, _ = running.communicate(timeout=120)
    assert running.returncode == 0, out
    assert "the history: ok" in out
    assert len(history.read_text().splitlines()) > 20
