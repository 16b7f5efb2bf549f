"""Files and folders that are not what they should be: one line and an exit code, never a hang."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from viewstamp.cli import failures
from viewstamp.runtime.config import ClusterConfig, Member

pytestmark = pytest.mark.process

WITHIN_S = 20


def run(*arguments: str, cwd: Path | None = None) -> tuple[int, str]:
    """Run `viewstamp`; a hang is a failure."""
    done = subprocess.run(
        [sys.executable, "-m", "viewstamp", *arguments],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
        cwd=cwd,
    )
    return done.returncode, done.stderr


@pytest.fixture
def cluster_file(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.toml"
    ClusterConfig(cluster_id="files", members=(Member(1, "127.0.0.1", 1),)).save(path)
    return path


@pytest.mark.parametrize("kind", ["/dev/zero", "/dev/stdin", "fifo", "folder"])
@pytest.mark.parametrize("verb", ["serve", "status"])
def test_a_cluster_file_that_is_not_a_file_is_refused(tmp_path: Path, kind: str, verb: str) -> None:
    path = tmp_path / "thing"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path(kind)
    arguments = [verb, "--cluster", str(path)]
    arguments += ["--node", "1", "--data", str(tmp_path / "data")] if verb == "serve" else []
    code, error = run(*arguments)
    assert code == failures.CONFIGURATION
    assert error.count("\n") == 1, error


@pytest.mark.parametrize("name", ["identity", "lock", "journal/00000001.segment", "snapshots/x.snapshot"])
def test_a_fifo_in_a_data_directory_hangs_nothing(tmp_path: Path, cluster_file: Path, name: str) -> None:
    data = tmp_path / "data"
    (data / name).parent.mkdir(parents=True, mode=0o700)
    data.chmod(0o700)
    os.mkfifo(data / name)
    code, error = run("serve", "--cluster", str(cluster_file), "--node", "1", "--data", str(data))
    assert code in {failures.CONFIGURATION, failures.STORAGE}
    assert error.count("\n") == 1, error


@pytest.mark.parametrize("name", ["journal", "snapshots"])
def test_folders_that_others_may_write_are_refused(tmp_path: Path, cluster_file: Path, name: str) -> None:
    data = tmp_path / "data"
    (data / name).mkdir(parents=True)
    data.chmod(0o700)
    (data / name).chmod(0o777)
    code, error = run("serve", "--cluster", str(cluster_file), "--node", "1", "--data", str(data))
    assert code == failures.CONFIGURATION
    assert name in error


APP = """
import viewstamp
class Counter(viewstamp.StateMachine):
    total: int = 0
    @viewstamp.command
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total
"""


def test_serve_takes_only_the_machine_from_the_folder_it_stands_in(
    tmp_path: Path, cluster_file: Path
) -> None:
    """Another module there has the name of one that is imported later: it is not taken for it."""
    trap = tmp_path / "trap"
    trap.mkdir()
    for module in sys.stdlib_module_names | {"msgspec", "xxhash", "viewstamp", "uvloop", "cyclopts"}:
        (trap / f"{module}.py").write_text("import pathlib\npathlib.Path('sprung').touch()\n")
    (trap / "app.py").write_text(APP)
    where = ["--cluster", str(cluster_file), "--node", "1", "--data", str(tmp_path / "data")]
    arguments = ["serve", "app:Counter", *where, "--listen-host", "192.0.2.1", "--insecure"]
    start = "import sys; sys.path.remove(''); from viewstamp.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, *arguments],
        cwd=trap,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert "cannot listen" in done.stderr, done.stderr
    assert not (trap / "sprung").exists()


@pytest.mark.parametrize("depth", [100, 500, 990, 1_100, 5_000])
def test_check_calls_deep_arguments_unreadable_and_not_a_violation(tmp_path: Path, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    line = f'{{"client":1,"call":1,"return":2,"op":"put","key":"k","args":[{deep},0],"outcome":"ok"}}\n'
    history = tmp_path / "history.jsonl"
    history.write_text(line * 2)
    code, error = run("check", str(history), "--model", "kv")
    assert code != 1 or "Traceback" not in error, error
    assert "Traceback" not in error
