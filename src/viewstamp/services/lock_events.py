"""What a lock cache takes in and hands out, and what may be set of it."""

from typing import Literal, NewType, TypeAlias

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.events import Woke
from viewstamp.core.ids import MICROSECONDS_PER_SECOND, Instant
from viewstamp.services.locks import Acquired, Notice, Released

Ticket = NewType("Ticket", int)
"""One request for one lock by one task or thread. Drawn by the caller, never used twice."""

AskId = NewType("AskId", int)
"""One call to the service, drawn by the cache."""


def is_text(text: str) -> bool:
    """Return whether a string is of whole characters, and so can be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class CacheOptions(msgspec.Struct, frozen=True):
    """What may be set of a cache.

    Raises:
        ConfigurationError: a setting makes no sense.
    """

    retry_us: int | None = 3 * MICROSECONDS_PER_SECOND
    """How often a waiting client asks again, in microseconds. None: it relies on being told."""
    hooked: bool = False
    """Whether something must be done before a lock goes back (`Flush`)."""
    label: str = ""
    """What this client calls itself; shown to anybody who lists the locks."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.retry_us is not None and self.retry_us < 1:
            raise ConfigurationError("retry_us must be 1 or more, or None")
        if not is_text(self.label):
            raise ConfigurationError(
                f"the label {self.label[:100]!a} is not valid text: it contains a lone surrogate"
            )


class Grant(msgspec.Struct, frozen=True, gc=False):
    """A lock as it was granted to this client."""

    name: str
    token: int
    """The fencing token."""
    sequence: int


# Into a cache


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """A task wants the lock. It ends in `Enter` or `Refused`, unless the task gives up with `Abandoned`."""

    ticket: Ticket
    name: str


class Abandoned(msgspec.Struct, frozen=True, gc=False):
    """A task waits no longer for what it wanted, and has not entered."""

    ticket: Ticket


class Left(msgspec.Struct, frozen=True, gc=False):
    """A task that entered is done with its lock."""

    ticket: Ticket


class Failure(msgspec.Struct, frozen=True, gc=False):
    """A call that ended without a result."""

    outcome: Literal["raised", "not_executed", "unknown", "session_expired"]
    kind: str
    """What the service raised; otherwise empty."""
    explanation: str


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A call to the service ended."""

    ask: AskId
    answer: Acquired | Released | Failure


class Told(msgspec.Struct, frozen=True, gc=False):
    """The service sent a one-way message."""

    notice: Notice


class Observed(msgspec.Struct, frozen=True, gc=False):
    """What the client knows of its session. To be fed before anything else when one of the two changed."""

    session: int | None
    until: Instant | None
    """Until when it lives for certain."""


class Flushed(msgspec.Struct, frozen=True, gc=False):
    """What had to be done before this lock goes back has been done."""

    name: str


class Closing(msgspec.Struct, frozen=True, gc=False):
    """Give everything back: what is in use when it is left, all else at once."""


LockEvent: TypeAlias = Wanted | Abandoned | Left | Answered | Told | Observed | Flushed | Closing | Woke


# Out of a cache


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Call the service, exactly once, and answer `Answered` with this number.

    The call should have no deadline of its own: it ends, at the latest, with the session.
    """

    ask: AskId
    method: Literal["acquire", "release"]
    name: str
    sequence: int
    label: str = ""


class Enter(msgspec.Struct, frozen=True, gc=False):
    """The task has the lock, until it says `Left`."""

    ticket: Ticket
    grant: Grant


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The task will not get the lock."""

    ticket: Ticket
    failure: Failure


class Lost(msgspec.Struct, frozen=True, gc=False):
    """The session under which this lock was granted is gone: another may hold the lock now.

    The task, if one is inside, still has to say `Left`; None: the lock was only cached.
    """

    ticket: Ticket | None
    grant: Grant


class Flush(msgspec.Struct, frozen=True, gc=False):
    """Do what must be done before this lock goes back, then say `Flushed`."""

    grant: Grant


class Finished(msgspec.Struct, frozen=True, gc=False):
    """After `Closing`: everything has been given back."""


LockEffect: TypeAlias = Ask | Enter | Refused | Lost | Flush | Finished
