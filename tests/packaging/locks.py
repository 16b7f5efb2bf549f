"""What the lock files hold, what the project asks for, and what of that a lock leaves open."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
_ENTRY = re.compile(
    r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?: ; (?P<marker>.*?))? \\\n"
    r"(?P<hashes>(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)
_PLATFORMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    "darwin": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
}
ENVIRONMENTS = {
    f"{version} on {platform}": {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
        **names,
    }
    for version in ("3.11", "3.12", "3.13")
    for platform, names in _PLATFORMS.items()
}


class Entry(NamedTuple):
    """One package of a lock."""

    version: str
    marker: str | None
    hashes: int


def read_lock(text: str) -> dict[str, Entry]:
    """Return the packages of a lock by name."""
    return {
        found["name"]: Entry(found["version"], found["marker"], found["hashes"].count("--hash="))
        for found in _ENTRY.finditer(text)
    }


def asked_for(extras: Sequence[str], groups: Sequence[str]) -> list[Requirement]:
    """Return the requirements of the project with these extras and dependency groups."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    lines = [*(project["dependencies"] if extras else ())]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    for group in groups:
        lines += _group(settings["dependency-groups"], group)
    return [Requirement(line) for line in lines]


def _group(groups: Mapping[str, list[str | dict[str, str]]], name: str) -> Iterator[str]:
    for line in groups[name]:
        if isinstance(line, str):
            yield line
        else:
            yield from _group(groups, line["include-group"])


@cache
def requirements_of(name: str) -> list[Requirement]:
    """Return what the installed package requires, whatever the markers say."""
    return [Requirement(line) for line in metadata.distribution(name).requires or ()]


def left_open(
    lock: Mapping[str, Entry],
    roots: Sequence[Requirement],
    environment: Mapping[str, str],
    requirements: Callable[[str], list[Requirement]] = requirements_of,
) -> list[str]:
    """Return each requirement, direct or not, that the lock does not meet there, over extras and markers."""
    found: list[str] = []
    seen: set[tuple[str, str]] = set()
    waiting = [(one, "the project", "") for one in roots]
    while waiting:
        wanted, by, extra = waiting.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({**environment, "extra": extra}):
            continue
        name = canonicalize_name(wanted.name)
        entry = lock.get(name)
        if entry is None or not _applies(entry, environment) or not wanted.specifier.contains(entry.version):
            found.append(f"{wanted} of {by}")
            continue
        for part in {"", *wanted.extras} - {one for known, one in seen if known == name}:
            seen.add((name, part))
            waiting += [(one, name, part) for one in requirements(name)]
    return sorted(found)


def _applies(entry: Entry, environment: Mapping[str, str]) -> bool:
    return entry.marker is None or Marker(entry.marker).evaluate({**environment})
