"""The mark of a data directory whose node was removed from its cluster: a restart says so at once."""

from pathlib import Path
from typing import Final

from viewstamp.core.errors import NodeRemoved
from viewstamp.storage.files import OsFileSystem, replace_file

MARK: Final = "removed"
_BYTES_MAX: Final = 4096


def removal_of(data: str) -> str | None:
    """Return why the node of this data directory was removed, in one line; None: it was not."""
    try:
        with (Path(data) / MARK).open("rb") as mark:
            reason = mark.read(_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return None
    return " ".join(reason.split()) or "this node was removed from its cluster"


def refuse_removed(data: str | None) -> None:
    """Raise `NodeRemoved` where the node of this data directory was removed before."""
    if data is not None and (reason := removal_of(data)) is not None:
        raise NodeRemoved(reason)


def remember_removal(data: str | None, failure: BaseException) -> None:
    """Mark a data directory, durably, where this is why its node stops."""
    if data is not None and isinstance(failure, NodeRemoved):
        replace_file(OsFileSystem(), data.rstrip("/") or "/", MARK, str(failure).encode() + b"\n")
