"""The locks are closed: whatever a locked package requires is in its lock, on every Python that counts."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.packaging.locks import ENVIRONMENTS, ROOT, Entry, asked_for, left_open, read_lock

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
CLOSED = {
    "pip": asked_for([], ["pip"]),
    "run": asked_for(["cli"], ["run"]),
    "dev": asked_for(["cli", "speed", "http", "tokens", "tls", "objects", "age"], ["dev"]),
}
"""The locks whose packages are installed where the tests run, with what each is made for."""


def text_of(lock: str) -> str:
    return (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("lock", CLOSED)
def test_lock_meets_every_requirement(lock: str, environment: str) -> None:
    assert left_open(read_lock(text_of(lock)), CLOSED[lock], ENVIRONMENTS[environment]) == []


def test_gap_is_noticed_wherever_it_is() -> None:
    lock = read_lock(text_of("dev"))
    here = ENVIRONMENTS["3.11 on linux"]
    for name in set(lock) - {"colorama", "tzdata"}:  # for Windows only
        rest = {other: entry for other, entry in lock.items() if other != name}
        lines = [re.sub(r"[-_.]", "-", line.lower()) for line in left_open(rest, CLOSED["dev"], here)]
        assert any(name in line for line in lines), name


def test_gap_is_noticed_behind_an_extra_and_a_marker() -> None:
    known = {
        "pytest-cov": [Requirement("coverage[toml]>=7")],
        "coverage": [Requirement('tomli>=2; python_version < "3.12" and extra == "toml"')],
    }
    lock = {"pytest-cov": Entry("7.1.0", None, 1), "coverage": Entry("7.17.3", None, 1)}

    def gaps(environment: str) -> list[str]:
        return left_open(lock, [Requirement("pytest-cov")], ENVIRONMENTS[environment], known.__getitem__)

    assert len(gaps("3.11 on linux")) == 1
    assert gaps("3.12 on linux") == []


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_line_of_a_lock_is_understood_and_has_hashes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lock = read_lock(text)
    assert lock
    assert all(entry.hashes for entry in lock.values())
    assert sum(entry.hashes for entry in lock.values()) == text.count("--hash=")
    assert len(lock) == len(re.findall(r"^\S+==", text, re.MULTILINE))


def test_locks_agree_with_each_other() -> None:
    pinned: dict[str, set[str]] = {}
    for path in LOCKS:
        for name, entry in read_lock(path.read_text(encoding="utf-8")).items():
            pinned.setdefault(name, set()).add(entry.version)
    assert {name: versions for name, versions in pinned.items() if len(versions) > 1} == {}


def test_what_runs_here_is_what_is_locked() -> None:
    lock = read_lock(text_of("dev"))
    here = {canonical: metadata.version(canonical) for canonical in set(lock) - {"colorama", "tzdata"}}
    assert here == {name: lock[name].version for name in here}


def test_build_backend_is_within_what_the_project_asks_for() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (backend,) = map(Requirement, settings["build-system"]["requires"])
    assert backend.specifier.contains(read_lock(text_of("run"))["uv-build"].version)


def test_labs_have_the_version_and_the_backend_of_the_product() -> None:
    product, labs = (
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))
        for folder in (".", "labs")
    )
    assert labs["build-system"] == product["build-system"]
    assert labs["project"]["version"] == product["project"]["version"]
    assert labs["project"]["requires-python"] == product["project"]["requires-python"]
    assert labs["project"]["dependencies"] == [f"viewstamp[cli]=={product['project']['version']}"]
