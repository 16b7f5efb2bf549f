"""Prepares the environment of this checkout: `install.py FOLDER LOCK ... [--editable PROJECT ...]`.

It uses the standard library only; the Makefile has seen to it that the interpreter is new enough.
Packages come from locks with hashes. pip resolves nothing (`--no-deps`), takes wheels only, and fetches no
build tools, so a release that is newer than the lock cannot matter. docs/design/decisions.md says why pip.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIP_LOCK = Path("requirements", "pip.txt")
NEWEST = (3, 13)
"""The newest Python for which the locks are known to have wheels."""
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")
FROM_LOCK = (
    *PIP, "install", "--no-deps", "--only-binary=:all:", "--no-build-isolation",
    "--require-hashes", "-r",
)  # fmt: skip
FROM_HERE = (*PIP, "install", "--no-deps", "--no-build-isolation", "--no-index", "--editable")
FETCHING = {
    "PIP_CACHE_DIR", "PIP_CERT", "PIP_CLIENT_CERT", "PIP_CONFIG_FILE", "PIP_DEFAULT_TIMEOUT",
    "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_KEYRING_PROVIDER", "PIP_NO_CACHE_DIR",
    "PIP_NO_INDEX", "PIP_PROXY", "PIP_RETRIES", "PIP_TIMEOUT", "PIP_TRUSTED_HOST",
}  # fmt: skip
"""Settings of pip that say where and how to fetch. Others (PIP_USER, PIP_TARGET) would change the result."""


class Failed(Exception):
    """The environment could not be prepared. The text is one line and says what to do."""


def main() -> int:
    """Prepare the environment unless it is ready; return the exit code."""
    parser = argparse.ArgumentParser(description="Prepare the environment of this checkout.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("locks", type=Path, nargs="+")
    parser.add_argument("--editable", type=Path, nargs="*", default=[])
    parser.add_argument("--keep", action="store_true", help="a working one keeps its interpreter")
    options = parser.parse_args()
    os.chdir(ROOT)
    try:
        with one_at_a_time():
            prepare(options.folder, options.locks, options.editable, keep=options.keep)
    except (Failed, OSError) as error:
        print(f"install: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(folder: Path, locks: list[Path], projects: list[Path], *, keep: bool) -> None:
    """Make the folder an environment with these locks and projects; do nothing where it is one already."""
    if not is_environment(folder, keep=keep):
        create(folder)
    python = folder / "bin" / "python"
    stamp = folder / f".installed-{locks[-1].stem}"
    wanted = fingerprint([*locks, Path(__file__), *(project / "pyproject.toml" for project in projects)])
    if read(stamp) == wanted:
        return
    print(f"install: {' '.join(map(str, locks))} into {folder}", flush=True)
    stamp.unlink(missing_ok=True)
    for lock in locks:
        run(python, *FROM_LOCK, lock, failed=f"could not install {lock}; {advice()}")
    for project in projects:
        run(
            python, *FROM_HERE, project, failed=f"could not install {project}; run `make clean` and try again"
        )
    run(python, *PIP, "check", failed=f"{locks[-1]} leaves something open; run `make lock` and commit")
    stamp.write_text(wanted, encoding="utf-8")


def is_environment(folder: Path, *, keep: bool) -> bool:
    """Return whether the folder is an environment, made here and by this interpreter (`keep`: by any)."""
    made_by = read(folder / ".made-by")
    if made_by is None or not (folder / "bin" / "python").exists():
        return False
    return made_by == made_by_this(folder) or (keep and made_by.splitlines()[-1] == place(folder))


def create(folder: Path) -> None:
    """Put a new environment with the pinned pip in the place of whatever lies there.

    Raises:
        Failed: this interpreter cannot make environments, or the folder is something else.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise Failed(f"{folder} is not an environment; move it away")
    print(f"install: a new {folder} with Python {version}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    base = Path(getattr(sys, "_base_executable", sys.executable))  # not the one of an activated environment
    run(
        base, "-m", "venv", folder,
        failed=f"{base} cannot make environments; install its venv module (Debian: apt install python3-venv)",
    )  # fmt: skip
    run(folder / "bin" / "python", *FROM_LOCK, PIP_LOCK, failed=f"could not install {PIP_LOCK}; {advice()}")
    (folder / ".made-by").write_text(made_by_this(folder), encoding="utf-8")


def made_by_this(folder: Path) -> str:
    """Return what an environment that this interpreter made in this place has in `.made-by`."""
    return f"{sys.version}\n{sys.base_prefix}\n{fingerprint([PIP_LOCK])}\n{place(folder)}"


def place(folder: Path) -> str:
    """Return the absolute path: an environment that was moved or copied does not work."""
    return str(folder.absolute())


def fingerprint(files: list[Path]) -> str:
    """Return a digest of the files' contents. Times of files say nothing after a clone or a checkout."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def read(path: Path) -> str | None:
    """Return what the file holds; None if there is none."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return path.read_text(encoding="utf-8")
    return None


def run(python: Path, *arguments: str | Path, failed: str) -> None:
    """Run the interpreter, its output on standard error.

    Raises:
        Failed: with this text, if its exit code is not 0.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in FETCHING or not name.startswith(("PIP_", "PYTHON", "VIRTUAL_ENV", "__PYVENV"))
    }
    path = os.pathsep.join(
        [str(python.parent.absolute()), os.environ.get("PATH", os.defpath)]
    )  # the build backend
    done = subprocess.run([python, *arguments], env={**kept, "PATH": path}, stdout=sys.stderr, check=False)  # noqa: S603
    if done.returncode:
        raise Failed(failed)


def advice() -> str:
    """Return what to do when packages could not be fetched: the reason is in pip's lines above."""
    if sys.version_info[:2] > NEWEST:
        version = ".".join(map(str, sys.version_info[:2]))
        return f"the lock may have no wheels for Python {version}; name another: make PYTHON=python3.13 ..."
    return "check the network (pip's settings and PIP_INDEX_URL are used), then run the same command again"


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait until no other process prepares an environment of this checkout."""
    checkout = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(checkout, fcntl.LOCK_EX)
        yield
    finally:
        os.close(checkout)


if __name__ == "__main__":
    sys.exit(main())
