"""What a keeper of claims takes in and hands out."""

from typing import Any, Literal, NewType, TypeAlias

import msgspec

from viewstamp.core.events import Woke
from viewstamp.core.ids import Instant
from viewstamp.services.lock_events import Failure
from viewstamp.services.locks import Retry, Revoke
from viewstamp.services.recipes.names import Ask as AskNotice

ClaimId = NewType("ClaimId", int)
"""One claim of one task or thread, by the number that it has at the service. Drawn by the caller, rising,
never used twice."""

CallNumber = NewType("CallNumber", int)
"""One call to a service, drawn by the keeper."""

Standing = Literal["held", "doubtful"]


class Request(msgspec.Struct, frozen=True, gc=False):
    """What a claim asks for, and of which service."""

    part: str
    """The service's name in the cluster's machine, such as `semaphores`."""
    acquire: str
    release: str
    """Its methods. Both take the name and the claim's number first."""
    name: str
    arguments: tuple[Any, ...] = ()
    """Those of `acquire` that follow."""
    lease_us: int = 0
    """The grant ends by itself after this time, unless it is renewed; 0: it does not."""
    renews: bool = False
    """Whether it is renewed again and again."""


# Into a keeper


class Want(msgspec.Struct, frozen=True, gc=False):
    """A task wants this. It ends in `Entered` or `Refused`, unless the task gives up with `Leave`."""

    claim: ClaimId
    request: Request


class Renew(msgspec.Struct, frozen=True, gc=False):
    """Ask for a claim that is held again now: to renew its lease, or with another request."""

    claim: ClaimId
    request: Request


class Leave(msgspec.Struct, frozen=True, gc=False):
    """Give the claim back, or wait no longer. It ends in `Left`."""

    claim: ClaimId
    arguments: tuple[Any, ...] = ()
    """What `release` takes beside the name and the number."""


class Forget(msgspec.Struct, frozen=True, gc=False):
    """The service has confirmed by another call that it no longer has this claim."""

    claim: ClaimId


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A call to a service ended: with its decoded result, or without."""

    call: CallNumber
    answer: Any


class Told(msgspec.Struct, frozen=True, gc=False):
    """A service sent a one-way message."""

    notice: AskNotice | Retry | Revoke


class Observed(msgspec.Struct, frozen=True, gc=False):
    """What the client knows of its session. To be fed before anything else when one of the two changed."""

    session: int | None
    until: Instant | None
    """Until when it lives for certain."""


class Closing(msgspec.Struct, frozen=True, gc=False):
    """Give everything back at once."""


KeeperEvent: TypeAlias = Want | Renew | Leave | Forget | Answered | Told | Observed | Closing | Woke


# Out of a keeper


class Call(msgspec.Struct, frozen=True, gc=False):
    """Call the service, exactly once, and answer `Answered` with this number.

    The call should have no deadline of its own: it ends, at the latest, with the session.
    """

    call: CallNumber
    method: Literal["acquire", "release"]
    claim: ClaimId
    request: Request
    arguments: tuple[Any, ...]
    """After the name and the claim's number."""


class Entered(msgspec.Struct, frozen=True, gc=False):
    """The claim is granted; it is held until it is given back or lost."""

    claim: ClaimId
    token: int
    answer: Any


class Renewed(msgspec.Struct, frozen=True, gc=False):
    """A claim that is held was asked for again, and is still held."""

    claim: ClaimId
    answer: Any


class Stands(msgspec.Struct, frozen=True, gc=False):
    """What is known of a claim that is held changed."""

    claim: ClaimId
    standing: Standing


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The claim will not be granted."""

    claim: ClaimId
    failure: Failure


class Lost(msgspec.Struct, frozen=True, gc=False):
    """The claim is held no longer: another may hold what it stood for."""

    claim: ClaimId
    why: str
    kind: str = ""
    """The exception with which the service said so; empty where it did not."""


class Left(msgspec.Struct, frozen=True, gc=False):
    """What `Leave` asked for is confirmed: the service no longer has the claim."""

    claim: ClaimId


class Finished(msgspec.Struct, frozen=True, gc=False):
    """After `Closing`: everything has been given back."""


KeeperEffect: TypeAlias = Call | Entered | Renewed | Stands | Refused | Lost | Left | Finished
