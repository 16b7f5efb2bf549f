"""What clients send, and how JSON becomes it: protobuf's JSON in the manner of grpc-gateway.

Rules of this file:

- a name is written as in the .proto file or in camel case; unknown names are ignored, as etcd ignores them;
- a 64-bit integer is a number or a text, bytes are base64, an enumeration is a name or a number;
- null is as good as absent.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec

from viewstamp.web.etcd.refusals import INVALID_ARGUMENT, Refusal

T = TypeVar("T", bound="Message")

Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Enumerated: TypeAlias = str | int

SORT_ORDERS: Final = ("NONE", "ASCEND", "DESCEND")
SORT_TARGETS: Final = ("KEY", "VERSION", "CREATE", "MOD", "VALUE")
RESULTS: Final = ("EQUAL", "GREATER", "LESS", "NOT_EQUAL")
TARGETS: Final = ("VERSION", "CREATE", "MOD", "VALUE", "LEASE")
FILTERS: Final = ("NOPUT", "NODELETE")
_SHOWN_MAX: Final = 80


class Message(msgspec.Struct, frozen=True):
    """A request without fields, or the base of one."""


class RangeRequest(Message, frozen=True):
    """Read a key or a range."""

    key: bytes = b""
    range_end: bytes = b""
    limit: Int64 = 0
    revision: Int64 = 0
    sort_order: Enumerated = 0
    sort_target: Enumerated = 0
    serializable: bool = False
    """Permission to answer with what is old; every read here is linearizable all the same."""
    keys_only: bool = False
    count_only: bool = False
    min_mod_revision: Int64 = 0
    max_mod_revision: Int64 = 0
    min_create_revision: Int64 = 0
    max_create_revision: Int64 = 0


class PutRequest(Message, frozen=True):
    """Write a key."""

    key: bytes = b""
    value: bytes = b""
    lease: Int64 = 0
    prev_kv: bool = False
    ignore_value: bool = False
    ignore_lease: bool = False


class DeleteRangeRequest(Message, frozen=True):
    """Delete a key or a range."""

    key: bytes = b""
    range_end: bytes = b""
    prev_kv: bool = False


class Compare(Message, frozen=True):
    """A condition of a transaction. Which operand counts, `target` says."""

    result: Enumerated = 0
    target: Enumerated = 0
    key: bytes = b""
    version: Int64 = 0
    create_revision: Int64 = 0
    mod_revision: Int64 = 0
    value: bytes = b""
    lease: Int64 = 0
    range_end: bytes = b""


class RequestOp(Message, frozen=True):
    """An operation of a transaction: one of these."""

    request_range: RangeRequest | None = None
    request_put: PutRequest | None = None
    request_delete_range: DeleteRangeRequest | None = None
    request_txn: "TxnRequest | None" = None


class TxnRequest(Message, frozen=True):
    """If all conditions hold do `success`, and else `failure`."""

    compare: list[Compare] = []
    success: list[RequestOp] = []
    failure: list[RequestOp] = []


class CompactionRequest(Message, frozen=True):
    """Forget the history before a revision."""

    revision: Int64 = 0
    physical: bool = False
    """Wait until it is forgotten on disk: there is nothing to wait for here."""


class LeaseGrantRequest(Message, frozen=True):
    """Grant a lease; `ID` 0: the store chooses its number."""

    TTL: Int64 = 0
    ID: Int64 = 0


class LeaseRequest(Message, frozen=True):
    """Revoke a lease, keep it alive, or ask how long it lives."""

    ID: Int64 = 0
    keys: bool = False


class AuthenticateRequest(Message, frozen=True):
    """Ask for a token."""

    name: str = ""
    password: str = ""


class WatchCreateRequest(Message, frozen=True):
    """Ask for what changes in a key or a range."""

    key: bytes = b""
    range_end: bytes = b""
    start_revision: Int64 = 0
    progress_notify: bool = False
    filters: list[Enumerated] = []
    prev_kv: bool = False
    watch_id: Int64 = 0
    fragment: bool = False


class WatchRequest(Message, frozen=True):
    """A request on a stream of watches: one of these."""

    create_request: WatchCreateRequest | None = None
    cancel_request: Message | None = None
    progress_request: Message | None = None


def decoded(body: bytes, kind: type[T]) -> T:
    """Return a request.

    Raises:
        Refusal: the body is not one. Nothing was done.
    """
    try:
        value = msgspec.json.decode(body) if body.strip() else {}
        return msgspec.convert(_named(value, kind), kind, strict=False)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Refusal(INVALID_ARGUMENT, f"the body is no {kind.__name__}: {error}") from None


def member(value: Enumerated, names: Sequence[str]) -> str:
    """Return the name of a member of an enumeration.

    Raises:
        Refusal: there is none with this name or number. Nothing was done.
    """
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    if isinstance(value, str) and (value in names or (value.isdecimal() and int(value) < len(names))):
        return value if value in names else names[int(value)]
    shown = str(value)[:_SHOWN_MAX]
    raise Refusal(INVALID_ARGUMENT, f"{shown!a} is none of {', '.join(names)}")


def _named(value: Any, kind: Any) -> Any:
    """Return a value with the names of its type's fields, and without what is null."""
    if isinstance(value, list):
        return [_named(each, kind) for each in value]
    if not isinstance(value, dict):
        return value
    spelled = _SPELLINGS.get(kind, {})
    found = {}
    for name, each in value.items():
        field, inner = spelled.get(name, (None, None))
        if field is not None and each is not None:
            found[field] = _named(each, inner)
    return found


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


_INNER: Final[dict[str, type[Message]]] = {
    "compare": Compare,
    "success": RequestOp,
    "failure": RequestOp,
    "request_range": RangeRequest,
    "request_put": PutRequest,
    "request_delete_range": DeleteRangeRequest,
    "request_txn": TxnRequest,
    "create_request": WatchCreateRequest,
    "cancel_request": Message,
    "progress_request": Message,
}
_KINDS: Final[tuple[type[Message], ...]] = (*Message.__subclasses__(),)
_SPELLINGS: Final[dict[Any, dict[str, tuple[str, Any]]]] = {
    kind: {
        spelling: (name, _INNER.get(name))
        for name in kind.__struct_fields__
        for spelling in (name, _camel(name))
    }
    for kind in _KINDS
}
"""By request: the field that each spelling of a name means, and the request that stands in it."""
