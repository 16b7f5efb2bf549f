"""Each error as etcd says it: a code of gRPC, a status of HTTP, and the text by which clients know it.

Rules of this file:

- a text that etcd has is written exactly as etcd writes it: clients compare it;
- what etcd's text does not tell stands beside it as data: `executed` (false: certainly not; null: nobody can
  tell) and `reason`, one line of this cluster's own.
"""

from typing import Any, Final

import msgspec

from viewstamp.core.errors import CallError, OutcomeUnknown, Overloaded, PermissionDenied, ViewstampError
from viewstamp.services.kv import InvalidKey, NoKey, ValueTooLong
from viewstamp.services.store.types import (
    CompactedRevision,
    DuplicateKey,
    FutureRevision,
    InvalidLease,
    LeaseExists,
    LeaseNotFound,
    TooMany,
)

UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
NOT_FOUND: Final = 5
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
FAILED_PRECONDITION: Final = 9
OUT_OF_RANGE: Final = 11
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16

_STATUSES: Final = {
    UNKNOWN: 500,
    INVALID_ARGUMENT: 400,
    NOT_FOUND: 404,
    PERMISSION_DENIED: 403,
    RESOURCE_EXHAUSTED: 429,
    FAILED_PRECONDITION: 412,
    OUT_OF_RANGE: 400,
    UNIMPLEMENTED: 501,
    INTERNAL: 500,
    UNAVAILABLE: 503,
    UNAUTHENTICATED: 401,
}
"""By code of gRPC: the status of HTTP, as grpc-gateway 1.9 maps it."""

KEY_MISSING: Final = "etcdserver: key is not provided"
USER_EMPTY: Final = "etcdserver: user name is empty"
AUTH_FAILED: Final = "etcdserver: authentication failed, invalid user ID or password"
AUTH_NOT_ENABLED: Final = "etcdserver: authentication is not enabled"
INVALID_TOKEN: Final = "etcdserver: invalid auth token"  # noqa: S105  a text of etcd's
TOO_LARGE: Final = "etcdserver: request is too large"
TOO_MANY_REQUESTS: Final = "etcdserver: too many requests"
TOO_MANY_OPERATIONS: Final = "etcdserver: too many operations in txn request"
COMPACTED: Final = "etcdserver: mvcc: required revision has been compacted"
TIMED_OUT: Final = "etcdserver: request timed out"
NO_LEADER: Final = "etcdserver: no leader"
STOPPED: Final = "etcdserver: server stopped"

_OF_STORE: Final[dict[type[Exception], tuple[int, str]]] = {
    InvalidKey: (INVALID_ARGUMENT, TOO_LARGE),
    ValueTooLong: (INVALID_ARGUMENT, TOO_LARGE),
    NoKey: (INVALID_ARGUMENT, "etcdserver: key not found"),
    CompactedRevision: (OUT_OF_RANGE, COMPACTED),
    FutureRevision: (OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"),
    DuplicateKey: (INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"),
    TooMany: (INVALID_ARGUMENT, TOO_MANY_OPERATIONS),
    LeaseNotFound: (NOT_FOUND, "etcdserver: requested lease not found"),
    LeaseExists: (FAILED_PRECONDITION, "etcdserver: lease already exists"),
    InvalidLease: (OUT_OF_RANGE, "etcdserver: too large lease TTL"),
    PermissionDenied: (PERMISSION_DENIED, "etcdserver: permission denied"),
    Overloaded: (RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
    OutcomeUnknown: (UNAVAILABLE, TIMED_OUT),
}


class Refusal(Exception):
    """Why a request has no answer, as etcd says it.

    Attributes:
        code: of gRPC.
        text: by which clients know it.
        executed: False: certainly not. None: nobody can tell.
        reason: one line that says more; may be empty.
    """

    def __init__(self, code: int, text: str, *, executed: bool | None = False, reason: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.executed = executed
        self.reason = reason

    @property
    def status(self) -> int:
        """The status of HTTP."""
        return _STATUSES[self.code]

    @property
    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"error": self.text, "message": self.text, "code": self.code, **self._more}

    @property
    def of_stream(self) -> dict[str, Any]:
        """What ends a stream that has begun."""
        return {
            "error": {
                "grpc_code": self.code,
                "http_code": self.status,
                "message": self.text,
                **self._more,
            }
        }

    @property
    def _more(self) -> dict[str, Any]:
        return {"executed": self.executed} | ({"reason": self.reason} if self.reason else {})


def refusal_of(error: Exception) -> Refusal | None:
    """Return an error as etcd says it; None: it is a bug of this program."""
    if isinstance(error, Refusal):
        return error
    reason = " ".join(str(error).split())
    for kind in type(error).__mro__:
        if kind in _OF_STORE:
            code, text = _OF_STORE[kind]
            executed = error.executed if isinstance(error, CallError) else False
            return Refusal(code, text, executed=executed, reason=reason)
    if isinstance(error, CallError):
        return Refusal(UNAVAILABLE, NO_LEADER, executed=error.executed, reason=reason)
    if isinstance(error, ViewstampError):
        return Refusal(UNKNOWN, reason, executed=None)
    return None


def error_body(refusal: Refusal) -> bytes:
    """Return the body of the answer."""
    return msgspec.json.encode(refusal.document)
