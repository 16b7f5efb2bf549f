"""The walls of a grant for all that coordinates: transactions, watches, history, leases and every recipe.

As `test_walls`: two worlds that differ only in what others do outside the prefix are one for the granted
client, and two that differ only in whether it calls are one world outside. The recipes' methods come from the
matrix, so that a new one is tried as soon as it stands there. Revisions are positions, and left out.
"""

import re
from itertools import count
from typing import Any, NamedTuple

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.grants.matrix import SERVICES
from tests.grants.test_walls import GUEST, INSIDE, NUMBERS, OUTSIDE, PREFIX, ROOT, World, _readable
from tests.replica.fakes import call, submit
from viewstamp.core.messages import Notified, QueryRequest, Results, ServerMessage, Waited, WaitFor
from viewstamp.machine.definition import MachineDefinition
from viewstamp.services.stock import RECIPES, StockService
from viewstamp.services.store.types import (
    EVERY_END,
    Compare,
    Delete,
    Get,
    Inner,
    Innermost,
    Put,
    Txn,
    Watch,
)

METHODS = MachineDefinition.of(StockService).methods
LEASE = -7
"""Stands for the lease that the caller was granted last."""
WAIT = "(wait)"
"""Before the name of a query that is asked by `WaitFor`."""
_NUMBERS = re.compile(r"\d{7,}")


class Act(NamedTuple):
    who: str
    method: str
    keys: tuple[bytes, ...]
    """All that it touches, for those who choose what lies outside."""
    args: tuple[Any, ...]

    @property
    def is_outside(self) -> bool:
        """Whether another than the granted client does it, outside the prefix."""
        return self.who == ROOT and not any(key.startswith(PREFIX.encode()) for key in self.keys)


def store_acts(who: str, names: tuple[str, ...]) -> st.SearchStrategy[Act]:
    keys = st.sampled_from([name.encode() for name in names if name])
    value, prev = st.sampled_from([b"1", b"2"]), st.booleans()
    ends = st.sampled_from([b"", b"", b"a0", b"b", EVERY_END]) if who == GUEST else st.just(b"")
    lease = st.sampled_from([0, LEASE, 1])
    put = st.builds(Put, keys, value, lease, prev, prev, prev)
    delete, get = st.builds(Delete, keys, ends, prev), st.builds(Get, keys, ends)
    plain = st.one_of(put, delete, get)
    compare = st.one_of(
        st.builds(Compare, keys, st.just("value"), st.sampled_from(["=", "!="]), value, ends),
        st.builds(
            Compare, keys, st.just("version"), st.sampled_from(["=", "<", ">"]), st.integers(0, 3), ends
        ),
    )

    def lists(of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        return st.lists(of, max_size=2)

    innermost = st.builds(Innermost, lists(compare), lists(plain), lists(plain))
    inner = st.builds(Inner, lists(compare), lists(st.one_of(plain, innermost)), lists(plain))
    any_of = lists(st.one_of(plain, inner, innermost))
    txn = st.builds(Txn, lists(compare), any_of, any_of)
    watch = st.builds(Watch, keys, ends, st.just(0), st.integers(0, 1), prev)
    shapes: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
        "kv_put": st.tuples(put),
        "kv_delete": st.tuples(delete),
        "kv_txn": st.tuples(txn),
        "kv_range": st.tuples(st.builds(Get, keys, ends, st.integers(0, 2), st.just(0), prev, prev)),
        "kv_changes": st.tuples(watch),
        f"{WAIT}kv_changes": st.tuples(watch),
        f"{WAIT}range": st.tuples(keys.map(bytes.decode)),
        "kv_revision": st.tuples(),
        "kv_compact": st.tuples(st.just(1)),
        "lease_grant": st.tuples(st.sampled_from([100, 10_000_000])),
        "lease_keep_alive": st.tuples(lease),
        "lease_revoke": st.tuples(lease),
        "lease_time_to_live": st.tuples(lease, st.booleans()),
        "lease_leases": st.tuples(),
    }
    if who == ROOT:  # it compacts nothing: how far the history reaches back is a position of the whole store
        shapes = {
            name: shapes[name] for name in ("kv_put", "kv_delete", "kv_txn", "lease_grant", "lease_revoke")
        }
    return st.one_of(
        [st.builds(_of_store, st.just(who), st.just(name), shape) for name, shape in shapes.items()]
    )


