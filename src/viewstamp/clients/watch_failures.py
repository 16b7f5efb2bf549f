"""Why a watch has no answer, as the exception that its caller gets."""

from typing import Final

import msgspec

from viewstamp.core.errors import OutcomeUnknown
from viewstamp.core.messages import DENIED, FAILED, INVALID, UNREADABLE, Waited
from viewstamp.machine.access import Denial
from viewstamp.replica.events import Failed, Raised
from viewstamp.runtime.client_base import Errors, failure_of
from viewstamp.services.store import CoordinationStore

_ERRORS: Final = Errors(CoordinationStore)
_NAME: Final = "kv_changes"
_TEXT: Final = msgspec.msgpack.Decoder(str)
_RAISED: Final = msgspec.msgpack.Decoder(tuple[str, str])
_DENIAL: Final = msgspec.msgpack.Decoder(Denial)


def failure_of_answer(waited: Waited) -> Exception:
    """Return the exception that tells the caller why no server will answer."""
    try:
        return _failure(waited)
    except UNREADABLE:
        return OutcomeUnknown("the server's account of the failure cannot be read")


def _failure(waited: Waited) -> Exception:
    payload = waited.payload
    if waited.kind == DENIED:
        denial = _DENIAL.decode(payload)
        return failure_of(Failed("denied", denial.text, denial=denial), _ERRORS, _NAME)
    if waited.kind == FAILED:
        return failure_of(Raised(*_RAISED.decode(payload)), _ERRORS, _NAME)
    if waited.kind == INVALID:
        return failure_of(Failed("invalid", _TEXT.decode(payload)), _ERRORS, _NAME)
    return OutcomeUnknown(f"a server answered in a way this version does not know ({waited.kind})")
