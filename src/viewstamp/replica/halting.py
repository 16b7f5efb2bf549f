"""Why a replica stops permanently, in the words that an operator gets: what happened, and what to do."""

from typing import Final

from viewstamp.core.errors import MOVE_AWAY, EntryNotExecutable
from viewstamp.core.ids import NodeId, Viewstamp
from viewstamp.replica.events import Halt

ADVICE: Final = f"if the others run another class, start it again with theirs; else, {MOVE_AWAY}"
"""What to do with a replica whose state differs. Its log is intact; the state computed from it is not."""


def diverged(node: NodeId, reason: str) -> Halt:
    """Return the end of a replica whose state is not, or cannot be, that of the others."""
    return Halt(f"node {node} has stopped: {reason}; {ADVICE}")


def execution_failed(node: NodeId, viewstamp: Viewstamp, error: Exception) -> EntryNotExecutable:
    """Return what ends a replica in the middle of an entry: the machine did not come to a result here."""
    return EntryNotExecutable(not_executable(node, viewstamp, f"{type(error).__name__}: {error}").reason)


def not_executable(node: NodeId, viewstamp: Viewstamp, cause: str) -> Halt:
    """Return the end of a replica that cannot execute a committed entry."""
    return Halt(
        f"node {node} cannot execute the committed entry {viewstamp}: {cause}. No data is lost: the entry "
        "stays in the log of the members. Move no data directory away. If another version or class wrote the "
        "entry, start this node again with it; else look at the entry with "
        f"`viewstamp journal show DIR --at {viewstamp}`, and if no member can execute it, stop all of them "
        f"and give it up with `viewstamp journal skip DIR... --at {viewstamp}`",
        cause="not executable",
    )
