"""A copy of what installs this project, with an index of its own on disk and locks for it.

The index has each package of our locks at its pinned version, with the requirements of the real one and no
content, and beside it a newer release that cannot be installed.
"""

import ensurepip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker

from tests.packaging import wheels
from tests.packaging.locks import ROOT, Entry, read_lock

BROKEN = "9999"
"""The version of each newer release."""
BASE_PYTHON = str(getattr(sys, "_base_executable", sys.executable))
"""The interpreter that this environment was made with: its own pip is the oldest that matters to it."""


class Checkout:
    """A folder in which `make install-run` and `make install` work, and ask nobody but this index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a checkout"  # with a space
        self.index = folder / "index"
        self.folder.mkdir()
        for name in ("Makefile", "pyproject.toml", "labs/pyproject.toml", "requirements/install.py"):
            (self.folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(ROOT / name, self.folder / name)
        offered = {"pip": _offer_pip(self.index)}
        for name, entry in {**_locked("dev"), **_locked("run")}.items():
            if _applies(entry):
                offered[name] = _offer(self.index, name, entry.version)
        self._lines = {
            lock: [f"{offered[name]}\n" for name in _locked(lock) if name in offered]
            for lock in ("pip", "run", "dev")
        }
        for lock in self._lines:
            self.put_back(lock)

    def replace(self, name: str, old: str, new: str) -> None:
        """Change one of its files, in the one place where this stands."""
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), encoding="utf-8")

    def leave_out(self, lock: str, name: str) -> None:
        """Take a package out of a lock."""
        self._write(lock, [line for line in self._lines[lock] if not line.startswith(f"{name}==")])

    def put_back(self, lock: str) -> None:
        """Write the whole lock."""
        self._write(lock, self._lines[lock])

    def _write(self, lock: str, lines: list[str]) -> None:
        (self.folder / "requirements" / f"{lock}.txt").write_text("".join(lines), encoding="utf-8")

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run make there, without this machine's settings of pip."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIP_", "MAKE", "MFLAGS"))
        }
        pip = {"PIP_INDEX_URL": self.index.as_uri(), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
        return subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=self.folder, env={**kept, **pip, **environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def installed(self) -> dict[str, str]:
        """Return the packages of the environment with their versions."""
        python = self.folder / ".venv" / "bin" / "python"
        listed = subprocess.run(
            [python, "-m", "pip", "--isolated", "--disable-pip-version-check", "list", "--format", "json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return {one["name"].lower().replace("_", "-"): one["version"] for one in json.loads(listed.stdout)}

    def from_locks(self) -> dict[str, str]:
        """Return the packages that are not ours and that no interpreter brings along with pip."""
        own = {"pip", "setuptools", "viewstamp", "viewstamp-labs"}
        return {name: version for name, version in self.installed().items() if name not in own}

    def locked(self, lock: str) -> dict[str, str]:
        """Return what a lock pins."""
        pinned = dict(line.split(" ")[0].split("==") for line in self._lines[lock])
        pinned.pop("setuptools", None)  # an interpreter may bring its own, so it is not looked at
        return pinned


def _locked(lock: str) -> dict[str, Entry]:
    return read_lock((ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8"))


def _applies(entry: Entry) -> bool:
    return entry.marker is None or Marker(entry.marker).evaluate()


def _offer(index: Path, name: str, version: str) -> str:
    """Offer a package of ours and a newer release that is broken; return its line in a lock."""
    real = metadata.metadata(name)
    needs = [
        f"{field}: {value}"
        for field in ("Requires-Dist", "Provides-Extra")
        for value in real.get_all(field, [])
    ]
    files = (
        {"uv_build/__init__.py": Path(wheels.__file__).read_text(encoding="utf-8")}
        if name == "uv-build"
        else {}
    )
    pinned = wheels.write_wheel(_folder(index, name), name, version, needs, files)
    return _list(index, name, version, pinned, extras=[line for line in needs if line.startswith("Provides")])


def _offer_pip(index: Path) -> str:
    """Offer the pip that comes with this interpreter as the pinned one."""
    version = ensurepip.version()
    known = (
        Path(ensurepip.__file__).parent / "_bundled",
        Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or "."),
    )
    wheel = next(path for folder in known for path in folder.glob(f"pip-{version}-*.whl"))
    return _list(index, "pip", version, Path(shutil.copy(wheel, _folder(index, "pip"))), extras=[])


def _list(index: Path, name: str, version: str, pinned: Path, *, extras: list[str]) -> str:
    folder = _folder(index, name)
    newer = wheels.write_wheel(folder, name, BROKEN, ["Requires-Dist: what-nobody-offers", *extras])
    links = "".join(f'<a href="{path.name}">{path.name}</a>\n' for path in (pinned, newer))
    (folder / "index.html").write_text(f"<!DOCTYPE html>\n{links}", encoding="utf-8")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(pinned.read_bytes()).hexdigest()}"


def _folder(index: Path, name: str) -> Path:
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
