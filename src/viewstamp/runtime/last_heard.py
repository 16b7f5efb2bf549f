"""When a node last heard of a leader, and what it knew to be committed then, in a file of its directory.

Written twice a second and never synced: it costs nothing, and after the loss of a majority it says since when
something may be missing (`viewstamp recover plan`). The log itself knows no wall clock.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from viewstamp.core.messages import UNREADABLE
from viewstamp.core.protocol import Status

NAME: Final = "heard.json"
_BYTES_MAX: Final = 4096


class LastHeard(msgspec.Struct, frozen=True):
    """What the file says."""

    at: str
    """UTC, ISO 8601."""
    committed: int
    """Seqno up to where the node knew the log to be committed."""
    view: int
    leader: int


class Diary:
    """Writes the file of one node."""

    __slots__ = ("_path",)

    def __init__(self, directory: str | None) -> None:
        self._path = None if directory is None else Path(directory) / NAME

    def note(self, status: Status) -> None:
        """Write where the node stands, if it knows of a leader. A disk that refuses costs only this."""
        if self._path is None or status.leader is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")  # noqa: TID251  a moment for people
        heard = LastHeard(now, status.committed, status.view, status.leader)
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_bytes(msgspec.json.encode(heard))
            temporary.replace(self._path)
        except OSError:
            return


def read_last_heard(directory: str) -> LastHeard | None:
    """Return what a node wrote; None where it never did, or the file was damaged."""
    try:
        content = (Path(directory) / NAME).read_bytes()
        return msgspec.json.decode(content[:_BYTES_MAX], type=LastHeard)
    except (OSError, *UNREADABLE):
        return None
