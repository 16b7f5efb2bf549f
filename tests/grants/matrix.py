"""For each method of each shipped service: calls inside the prefix `a/`, and calls that leave it.

A method that is missing here fails `test_matrix`: say for it which keys it touches.
"""

from typing import Any, NamedTuple

from viewstamp.core.messages import (
    AdminRequest,
    AskStatus,
    CloseSession,
    Identify,
    KeepAlive,
    OpenSession,
    QueryRequest,
    ReadLog,
    ReadPosition,
    ReadSnapshot,
    Submit,
)
from viewstamp.machine.state_machine import StateMachine
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.locks import LockService
from viewstamp.services.records import UPDATE, CustomerRecords, MapOp

PREFIX = "a/"
INSIDE = ("a/", "a/x", "a/\U0010ffff")
LEAVING = ("", "a", "b/x", "A/x", "a0", "a.", "\N{FULLWIDTH LATIN SMALL LETTER A}/x")
"""Texts that are neither a key with the prefix nor a prefix of such keys alone."""


class Reach(NamedTuple):
    """Arguments of calls to one method."""

    inside: tuple[tuple[Any, ...], ...]
    outside: tuple[tuple[Any, ...], ...]


def by_key(*others: Any) -> Reach:
    """Return the calls of a method whose first argument is a key, or a prefix of keys."""
    return Reach(
        tuple((key, *others) for key in ("a/", "a/x", "a/\U0010ffff")),
        tuple((key, *others) for key in LEAVING),
    )


RANGE = Reach(
    inside=(("a/",), ("a/x",), ("a/", "a/b", 5), ("a/", "z"), ("a/", "")),
    outside=((), *((prefix,) for prefix in LEAVING), ("", "a/"), ("", "a/x", 1)),
)

SERVICES: dict[type[StateMachine], dict[str, Reach]] = {
    KeyValueStore: {
        "get": by_key(),
        "put": by_key(b"v", 0),
        "set": by_key(b"v"),
        "delete": by_key(),
        "range": RANGE,
    },
    LockService: {
        "acquire": by_key(1, "label"),
        "release": by_key(1),
        "stat": by_key(),
        "held": RANGE,
    },
}

NUMBERED: dict[type[StateMachine], dict[str, Reach]] = {
    CustomerRecords: {
        "update": Reach(((MapOp(UPDATE, 7, 1),), (MapOp(UPDATE, 71, 1),)), ((MapOp(UPDATE, 8, 7),),)),
        "read": Reach(((7,), (70,)), ((8,), (17,), (-7,))),
    },
}
"""Services whose keys are numbers: inside the prefix `7`."""

MESSAGES: dict[type[Any], str] = {
    Submit: "calls",
    QueryRequest: "calls",
    OpenSession: "session",
    KeepAlive: "session",
    CloseSession: "session",
    Identify: "secret",
    AskStatus: "status",
    AdminRequest: "operator",
    ReadPosition: "operator",
    ReadSnapshot: "operator",
    ReadLog: "operator",
}
"""What decides whether a message of a client is taken: its calls, whether its principal has any grant
(session), the secret alone, nothing (status), the role of an operator, before it comes to a replica."""
