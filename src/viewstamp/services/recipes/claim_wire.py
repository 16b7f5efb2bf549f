"""A keeper's calls and answers as they go over the wire: what every driver of a keeper needs."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from viewstamp.core.messages import UNREADABLE
from viewstamp.machine.definition import MachineDefinition, Method
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.events import Failed, Outcome, Raised, Returned
from viewstamp.services.lock_events import Failure
from viewstamp.services.lock_wire import INVALID_CALL, PERMISSION_DENIED
from viewstamp.services.locks import LockService, Retry, Revoke
from viewstamp.services.recipes.keeper_events import Answered, Call
from viewstamp.services.recipes.names import Ask, Changed
from viewstamp.services.stock import RECIPES

Notice = Ask | Changed | Retry | Revoke

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_NOTICE: Final[msgspec.msgpack.Decoder[Notice]] = msgspec.msgpack.Decoder(Notice)


def methods_of(parts: Mapping[str, type[StateMachine]]) -> dict[str, Method]:
    """Return the methods of services by `part.method`."""
    return {
        f"{part}.{name}": method
        for part, service in parts.items()
        for name, method in MachineDefinition.of(service).methods.items()
    }


METHODS: Final[dict[str, Method]] = methods_of({"locks": LockService, **RECIPES})


def payload_of(call: Call, prefix: str | None = None) -> bytes:
    """Return the encoded call.

    `prefix` is what stands before the method's name on the wire; None: the part of the request and a dot.
    """
    request = call.request
    method = request.acquire if call.method == "acquire" else request.release
    before = f"{request.part}." if prefix is None else prefix
    return _ENCODE((before + method, request.name, int(call.claim), *call.arguments))


def answered(call: Call, outcome: Outcome) -> Answered:
    """Return what the end of a call is for the keeper."""
    request = call.request
    method = METHODS[f"{request.part}.{request.acquire if call.method == 'acquire' else request.release}"]
    answer: Any
    match outcome:
        case Returned():
            answer = method.decode_result(outcome.payload)
        case Raised():
            answer = Failure("raised", outcome.kind, outcome.explanation)
        case Failed(outcome="invalid"):  # no such service is there, or this is not its name
            answer = Failure("raised", INVALID_CALL, outcome.reason)
        case Failed(outcome="denied"):  # asked again, it is denied again
            answer = Failure("raised", PERMISSION_DENIED, outcome.reason)
        case Failed(outcome=("not_executed" | "unknown" | "session_expired") as kind):
            answer = Failure(kind, "", outcome.reason)
    return Answered(call.call, answer)


def notice_of(payload: bytes) -> Notice | None:
    """Return the one-way message of a service; None: it is another's."""
    try:
        return _NOTICE.decode(payload)
    except UNREADABLE:
        return None
