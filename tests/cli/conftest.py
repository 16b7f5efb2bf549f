"""A cluster in this process, and the command line called as a function."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from viewstamp.cli.app import run
from viewstamp.runtime.local import BlockingLocalCluster, local_cluster
from viewstamp.runtime.secret_file import make_secret
from viewstamp.services.kv import KeyValueStore


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line of standard error."""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("viewstamp: "), self.err
        return self.err.removeprefix("viewstamp: ").rstrip("\n")


Command = Callable[..., Ran]
Cluster = BlockingLocalCluster[KeyValueStore]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Call a command in an empty directory; return its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])

    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    secret = tmp_path_factory.mktemp("secret") / "secret"
    make_secret(secret)
    with local_cluster(KeyValueStore, secret=secret) as running:
        running.leader()
        yield running


@pytest.fixture
def here(cluster: Cluster, tmp_path: Path) -> Cluster:
    """The cluster, with its file where a command looks for it."""
    cluster.config.save(tmp_path / "viewstamp.toml")
    return cluster


@pytest.fixture(autouse=True)
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let seed files and drawings go into a folder of the test."""
    folder = tmp_path / "reports"
    monkeypatch.setenv("VIEWSTAMP_REPORTS", str(folder))
    return folder
