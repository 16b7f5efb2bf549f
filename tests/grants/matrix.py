"""For each method of each shipped service: calls inside the prefix `a/`, and calls that leave it.

A method that is missing here fails `test_matrix`: say for it which keys it touches.
"""

from collections.abc import Callable
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
    WaitFor,
)
from viewstamp.machine.state_machine import StateMachine
from viewstamp.services.extents import ExtentService, FileService
from viewstamp.services.extents.model import Attributes, Birth, Change, Fenced
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.locks import LockService
from viewstamp.services.recipes.barriers import BarrierService
from viewstamp.services.recipes.countdowns import CountdownService
from viewstamp.services.recipes.counters import CounterService
from viewstamp.services.recipes.elections import ElectionService
from viewstamp.services.recipes.queues import QueueService
from viewstamp.services.recipes.rates import RateService
from viewstamp.services.recipes.registry import RegistryService
from viewstamp.services.recipes.rwlocks import ReadWriteLockService
from viewstamp.services.recipes.semaphores import SemaphoreService
from viewstamp.services.records import UPDATE, CustomerRecords, MapOp
from viewstamp.services.store import CoordinationStore
from viewstamp.services.store.stock_store import StockStore
from viewstamp.services.store.types import Compare, Delete, Get, Inner, Innermost, Put, Txn, Watch

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

IN, OUT = (b"a/", b"a/x", "a/\U0010ffff".encode()), (b"a", b"b/x", b"A/x", b"a0", b"a.", b"a/\xff", b"\xff")
SPANS_IN = (*((key, b"") for key in IN), (b"a/", b"a0"), (b"a/b", b"a/c"))
SPANS_OUT = (
    *((key, b"") for key in OUT),
    (b"a/", b"\0"),
    (b"a/", b"a1"),
    (b"a", b"a0"),
    (b"a/", b"\xff"),
    (b"b", b"c"),
)


def by_span(make: Any) -> Reach:
    """Return the calls of a method whose argument is made of a key and an end."""
    return Reach(
        tuple((make(*span),) for span in SPANS_IN),
        tuple((make(*span),) for span in SPANS_OUT),
    )


def transactions() -> Reach:
    """Return transactions that have one key or range, in each place where one may stand."""
    makers: tuple[Callable[[bytes, bytes], Txn], ...] = (
        lambda key, end: Txn([Compare(key, "mod", "=", 0, end)]),
        lambda key, end: Txn([], [Get(key, end)]),
        lambda key, end: Txn([], [], [Delete(key, end)]),
        lambda key, end: Txn([], [Inner([Compare(key, "value", "=", b"", end)])]),
        lambda key, end: Txn([], [], [Inner([], [Innermost([], [], [Get(key, end)])])]),
        lambda key, end: Txn([], [Innermost([], [Delete(key, end)])]),
    )
    puts: tuple[Callable[[bytes], Txn], ...] = (
        lambda key: Txn([], [Put(key)]),
        lambda key: Txn([], [], [Inner([], [Put(key)])]),
    )
    return Reach(
        tuple((make(*span),) for make in makers for span in SPANS_IN) + tuple((put(IN[1]),) for put in puts),
        tuple((make(*span),) for make in makers for span in SPANS_OUT)
        + tuple((put(key),) for put in puts for key in OUT)
        + ((Txn([], [Put(IN[0]), Put(OUT[0])]),),),
    )


NO_KEY = Reach(inside=((1000,),), outside=())
EVERY_KEY = Reach(inside=(), outside=((1,),))
"""What touches every key, whatever its arguments: only a grant without prefixes covers it."""

STORE: dict[str, Reach] = {
    "kv_put": Reach(tuple((Put(key),) for key in IN), tuple((Put(key),) for key in OUT)),
    "kv_delete": by_span(Delete),
    "kv_range": by_span(Get),
    "kv_changes": by_span(Watch),
    "kv_txn": transactions(),
    "kv_revision": Reach(inside=((),), outside=()),
    "kv_compact": EVERY_KEY,
    "kv_window": Reach(inside=(), outside=((1, 1),)),
    "lease_grant": NO_KEY,
    "lease_keep_alive": NO_KEY,
    "lease_revoke": NO_KEY,
    "lease_time_to_live": NO_KEY,
    "lease_leases": NO_KEY,
}

