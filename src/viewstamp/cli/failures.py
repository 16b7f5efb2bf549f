"""How a command ends: its exit code, and the one line that says what happened and what to do.

The codes from 65 up are those of `sysexits.h`; a server that stops by itself ends with the same ones
(`runtime.server.exit_code`).
"""

import io
import os
import sys
from typing import Final

from viewstamp.cli.output import printable
from viewstamp.core.errors import (
    CommandFailed,
    ConfigurationError,
    Diverged,
    EntryNotExecutable,
    InvalidCall,
    NodeRemoved,
    NotExecuted,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolViolation,
    StorageError,
    ViewstampError,
)

DONE: Final = 0
REFUSED: Final = 1
"""The service said no (no such key, another version), or a check failed, or a node did not answer."""
USAGE: Final = 2
"""The command line cannot be understood. Nothing was done."""
NOT_EXECUTED: Final = 3
"""The call certainly had no effect: it is safe to repeat it."""
OUTCOME_UNKNOWN: Final = 4
"""The call may have had an effect: read before you repeat it."""
LOCK_LOST: Final = 5
"""`viewstamp lock` ended its command, because another may hold the lock."""
DOWN: Final = 6
"""`viewstamp status`: nobody serves."""
DIVERGED: Final = 65
REMOVED: Final = 67
"""This node was removed from its cluster; it will never serve from this directory again."""
NOT_EXECUTABLE: Final = 69
"""A committed entry cannot be executed by this node. No data is lost."""
INTERNAL: Final = 70
"""An invariant of this program's own does not hold."""
STORAGE: Final = 74
STUCK: Final = 75
"""A command or a query ran longer than the node allows."""
DENIED: Final = 77
"""The caller may not do that: no grant or role permits it. Nothing was done."""
CONFIGURATION: Final = 78
"""A file, a setting or an argument's value cannot be used. Nothing was started or changed."""
INTERRUPTED: Final = 130

EXIT_CODES: Final = {
    DONE: "done",
    REFUSED: "the service said no, a check failed, or a node did not answer",
    USAGE: "the command line cannot be understood; nothing was done",
    NOT_EXECUTED: "the call certainly had no effect: it is safe to repeat the call",
    OUTCOME_UNKNOWN: "the call may have had an effect: read the state before you repeat the call",
    LOCK_LOST: "another may hold the lock: `viewstamp lock` ended its command, which may have had effects",
    DOWN: "nobody serves: no leader with enough members is known",
    DIVERGED: "this replica differed from a majority of the members; it has stopped",
    REMOVED: "this node was removed from its cluster: start it with an empty data directory to add it again",
    NOT_EXECUTABLE: "a committed entry cannot be executed: see `viewstamp journal show` and `journal skip`",
    INTERNAL: "an invariant of the program's own does not hold: please report it",
    STORAGE: "the disk failed, or a data directory is damaged",
    STUCK: "a command or a query ran longer than `command_limit_ms`; the node has stopped",
    DENIED: "no grant or role permits that to this caller; nothing was done",
    CONFIGURATION: "a configuration cannot be used; nothing was started or changed",
    INTERRUPTED: "interrupted",
}

_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (ConfigurationError, CONFIGURATION),
    (StorageError, STORAGE),
    (InvalidCall, USAGE),
    (PermissionDenied, DENIED),
    (NotExecuted, NOT_EXECUTED),
    (OutcomeUnknown, OUTCOME_UNKNOWN),
    (CommandFailed, REFUSED),
    (Diverged, DIVERGED),
    (EntryNotExecutable, NOT_EXECUTABLE),
    (NodeRemoved, REMOVED),
    (ProtocolViolation, NOT_EXECUTED),
    (ViewstampError, REFUSED),
    (OSError, STORAGE),
)


def code_of(error: BaseException) -> int | None:
    """Return the exit code for an error that is expected; None for a bug, which deserves its traceback."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)


def complain(message: str) -> None:
    """Print one line to standard error, whatever the message contains."""
    print(f"viewstamp: {printable(' '.join(message.split()))}", file=sys.stderr)


def explain_os_error(error: OSError) -> str:
    """Return what the system said of which file, as words."""
    said = error.strerror or str(error)
    return said if error.filename is None else f"cannot use {error.filename}: {said}"


def give_up_output() -> None:
    """Silence what is still to be printed: the reader has gone (`viewstamp ... | head`)."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


class _Forgiving(io.TextIOWrapper):
    """Standard output of a command that goes on to its end without a reader."""

    def write(self, text: str, /) -> int:
        """Write, or drop the text where nobody reads."""
        try:
            return super().write(text)
        except BrokenPipeError:
            give_up_output()
            return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            super().flush()
        except BrokenPipeError:
            give_up_output()


def go_on_without_readers() -> None:
    """Let this process print to a reader that has gone (`viewstamp check ... | head`) and go on."""
    out = sys.stdout
    if out is sys.__stdout__ and isinstance(out, io.TextIOWrapper):
        sys.stdout = _Forgiving(
            out.detach(), encoding=out.encoding, errors=out.errors, line_buffering=out.line_buffering
        )