def _of_store(who: str, method: str, args: tuple[Any, ...]) -> Act:
    return Act(who, method, tuple(_keys(list(args))), args)


def _keys(value: Any) -> list[bytes]:
    if isinstance(value, Put | Delete | Get | Compare | Watch):
        return [value.key]
    if isinstance(value, Txn | Inner | Innermost):
        return _keys([*value.when, *value.then, *value.otherwise])
    return [key for each in value for key in _keys(each)] if isinstance(value, list) else []


def recipe_acts(who: str, names: tuple[str, ...]) -> st.SearchStrategy[Act]:
    """Return calls of every method of every recipe, with the other arguments that the matrix has."""
    chosen = []
    for part, service in RECIPES.items():
        for method, reach in SERVICES[service].items():
            others = reach.inside[0][1:]
            chosen.append((f"{part}.{method}", others))
    number = st.sampled_from([1, 2])

    def act(name: str, pick: tuple[str, tuple[Any, ...]], first: int) -> Act:
        method, others = pick
        varied = tuple(first if type(each) is int else each for each in others[:1]) + others[1:]
        return Act(who, method, (name.encode(),), (name, *varied))

    return st.builds(act, st.sampled_from(names), st.sampled_from(chosen), number)


def acts(who: str, names: tuple[str, ...]) -> st.SearchStrategy[Act]:
    return st.one_of(store_acts(who, names), recipe_acts(who, tuple(name for name in names if name)))


NEAR = INSIDE * 4 + ("b",)
"""What the granted client touches most: calls that are inside but for one key, as an attack is."""
HISTORIES = st.lists(
    st.one_of(
        acts(GUEST, NEAR),
        acts(GUEST, INSIDE + OUTSIDE),
        acts(ROOT, (*OUTSIDE, *("b",) * 4)),
        acts(ROOT, INSIDE),
    ),
    max_size=30,
)


class Coordinated(World):
    """A world in which each of the two remembers its last lease, and which began with a change."""

    def __init__(self) -> None:
        self.leases = {GUEST: 1, ROOT: 1}
        super().__init__()
        self.act(9_999, Act(ROOT, "kv_put", (b"zz",), (Put(b"zz"),)))

    def readable(self, message: ServerMessage) -> Any:
        return readable(message)

    def act(self, number: int, act: Any) -> None:
        args = tuple(
            msgspec.convert(_leased(msgspec.to_builtins(arg), self.leases[act.who]), type(arg))
            for arg in act.args
        )
        name = act.method.removeprefix(WAIT)
        payload = call(name, *args)
        client = NUMBERS[act.who]
        if act.method.startswith(WAIT):
            self.tell(act.who, WaitFor(number, 0, msgspec.Raw(payload)))
        elif METHODS[name].kind == "query":
            self.tell(act.who, QueryRequest(client, "stale", [(number, msgspec.Raw(payload))]))
        else:
            for answer in self.tell(
                act.who, submit(self.sessions[act.who], (number, payload), client=client)
            ):
                if name == "lease_grant" and isinstance(answer, Results):
                    self._remember(act.who, answer)

    def _remember(self, who: str, answer: Results) -> None:
        ((_, kind, payload),) = answer.results
        granted = msgspec.msgpack.decode(payload)
        if kind == 0:
            self.leases[who] = granted[0] if isinstance(granted, list) else granted

    def beyond(self) -> Any:
        """What a caller who may read everything finds outside the prefix, in every part."""
        found = []
        numbers = count(1)
        asked = [call("kv_range", Get(b"\0", EVERY_END))]
        for part, service in RECIPES.items():
            for method, reach in SERVICES[service].items():
                if METHODS[f"{part}.{method}"].kind == "query":
                    others = reach.inside[0][1:]
                    asked += [call(f"{part}.{method}", name, *others) for name in OUTSIDE if name]
        for payload in asked:
            (answer,) = self.tell(
                ROOT, QueryRequest(NUMBERS[ROOT], "stale", [(next(numbers), msgspec.Raw(payload))])
            )
            found.append(readable(answer))
        return _outside(found)


