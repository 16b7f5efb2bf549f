"""What is in force at a position of the log: the level of features, and the version of the user's class.

Both are part of the replicated state. The first entry of a log says where they begin; only an entry raises
them (docs/design/decisions.md#versions). A node whose code is too old for an entry goes on storing and
acknowledging what comes; it stops applying and serving, and says so. With newer code it goes on from there.

A feature that writes something new into the log or onto the disk belongs to a level. It asks `may_write`
first, or, where an operator's directive causes it, stands in `LEVEL_OF_DIRECTIVE`.
"""

from typing import Any, Final

import msgspec

from viewstamp.core.events import ChangeMembers
from viewstamp.core.ids import LEVEL
from viewstamp.core.snapshots import Versions

LEVEL_OF_DIRECTIVE: Final[dict[type[Any], int]] = {ChangeMembers: 1}
"""The level that must be in force before an operator may give a directive of this type; 0 where unsaid."""


class NewerCodeNeeded(Exception):
    """A committed entry or a snapshot is for newer code than this. Nothing was changed by it."""


class Declaration(msgspec.Struct, frozen=True, array_like=True):
    """What an entry says of the user's class: where a log begins, or what it is raised to."""

    machine: int
    """The version of the class that is in force from this entry on."""
    interface: dict[str, str]
    """What the class defines at that version (`machine.interface`); empty: not known."""
    raises: bool = False
    """Whether this raises what is in force. Else it counts only where nothing is in force yet."""
    limit: tuple[str, int] | None = None
    """A limit of sessions that this entry changes, and to what."""


def may_write(in_force: Versions | None, level: int) -> str | None:
    """Return why what belongs to `level` may not be written yet; None: it may.

    Before the first entry nothing is in force: it will begin with all that this code knows.
    """
    now = LEVEL if in_force is None else in_force.level
    if level <= now:
        return None
    return f"this needs level {level}, and level {now} is in force: run `viewstamp upgrade finalize` first"


def directive_refusal(in_force: Versions | None, directive: Any) -> str | None:
    """Return why this directive may not be carried out at the level in force; None: it may."""
    return may_write(in_force, LEVEL_OF_DIRECTIVE.get(type(directive), 0))
