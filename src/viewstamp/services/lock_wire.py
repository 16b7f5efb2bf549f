"""A cache's calls and answers as they go over the wire: what every driver of a cache needs."""

from typing import Final, TypeAlias, assert_never

import msgspec

from viewstamp.core.messages import UNREADABLE
from viewstamp.machine.definition import MachineDefinition, Method
from viewstamp.replica.events import Failed, Outcome, Raised, Returned
from viewstamp.services.lock_events import Answered, Ask, Failure
from viewstamp.services.locks import LockService, Notice

STOCK_PART: Final = "locks"
"""What the lock service is called in the machine of the stock server."""

INVALID_CALL: Final = "InvalidCall"
PERMISSION_DENIED: Final = "PermissionDenied"
"""Kind of a failure: the cluster does not offer locks, or not under this name."""

_METHODS: Final[dict[str, Method]] = MachineDefinition.of(LockService).methods
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_NOTICE: Final[msgspec.msgpack.Decoder[Notice]] = msgspec.msgpack.Decoder(Notice)

_Arguments: TypeAlias = tuple[str, str, int] | tuple[str, str, int, str]


def payload_of(ask: Ask, part: str = "") -> bytes:
    """Return the encoded call; `part` is the lock service's name in a composed machine."""
    method = f"{part}.{ask.method}" if part else ask.method
    arguments: _Arguments = (method, ask.name, ask.sequence)
    return _ENCODE((*arguments, ask.label) if ask.method == "acquire" else arguments)


def answered(ask: Ask, outcome: Outcome) -> Answered:
    """Return what the end of a call is for the cache."""
    match outcome:
        case Returned():
            return Answered(ask.ask, _METHODS[ask.method].decode_result(outcome.payload))
        case Raised():
            return Answered(ask.ask, Failure("raised", outcome.kind, outcome.explanation))
        case Failed():
            if outcome.outcome == "invalid":  # no lock service is there, or this is not its name
                return Answered(ask.ask, Failure("raised", INVALID_CALL, outcome.reason))
            if outcome.outcome == "denied":  # asked again, it is denied again
                return Answered(ask.ask, Failure("raised", PERMISSION_DENIED, outcome.reason))
            return Answered(ask.ask, Failure(outcome.outcome, "", outcome.reason))
        case _:
            assert_never(outcome)


def notice_of(payload: bytes) -> Notice | None:
    """Return the one-way message of a lock service; None: it is another's."""
    try:
        return _NOTICE.decode(payload)
    except UNREADABLE:
        return None
