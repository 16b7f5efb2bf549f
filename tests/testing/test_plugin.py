"""The plugin as pytest loads it, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APP = """
import viewstamp

class Shop(viewstamp.StateMachine):
    stock: dict[str, int] = {}

    @viewstamp.command
    def deliver(self, item: str, count: int) -> int:
        self.stock[item] = self.stock.get(item, 0) + count
        return self.stock[item]

class Broken(viewstamp.StateMachine):
    names: dict[str, int] = {}
    calls: int = 0

    @viewstamp.command
    def add(self, name: str, count: int) -> int:
        self.calls = self.calls + 1
        return divided(10, count)

def divided(number: int, by: int) -> int:
    return number // by
"""
TESTS = """
from app import Broken, Shop
import viewstamp.testing

@viewstamp.testing.disasters(Shop, seeds=2)
def test_shop(run):
    assert sum(run.state().stock.values()) >= 0

@viewstamp.testing.disasters(Broken, seeds=2)
def test_broken(run):
    pass

def test_machine(viewstamp_machine):
    lent = viewstamp_machine(Shop)
    with lent.command():
        assert lent.machine.deliver("a", 1) == 1

def test_sim(viewstamp_sim):
    cluster = viewstamp_sim(Shop, nodes=3)
    cluster.kill(cluster.leader())
    assert cluster.call("deliver", "a", 1, timeout_s=30) == 1
"""
REAL = """
from app import Shop

def test_cluster(viewstamp_cluster):
    cluster = viewstamp_cluster(Shop)
    shop = cluster.client()
    assert shop.deliver("a", 1) == 1
    leader = cluster.leader()
    others = [node for node in (0, 1, 2) if node != leader]
    cluster.partition({leader}, others)
    assert shop.deliver("a", 1) == 2
    cluster.heal()
    cluster.delay(0.01)
    cluster.advance(3.0)
    assert shop.deliver("a", 1) == 3
    cluster.heal()
    cluster.snapshot(cluster.leader())
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "app.py").write_text(APP)
    environment = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(folder)]),
    }
    program = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "viewstamp.testing.plugin",
        "-p",
        "no:cacheprovider",
        "-q",
    ]
    return subprocess.run(
        [*program, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_report_is_the_same_when_tests_run_in_workers(tmp_path: Path) -> None:
    (tmp_path / "test_app.py").write_text(TESTS)
    alone = run(tmp_path, "test_app.py")
    assert alone.returncode == 1, alone.stdout + alone.stderr
    assert "1 failed, 3 passed" in alone.stdout
    first = {path.name: path.read_bytes() for path in (tmp_path / ".viewstamp").iterdir()}
    assert set(first) == {"Broken-0.json", "Broken-0.html"}
    shared = run(tmp_path, "-p", "xdist.plugin", "-n", "2", "test_app.py")
    assert "1 failed, 3 passed" in shared.stdout, shared.stdout
    assert {path.name: path.read_bytes() for path in (tmp_path / ".viewstamp").iterdir()} == first


def test_class_is_examined_when_the_command_line_names_it(tmp_path: Path) -> None:
    right = run(tmp_path, "--viewstamp", "app:Shop", "--viewstamp-seeds", "2")
    assert right.returncode == 0, right.stdout
    broken = run(tmp_path, "--viewstamp", "app:Broken", "--viewstamp-seconds", "5")
    assert broken.returncode == 1
    assert "app:Broken: VS013 half-done" in broken.stdout
    assert re.search(r"replay: viewstamp sim --replay \.viewstamp/Broken-0\.json\n", broken.stdout)
    assert "Traceback" not in broken.stdout
    unknown = run(tmp_path, "--viewstamp", "app:Nothing")
    assert unknown.returncode != 0
    assert "--viewstamp app:Nothing" in unknown.stdout + unknown.stderr


@pytest.mark.process
def test_real_cluster_is_disturbed_when_a_test_says_so(tmp_path: Path) -> None:
    (tmp_path / "test_real.py").write_text(REAL)
    ran = run(tmp_path, "test_real.py")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_plugin_that_nobody_asks_loads_nothing_else() -> None:
    """pytest imports it at its start in every project: before the project's own coverage begins, for one."""
    program = "import sys, viewstamp.testing.plugin; print(*(m for m in sys.modules if 'viewstamp' in m))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) == {
        "viewstamp",
        "viewstamp.testing",
        "viewstamp.testing.plugin",
        "viewstamp.testing.settings",
    }
