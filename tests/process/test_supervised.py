"""A server as its own process under a supervisor: told of start and stop, asked over HTTP, logging JSON."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.config import ClusterConfig, Member

pytestmark = pytest.mark.process
WAIT_S = 60.0


def _heard(listening: socket.socket, wanted: bytes) -> None:
    """Wait until the server has said this to its supervisor."""
    while listening.recv(100) != wanted:
        pass


def _get(path: Path, target: str) -> tuple[int, str]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(WAIT_S)
        client.connect(str(path))
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := client.recv(65_536):
            answer += data
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


def test_a_supervisor_hears_of_the_start_and_the_stop_and_http_answers_between(tmp_path: Path) -> None:
    cluster = ClusterConfig(cluster_id="alone", members=(Member(1, "127.0.0.1", free_ports(1)[0]),))
    cluster.save(tmp_path / "viewstamp.toml")
    http, address = tmp_path / "http", tmp_path / "notify"
    arguments = ["serve", "--node", "1", "--data", "data", "--http", f"unix:{http}", "--log-format", "json"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(address))
        listening.settimeout(WAIT_S)
        with subprocess.Popen(
            [sys.executable, "-m", "viewstamp", *arguments],
            cwd=tmp_path,
            env={**os.environ, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "300000"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as server:
            try:
                _heard(listening, b"READY=1")
                _heard(listening, b"WATCHDOG=1")
                assert _get(http, "/livez") == (200, "ok\n")
                assert "viewstamp_sync_seconds_bucket" in _get(http, "/metrics")[1]
                server.send_signal(signal.SIGTERM)
                _heard(listening, b"STOPPING=1")
                _, log = server.communicate(timeout=WAIT_S)
            finally:
                server.kill()
    assert server.returncode == 0
    events = {json.loads(line)["event"] for line in log.decode().splitlines()}
    assert {"serving", "leader_changed"} <= events
    assert "other" not in events