LOCKS: dict[str, Reach] = {
    "acquire": by_key(1, "label"),
    "release": by_key(1),
    "stat": by_key(),
    "held": RANGE,
}

INODE, BIRTH = Fenced(1, 2), Birth("file", 0o644, 0, 0, 0)


def whole(*args: Any) -> Reach:
    """Return a call that belongs to a file system as a whole: its inodes have numbers, and no key."""
    return Reach(inside=(), outside=(args,))


EXTENTS: dict[str, Reach] = {
    "make": whole(BIRTH),
    "look": whole(1),
    "target": whole(1),
    "find": whole(1, b"a/x"),
    "peek": whole(1, b"a/x"),
    "listing": whole(1),
    "read": whole(1, 0, 1),
    "totals": whole(),
    "create": whole(INODE, b"a/x", BIRTH),
    "link": whole(INODE, INODE, b"a/x", 0),
    "remove": whole(INODE, b"a/x", INODE, 0),
    "rename": whole(INODE, b"a/x", INODE, b"a/y", None, 0),
    "store": whole(INODE, Change(Attributes(1, "file", 0o644, 0, 0, 1, 0, 0, 0, 0))),
    "pin": whole(1),
    "unpin": whole(1),
    "claim": whole(INODE),
}

SERVICES: dict[type[StateMachine], dict[str, Reach]] = {
    ExtentService: EXTENTS,
    FileService: EXTENTS | LOCKS,
    KeyValueStore: {
        "get": by_key(),
        "put": by_key(b"v", 0),
        "set": by_key(b"v"),
        "delete": by_key(),
        "range": RANGE,
    },
    CoordinationStore: STORE,
    LockService: LOCKS,
    SemaphoreService: {
        "acquire": by_key(1, 2),
        "release": by_key(1),
        "resize": by_key(1),
        "forget": by_key(),
        "stat": by_key(),
    },
    ReadWriteLockService: {"acquire": by_key(1, "read"), "release": by_key(1), "stat": by_key()},
    ElectionService: {
        "campaign": by_key(1),
        "resign": by_key(1),
        "proclaim": by_key(1, b"v"),
        "observe": by_key(),
        "ignore": by_key(),
        "leader": by_key(),
    },
    BarrierService: {"enter": by_key(1, 2), "leave": by_key(1), "stat": by_key()},
    CountdownService: {
        "start": by_key(1),
        "arrive": by_key(),
        "wait": by_key(1),
        "leave": by_key(1),
        "forget": by_key(),
        "stat": by_key(),
    },
    QueueService: {
        "put": by_key(b"v"),
        "take": by_key(1),
        "ack": by_key(1, 1),
        "fail": by_key(1, 1),
        "release": by_key(1),
        "configure": by_key(),
        "revive": by_key(1),
        "discard": by_key(1),
        "stat": by_key(),
        "items": by_key(),
        "peek": by_key(1),
    },
    RegistryService: {
        "register": by_key(1, "i"),
        "deregister": by_key(1),
        "observe": by_key(),
        "ignore": by_key(),
        "instances": by_key(),
    },
    CounterService: {"add": by_key(), "set": by_key(1), "forget": by_key(), "get": by_key()},
    RateService: {"try_take": by_key(), "forget": by_key(), "used": by_key()},
}

SERVICES[StockStore] = STORE | SERVICES[KeyValueStore]
EVERYTHING = {"kv_compact", "kv_window"}
"""Methods that are not declared, on purpose: they touch every key."""

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
    WaitFor: "calls",
}
"""What decides whether a message of a client is taken: its calls, whether its principal has any grant
(session), the secret alone, nothing (status), the role of an operator, before it comes to a replica."""
