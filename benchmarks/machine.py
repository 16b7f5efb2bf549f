"""What a figure was measured on."""

import os
import platform
from pathlib import Path
from typing import Any

_MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")


def describe() -> dict[str, Any]:
    """Return what a reader needs to know of this machine."""
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
    }


def file_system(folder: Path) -> str:
    """Return the kind of file system that holds a folder."""
    place, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mounted, found, *_ = line.split()
        if folder.resolve().is_relative_to(mounted) and len(mounted) >= len(place):
            place, kind = mounted, found
    return kind


def check_disk(folder: Path) -> None:
    """End the program where a sync costs nothing: the figures would be of another world."""
    kind = file_system(folder)
    if kind in _MEMORY_FILE_SYSTEMS:
        raise SystemExit(
            f"{folder} is on {kind}, where a sync costs nothing: give --directory on a real disk"
        )