def _leased(value: Any, lease: int) -> Any:
    if isinstance(value, list | tuple):
        return [_leased(each, lease) for each in value]
    return lease if type(value) is int and value == LEASE else value


def _outside(value: Any) -> Any:
    """Leave out the items of the range that lie inside."""
    if isinstance(value, list):
        kept = [_outside(each) for each in value if not _is_inside(each)]
        return ["count" if type(each) is int and _has_items(value) else each for each in kept]
    return tuple(_outside(each) for each in value) if isinstance(value, tuple) else value


def _has_items(value: list[Any]) -> bool:
    """Return whether this is the answer to a range, whose count is that of all its items."""
    return len(value) == 5 and isinstance(value[2], list) and isinstance(value[3], bool)


def _is_inside(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, bytes) and first.startswith(PREFIX.encode())


def readable(message: ServerMessage) -> Any:
    """Return what a client learns, without positions, also where they stand in a text."""
    if isinstance(message, Waited):
        return "waited", message.kind, _plain(msgspec.msgpack.decode(message.payload))
    if isinstance(message, Results):
        return [(number, kind, _plain(msgspec.msgpack.decode(raw))) for number, kind, raw in message.results]
    if isinstance(message, Notified):
        return _plain(msgspec.msgpack.decode(message.payload))
    return _readable(message)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, str):
        return _NUMBERS.sub("position", value)
    return "position" if type(value) is int and value >= 1 << 20 else value


def live(history: list[Act], *, keep: Any = lambda act: True) -> Coordinated:
    """Live the acts to keep, under the numbers that they have in the whole history."""
    world = Coordinated()
    for number, act in enumerate(history, 1):
        if keep(act):
            world.act(number, act)
    return world


@settings(max_examples=60, deadline=None)
@given(HISTORIES)
def test_a_grant_hides_what_coordinates_outside_it(history: list[Act]) -> None:
    without = live(history, keep=lambda act: not act.is_outside)
    assert live(history).heard[GUEST] == without.heard[GUEST]


@settings(max_examples=60, deadline=None)
@given(HISTORIES)
def test_a_grant_protects_what_coordinates_outside_it(history: list[Act]) -> None:
    without = live(history, keep=lambda act: act.who == ROOT)
    assert live(history).beyond() == without.beyond()


def test_the_walls_of_the_store_would_be_seen_to_have_holes() -> None:
    """What others do inside the prefix is seen, by every way of asking that the histories have."""
    put = _of_store(ROOT, "kv_put", (Put(b"a/x", b"1"),))
    for method, args in {
        "kv_range": (Get(b"a/", b"a0"),),
        "kv_changes": (Watch(b"a/", b"a0"),),
        f"{WAIT}kv_changes": (Watch(b"a/", b"a0"),),
        f"{WAIT}range": ("a/",),
        "kv_txn": (Txn([Compare(b"a/x", "version", "=", 1)]),),
        "kv_delete": (Delete(b"a/x"),),
    }.items():
        asked = _of_store(GUEST, method, args)
        with_it, alone = live([put, asked]), live([put, asked], keep=lambda act: act.who == GUEST)
        assert with_it.heard[GUEST] != alone.heard[GUEST], method
    for part, method in (("counters", "get"), ("queues", "items"), ("elections", "leader")):
        others = SERVICES[RECIPES[part]][method].inside[0][1:]
        verb = {"counters": ("set", (3,)), "queues": ("put", (b"v",)), "elections": ("campaign", (1,))}[part]
        done = Act(ROOT, f"{part}.{verb[0]}", (b"a/x",), ("a/x", *verb[1]))
        asked = Act(GUEST, f"{part}.{method}", (b"a/x",), ("a/x", *others))
        with_it, alone = live([done, asked]), live([done, asked], keep=lambda act: act.who == GUEST)
        assert with_it.heard[GUEST] != alone.heard[GUEST], part
