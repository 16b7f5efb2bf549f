"""What the product weighs, what it brings along, and what works without the command line's libraries."""

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.packaging.locks import ENVIRONMENTS, ROOT, asked_for, requirements_of

WHEEL_BYTES_MAX = 1_450_000
"""What the product is today: see docs/design/decisions.md#wheel-limit."""
BASE_PACKAGES_MAX = 4
BASE_BYTES_MAX = 5_850_000
"""Of all files in the wheels of a base installation; the bytecode that Python adds comes on top."""


def base_packages() -> set[str]:
    """Return what `pip install viewstamp` installs here, itself left out."""
    here = {**ENVIRONMENTS["3.11 on linux"]}
    found: set[str] = set()
    waiting = asked_for(["cli"], [])[:-1]
    while waiting:
        one = waiting.pop()
        if canonicalize_name(one.name) not in found and (one.marker is None or one.marker.evaluate(here)):
            found.add(canonicalize_name(one.name))
            waiting += requirements_of(one.name)
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    program = "import sys, uv_build; print(uv_build.build_wheel(sys.argv[1]))"
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    built = subprocess.run(
        [sys.executable, "-c", program, folder],
        cwd=ROOT,
        env={"PATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    return folder / built.stdout.splitlines()[-1]


def test_wheel_is_small_and_has_the_product_only(wheel: Path) -> None:
    size = wheel.stat().st_size
    assert size <= WHEEL_BYTES_MAX, f"{wheel.name}: {size:,} bytes"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"viewstamp", "viewstamp-0.1.0.dist-info"}
    assert {"viewstamp/py.typed", "viewstamp/cli/app.py", "viewstamp/sim/__init__.py"} <= set(names)
    assert [name for name in names if "labs" in name or "tests" in name] == []


def test_base_installation_is_light(wheel: Path) -> None:
    packages = base_packages()
    assert packages == {"msgspec", "typing-extensions", "xxhash"}
    assert len({*packages, "viewstamp"}) <= BASE_PACKAGES_MAX
    with zipfile.ZipFile(wheel) as archive:
        size = sum(member.file_size for member in archive.infolist())
    for name in packages:
        files = metadata.files(name) or ()
        size += sum(file.size or 0 for file in files)
    assert size <= BASE_BYTES_MAX, f"base installation: {size:,} bytes"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with what a base installation has, and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "viewstamp").symlink_to(ROOT / "src" / "viewstamp")
    for name in base_packages():
        for file in metadata.files(name) or ():
            link = folder / file.parts[0]
            if not link.exists() and ".." not in file.parts:
                link.symlink_to(Path(str(file.locate())).parents[len(file.parts) - 1] / file.parts[0])
    return folder


def run_on(site: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program that can import the standard library and what is on this site."""
    text = f"import sys; sys.path.append({str(site)!r})\n{program}"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", text, *arguments],
        cwd=site, capture_output=True, text=True, check=False,
    )  # fmt: skip


CLUSTER = """
import viewstamp

class Counter(viewstamp.StateMachine):
    value: int = 0

    @viewstamp.command
    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

with viewstamp.local_cluster(Counter, replicas=3) as cluster, cluster.connect() as counter:
    print(counter.add(3))
"""


def test_cluster_runs_without_the_extra(site: Path) -> None:
    ran = run_on(site, CLUSTER)
    assert (ran.stdout, ran.stderr) == ("3\n", "")


COMMAND = "from viewstamp.__main__ import main; main()"
MISSING = "viewstamp: cyclopts is not installed; nothing was done. Install it: pip install 'viewstamp[cli]'\n"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--help",
        "serve --node 1 --data data",
        "demo",
        "sim",
        "lock name -- true",
        "kv get --help",
        "nonsense",
    ],
)
def test_command_says_what_to_install(line: str, site: Path) -> None:
    ran = run_on(site, COMMAND, *line.split())
    assert (ran.returncode, ran.stdout, ran.stderr) == (78, "", MISSING)


def test_quick_commands_work_without_the_extra(site: Path) -> None:
    ran = run_on(site, COMMAND, "kv", "get", "a", "--servers", "127.0.0.1:1", "--timeout", "0.1")
    assert ran.returncode == 3
    assert ran.stderr.startswith("viewstamp: ")
    assert "cyclopts" not in ran.stderr
