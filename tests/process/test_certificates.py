"""Certificates on real processes: each that is wrong in one way is refused, and new ones come by SIGHUP."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.runtime.certified import NAME, Certified, certify, make, outcome, wrong
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.link.handshake import Doorkeeper, client_hello

CLIENT_HELLO = client_hello(NAME, None)
WITHIN_S = 30.0


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
"""With the folder that holds `tests`, whose machine the members serve."""


@contextmanager
def processes(made: Certified, folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Run the three members, and end them."""
    made.cluster.save(folder / "cluster.toml")
    with ExitStack() as stack:
        started = []
        for node in made.cluster.node_ids:
            words = [sys.executable, "-P", "-m", "viewstamp", "serve", "tests.runtime.machines:Counter"]
            words += ["--cluster", "cluster.toml", "--node", str(node), "--data", f"data{node}"]
            log = stack.enter_context((folder / f"log{node}").open("w"))
            server = subprocess.Popen(
                words, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True, env=ENVIRONMENT
            )
            stack.callback(server.wait)
            stack.callback(server.kill)
            assert server.stdout is not None
            stack.callback(server.stdout.close)
            started.append(server)
        for server in started:
            assert server.stdout is not None
            assert "listens on" in server.stdout.readline()
        yield started


def until_logged(path: Path, words: str) -> None:
    """Wait until a log says this."""
    end = monotonic() + WITHIN_S
    while words not in path.read_text():
        assert monotonic() < end, path.read_text()


@pytest.mark.process
def test_processes_refuse_what_is_wrong_and_take_new_files_when_told(tmp_path: Path) -> None:
    made = make(tmp_path)
    with processes(made, tmp_path) as servers:
        assert made.add(timeout_s=WITHIN_S) == 1
        address = made.cluster.addresses[NodeId(1)]
        for name, files in wrong(made).items():
            ended = outcome(address, files, CLIENT_HELLO)
            assert ended.startswith(("ended", "refused")), (name, ended)
        member = Doorkeeper(made.cluster.identity(NodeId(2), "leader")).hello_to(NodeId(1), Incarnation(9))
        for name in ("client", "operator", "node-3"):
            assert outcome(address, made.files(name), member).startswith("refused"), name
        assert outcome(address, made.files("node-2"), member) == "welcome"  # another incarnation: not listed
        certify(tmp_path, made.authority, renew=True)
        for node, server in zip(made.cluster.node_ids, servers, strict=True):
            server.send_signal(signal.SIGHUP)
            until_logged(tmp_path / f"log{node}", "are loaded")
        assert made.add(timeout_s=WITHIN_S) == 2
        assert [server.poll() for server in servers] == [None, None, None]
