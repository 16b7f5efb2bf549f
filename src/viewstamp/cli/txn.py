"""`viewstamp kv txn`: a transaction out of JSON."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from cyclopts import Parameter

from viewstamp.cli.failures import DONE, REFUSED, complain
from viewstamp.cli.output import show_json
from viewstamp.cli.target import CLUSTER_FILE
from viewstamp.cli.watch import ClusterFile, Servers, Timeout, coordination_at
from viewstamp.clients import conditions
from viewstamp.clients.conditions import Operation
from viewstamp.clients.watch_documents import items_of
from viewstamp.core.errors import ConfigurationError
from viewstamp.services.store import CoordinationStore
from viewstamp.services.store.types import (
    Compare,
    Deleted,
    Found,
    InnerDone,
    InnermostDone,
    Operator,
    PutDone,
    Target,
    TxnDone,
)

BYTES_MAX: Final = 4 << 20
"""Of the JSON."""
AnyDone: TypeAlias = PutDone | Deleted | Found | InnermostDone | InnerDone | TxnDone


class _Json(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The base of what the JSON consists of."""


class _When(_Json, frozen=True):
    key: str
    target: Target
    operand: int | str = 0
    op: Operator = "="


class _Put(_Json, frozen=True, tag_field="do", tag="put"):
    key: str
    value: str = ""
    lease: int = 0


class _Delete(_Json, frozen=True, tag_field="do", tag="delete"):
    key: str | None = None
    prefix: str | None = None


class _Get(_Json, frozen=True, tag_field="do", tag="get"):
    key: str | None = None
    prefix: str | None = None
    limit: int = 0


class _Txn(_Json, frozen=True, tag_field="do", tag="txn"):
    when: list[_When] = []
    then: list["_Put | _Delete | _Get | _Txn"] = []
    otherwise: list["_Put | _Delete | _Get | _Txn"] = []


class _Whole(_Json, frozen=True):
    when: list[_When] = []
    then: list[_Put | _Delete | _Get | _Txn] = []
    otherwise: list[_Put | _Delete | _Get | _Txn] = []


def txn(
    source: Annotated[
        Path,
        Parameter(help="A file with the transaction, or - for standard input.", allow_leading_hyphen=True),
    ],
    /,
    *,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Timeout = 10.0,
) -> int:
    """Run a transaction and print how it ended. Exit code 1: its conditions did not hold.

    {"when": [{"key": "a", "target": "version", "op": "=", "operand": 3}],
    "then": [{"do": "put", "key": "a", "value": "x"}, {"do": "delete", "prefix": "b/"}],
    "otherwise": [{"do": "get", "key": "a"}]}
    """
    whole = parsed(sys.stdin.buffer.read(BYTES_MAX + 1) if str(source) == "-" else _read(source))
    when, then, otherwise = _when(whole.when), _operations(whole.then), _operations(whole.otherwise)
    with coordination_at(cluster, servers, timeout) as client:
        try:
            done = client.kv.txn(when, then, otherwise)
        except CoordinationStore.raises as error:
            complain(str(error))
            return REFUSED
    show_json(_document(done))
    return DONE if done.succeeded else REFUSED


def parsed(data: bytes) -> _Whole:
    """Return a transaction; `ConfigurationError` where it is none, before anything is sent."""
    if len(data) > BYTES_MAX:
        raise ConfigurationError(f"a transaction has up to {BYTES_MAX} bytes of JSON: nothing was sent")
    try:
        return msgspec.json.decode(data, type=_Whole)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"this is not a transaction: {error}; nothing was sent") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}; nothing was sent") from None


def _when(when: list[_When]) -> list[Compare]:
    return [_condition(each) for each in when]


def _condition(each: _When) -> Compare:
    operand = each.operand
    if (each.target == "value") is not isinstance(operand, str):
        kind = "text" if each.target == "value" else "a number"
        raise ConfigurationError(f"a condition about the {each.target} needs {kind}; nothing was sent")
    data = operand.encode() if isinstance(operand, str) else operand
    return Compare(conditions.encoded(each.key), each.target, each.op, data)


def _operations(operations: list[Any]) -> list[Operation]:
    return [_operation(each) for each in operations]


def _operation(each: Any) -> Operation:
    match each:
        case _Put():
            return conditions.put(each.key, each.value.encode(), lease=each.lease)
        case _Delete():
            return conditions.delete(each.key, prefix=each.prefix)
        case _Get():
            return conditions.get(each.key, prefix=each.prefix, limit=each.limit)
        case _:
            then, otherwise = _operations(each.then), _operations(each.otherwise)
            return conditions.txn(_when(each.when), then, otherwise)


def _document(done: AnyDone) -> dict[str, Any]:
    match done:
        case PutDone():
            return {"did": "put", "revision": done.revision}
        case Deleted():
            return {"did": "delete", "deleted": done.count}
        case Found():
            found = {"did": "get", "items": items_of(done.items), "count": done.count}
            return {**found, "more": True} if done.more else found
        case _:
            results = [_document(each) for each in done.results]
            return {"revision": done.revision, "succeeded": done.succeeded, "results": results}
