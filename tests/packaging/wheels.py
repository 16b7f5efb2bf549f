"""Wheels without content, written in a moment. The build backend of the test's index is this file, too."""

import base64
import hashlib
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
NOTHING: Mapping[str, str] = {}


def write_wheel(
    folder: Path, name: str, version: str, metadata: Sequence[str] = (), files: Mapping[str, str] = NOTHING
) -> Path:
    """Write a wheel with these lines of metadata and these files; return where."""
    stem = f"{name.replace('-', '_')}-{version}"
    head = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *metadata]
    contents = {
        **files,
        f"{stem}.dist-info/METADATA": "\n".join(head) + "\n",
        f"{stem}.dist-info/WHEEL": _WHEEL,
    }
    record = [*(f"{path},sha256={_digest(text)},{len(text)}" for path, text in contents.items())]
    record.append(f"{stem}.dist-info/RECORD,,")
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
        archive.writestr(f"{stem}.dist-info/RECORD", "\n".join(record) + "\n")
    return wheel


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def build_editable(folder: str, config_settings: object = None, metadata_directory: object = None) -> str:
    """Do what a build backend does for `pip install --editable` (PEP 660), for a project without content."""
    del config_settings, metadata_directory
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return write_wheel(Path(folder), project["name"], project["version"]).name
