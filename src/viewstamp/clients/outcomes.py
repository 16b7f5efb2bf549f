"""How a call of an async client ended, as the cores without input or output know it."""

import asyncio

from viewstamp.core.errors import (
    CommandFailed,
    InvalidCall,
    OutcomeUnknown,
    PermissionDenied,
    SessionExpired,
)
from viewstamp.replica.events import Failed, Outcome, Raised, Returned
from viewstamp.runtime.client import CallFuture


def outcome_of(future: CallFuture | asyncio.Future[bytes]) -> Outcome:
    """Return the outcome of a call that is done."""
    if future.cancelled():
        return Failed("not_executed", "the client is closed")
    error = future.exception()
    if error is None:
        return Returned(future.result(), 0)
    if isinstance(error, CommandFailed):
        return Raised(error.kind, error.explanation)
    if isinstance(error, InvalidCall):
        return Failed("invalid", str(error))
    if isinstance(error, PermissionDenied):
        return Failed("denied", str(error))
    if isinstance(error, SessionExpired):
        return Failed("session_expired", str(error))
    if isinstance(error, OutcomeUnknown):
        return Failed("unknown", str(error))
    return Failed("not_executed", str(error))
