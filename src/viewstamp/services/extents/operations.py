"""What the cache of a file system takes in and hands out, and what may be set of it."""

import errno
from typing import Literal, NewType, TypeAlias

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.events import Woke
from viewstamp.core.ids import MICROSECONDS_PER_SECOND
from viewstamp.replica.events import Outcome
from viewstamp.services.extents.model import Attributes, Birth, Entry, Totals
from viewstamp.services.lock_events import Closing, Observed, Told

Ticket = NewType("Ticket", int)
"""One operation. Drawn by the caller, never used twice; above 0."""


class FileOptions(msgspec.Struct, frozen=True):
    """What may be set of a cache.

    Raises:
        ConfigurationError: a setting makes no sense.
    """

    label: str = ""
    """What this client calls itself; shown to anybody who lists the locks."""
    retry_us: int | None = 3 * MICROSECONDS_PER_SECOND
    """How often a waiting client asks for a lock again."""
    claims: bool = False
    """The locks are not in the machine of the files: tokens are shown before anything is believed."""
    dirty_bytes_max: int = 16 << 20
    """Of one file: what is written beyond waits until the service has the rest."""
    clean_bytes_max: int = 64 << 20
    """Of all files: what was read and is kept."""
    held_max: int = 20_000
    """Locks that are kept; beyond, the one that was used longest ago goes back."""
    flush_us: int = 5 * MICROSECONDS_PER_SECOND
    """How long what was written into an open file stays here at most."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name in ("dirty_bytes_max", "clean_bytes_max", "held_max", "flush_us"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be 1 or more")


class FileFailure(Exception):
    """An operation failed; `errno` is what its caller is told."""

    def __init__(self, number: int, explanation: str) -> None:
        super().__init__(explanation)
        self.errno = number


def no_such(explanation: str = "there is no such name") -> FileFailure:
    """Return the failure that there is no such file or directory."""
    return FileFailure(errno.ENOENT, explanation)


# Operations


class Lookup(msgspec.Struct, frozen=True, gc=False):
    """Attributes of a name."""

    parent: int
    name: bytes


class GetAttributes(msgspec.Struct, frozen=True, gc=False):
    """Attributes of an inode."""

    inode: int


class SetAttributes(msgspec.Struct, frozen=True, gc=False):
    """Change what is not None. -> Attributes."""

    inode: int
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


class ReadLink(msgspec.Struct, frozen=True, gc=False):
    """Where a symbolic link points. -> bytes."""

    inode: int


class Create(msgspec.Struct, frozen=True, gc=False):
    """Make an inode and its name. -> Attributes, or `Opened` with `opening`."""

    parent: int
    name: bytes
    birth: Birth
    opening: bool = False
    exclusive: bool = True
    """Refuse a name that is there; else, with `opening`, open the file that has it."""
    cut: bool = False
    """Such a file loses its content."""


class LinkTo(msgspec.Struct, frozen=True, gc=False):
    """Give an inode another name. -> Attributes."""

    inode: int
    parent: int
    name: bytes


class Remove(msgspec.Struct, frozen=True, gc=False):
    """Remove the name of a directory (rmdir), or of anything else (unlink). -> None."""

    parent: int
    name: bytes
    directory: bool


class Rename(msgspec.Struct, frozen=True, gc=False):
    """Move a name, over another one unless `keep`. -> None."""

    parent: int
    name: bytes
    new_parent: int
    new_name: bytes
    keep: bool = False


class Open(msgspec.Struct, frozen=True, gc=False):
    """Open a file. -> `Opened`."""

    inode: int


class Close(msgspec.Struct, frozen=True, gc=False):
    """Forget a handle. -> None."""

    handle: int


class Read(msgspec.Struct, frozen=True, gc=False):
    """Read up to `size` bytes. -> bytes."""

    handle: int
    offset: int
    size: int


class Write(msgspec.Struct, frozen=True, gc=False):
    """Write, at the end of the file where `append`. -> the number of bytes."""

    handle: int
    offset: int
    data: bytes
    append: bool = False


class Sync(msgspec.Struct, frozen=True, gc=False):
    """Let the service have all that was written; tell once what was lost. -> None."""

    handle: int


class ListNames(msgspec.Struct, frozen=True, gc=False):
    """All names of a directory, in order. -> list of `Entry`."""

    inode: int


class GetTotals(msgspec.Struct, frozen=True, gc=False):
    """How full the file system is. -> `Totals`."""


Operation: TypeAlias = (
    Lookup
    | GetAttributes
    | SetAttributes
    | ReadLink
    | Create
    | LinkTo
    | Remove
    | Rename
    | Open
    | Close
    | Read
    | Write
    | Sync
    | ListNames
    | GetTotals
)


class Opened(msgspec.Struct, frozen=True, gc=False):
    """A handle of a file that was opened."""

    handle: int
    attributes: Attributes


Result: TypeAlias = Attributes | Opened | bytes | int | list[Entry] | Totals | None


# Into a cache


class Requested(msgspec.Struct, frozen=True, gc=False):
    """Somebody wants an operation. It ends in `Done`."""

    ticket: Ticket
    operation: Operation
    now_ns: int
    """The time of day, for the times of files."""


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """The caller of an operation waits no longer; one that has changed nothing ends with EINTR."""

    ticket: Ticket


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A call ended."""

    call: int
    outcome: Outcome


class Invalidated(msgspec.Struct, frozen=True, gc=False):
    """The kernel believes nothing of an inode that it was told before `Invalidate` of this number."""

    number: int


FileEvent: TypeAlias = Requested | Cancelled | Answered | Invalidated | Told | Observed | Woke | Closing


# Out of a cache


class Call(msgspec.Struct, frozen=True, gc=False):
    """Call a service, exactly once and without a deadline, and answer `Answered`."""

    call: int
    service: Literal["locks", "files"]
    kind: Literal["command", "linearizable"]
    payload: bytes


class Done(msgspec.Struct, frozen=True, gc=False):
    """An operation ended."""

    ticket: Ticket
    result: Result | FileFailure
    valid_us: int = 0
    """For how long the attributes in the result stay right, unless `Invalidate` says otherwise."""


class Invalidate(msgspec.Struct, frozen=True, gc=False):
    """Let the kernel forget the attributes of this inode, then say `Invalidated` with this number."""

    inode: int
    number: int


class Say(msgspec.Struct, frozen=True, gc=False):
    """Tell the people who run this client."""

    text: str


class Finished(msgspec.Struct, frozen=True, gc=False):
    """After `Closing`: everything was given back."""


FileEffect: TypeAlias = Call | Done | Invalidate | Say | Finished
