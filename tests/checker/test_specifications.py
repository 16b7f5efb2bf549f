"""The checker and its models against specifications that share no line with them.

Each history took place in some order; then a few outcomes became unknown and a few results were changed. Few
values, each used many times: a write that writes what is there already is where orders are easily lost.
"""

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from random import Random
from typing import Any

import pytest

from viewstamp.checker.collection_models import QueueModel, SetModel
from viewstamp.checker.history import Operation
from viewstamp.checker.linearizable import check
from viewstamp.checker.models import ANYTHING, CounterModel, LockModel, Model
from viewstamp.checker.register_model import Register
from viewstamp.checker.store_model import NEW, VersionedStore

Result = tuple[Any, str, Any]
"""(state after, outcome, result)."""
Specification = Callable[[Any, str, tuple[Any, ...]], list[Result]]
"""What a call may end in, in a state."""
Calls = Callable[[Random, Any], tuple[str, tuple[Any, ...]]]


def register(state: Any, op: str, args: tuple[Any, ...]) -> list[Result]:
    if op == "read":
        return [(state, "ok", state)]
    if op == "write":
        return [(args[0], "ok", None)]
    return [(args[1], "ok", True)] if state == args[0] else [(state, "ok", False)]


def register_calls(rng: Random, state: Any) -> tuple[str, tuple[Any, ...]]:
    cas = (rng.choice([state, None, 0, 1]), rng.randrange(3))
    return rng.choice([("read", ()), ("write", (rng.randrange(3),)), ("cas", cas)])


def counter(state: Any, op: str, args: tuple[Any, ...]) -> list[Result]:
    total = state + args[0] if op == "add" else state
    return [(total, "ok", total)]


def counter_calls(rng: Random, state: Any) -> tuple[str, tuple[Any, ...]]:
    return rng.choice([("read", ()), ("add", (rng.choice([1, 1, 2, 0, -1]),))])


def store(state: Any, op: str, args: tuple[Any, ...]) -> list[Result]:
    """Return what the versioned store may answer. The state is None or (value, version)."""
    if op == "get":
        return [(state, "raised", "NoKey") if state is None else (state, "ok", state)]
    version = 1 if state is None else state[1] + 1
    if op == "set":
        return [((args[0], version), "ok", version)]
    if state is None and args[1] > 0:
        return [(state, "raised", "NoKey")]
    if args[1] == version - 1:
        return [((args[0], version), "ok", version), ((args[0], version), "raised", "Maybe")]
    return [(state, "raised", "VersionMismatch"), (state, "raised", "Maybe")]


def store_calls(rng: Random, state: Any) -> tuple[str, tuple[Any, ...]]:
    put = (rng.choice("ab"), rng.choice([0, 1, 2, state[1] if state else 0]))
    return rng.choice([("get", ()), ("put", put), ("put", put), ("set", (rng.choice("ab"),))])


def lock(state: Any, op: str, args: tuple[Any, ...]) -> list[Result]:
    """Return what a lock may answer. The state is (holding token or None, last token); tokens are few."""
    holder, last = state
    if op == "acquire":
        free = [((token, token), "ok", token) for token in range(last + 1, 6)]
        return free if holder is None else [(state, "ok", None)]
    return [((None, last), "ok", True) if holder == args[0] else (state, "ok", False)]


def lock_calls(rng: Random, state: Any) -> tuple[str, tuple[Any, ...]]:
    token = rng.choice([state[0], rng.randrange(4)])
    return rng.choice([("acquire", ()), ("release", (rng.randrange(4) if token is None else token,))])


def text(state: Any, op: str, args: tuple[Any, ...]) -> list[Result]:
    if op == "append":
        return [((state or "") + args[0], "ok", None)]
    return register(state, op, args)


def text_calls(rng: Random, state: Any) -> tuple[str, tuple[Any, ...]]:
    cas = (rng.choice([state, None, "a"]), rng.choice(["", "b"]))
    change = rng.choice([("write", (rng.choice("ab"),)), ("append", (rng.choice("ab"),)), ("cas", cas)])
    return rng.choice([("read", ()), change])


def queue(state: Any, op: str, args: tuple[Any, ...]) -> list[Result]:
    if op == "enqueue":
        return [((*state, args[0]), "ok", None)]
    if op == "size":
        return [(state, "ok", len(state))]
    first = state[0] if state else None
    return [(state[1:] if op == "dequeue" else state, "ok", first)]


def queue_calls(rng: Random, state: Any) -> tuple[str, tuple[Any, ...]]:
    put = ("enqueue", (rng.randrange(2),))
    return rng.choice([put, put, put, ("dequeue", ()), ("dequeue", ()), ("peek", ()), ("size", ())])


def items(state: Any, op: str, args: tuple[Any, ...]) -> list[Result]:
    """Return what a set may answer. The state is a frozen set; a list of all its values is in order here."""
    if op in {"read", "size"}:
        return [(state, "ok", tuple(sorted(state)) if op == "read" else len(state))]
    there = args[0] in state
    if op == "contains":
        return [(state, "ok", there)]
    return [(state | {args[0]}, "ok", not there) if op == "add" else (state - {args[0]}, "ok", there)]


def items_calls(rng: Random, state: Any) -> tuple[str, tuple[Any, ...]]:
    value = (rng.randrange(2),)
    whole = rng.choice([("read", ()), ("size", ()), ("contains", value), ("contains", value)])
    return rng.choice([("add", value), ("add", value), ("remove", value), ("contains", value), whole])


KINDS: dict[str, tuple[Callable[[], Model], Any, Specification, Calls]] = {
    "register": (Register, None, register, register_calls),
    "counter": (CounterModel, 0, counter, counter_calls),
    "store": (partial(VersionedStore, initial=NEW), None, store, store_calls),
    "lock": (LockModel, (None, -1), lock, lock_calls),
    "text": (Register, None, text, text_calls),
    "queue": (QueueModel, (), queue, queue_calls),
    "set": (SetModel, frozenset(), items, items_calls),
}
BEGINNINGS: dict[str, tuple[Callable[[], Model], list[Any]]] = {
    "register": (partial(Register, initial=ANYTHING), [None, 0, 1, 2, "another"]),
    "counter": (partial(CounterModel, initial=ANYTHING), [0, 1, 2, 3, *range(-30, 0), *range(4, 31)]),
    "lock": (partial(LockModel, initial=ANYTHING), [(None, -1), *((token, token) for token in range(7))]),
    "text": (partial(Register, initial=ANYTHING), [None, "", "a", "b", "ab", "ba", "another"]),
}
"""Models that do not know the beginning, and all the states that a small history can tell apart there."""


def moments(rng: Random) -> Iterator[tuple[int, int, int]]:
    """Yield (client, call, return) of a few calls, in the order in which they take effect."""
    free = dict.fromkeys(range(rng.randint(1, 4)), 0)
    made = []
    for _ in range(rng.randint(2, 7)):
        client = rng.choice(list(free))
        call = free[client] + rng.randint(0, 3)
        free[client] = returned = call + rng.randint(0, 6)
        made.append((rng.uniform(call, returned), client, call, returned))
    yield from (entry[1:] for entry in sorted(made))


def plausible(rng: Random, state: Any, specification: Specification, calls: Calls) -> list[Operation]:
    """Return a history that is often linearizable."""
    history = []
    past = [state]
    for client, call, returned in moments(rng):
        op, args = calls(rng, state)
        after, outcome, result = rng.choice((specification(state, op, args) or [(state, "ok", None)])[:2])
        lost = rng.random() < 0.2
        if not lost or rng.random() < 0.5:
            state = after
            past.append(state)
        if rng.random() < 0.2:
            earlier = rng.choice(past)  # a result that was right once
            _, outcome, result = rng.choice(specification(earlier, op, args) or [(state, "ok", None)])
        if lost:
            outcome, result = "unknown", None
        history.append(Operation(client, call, returned, op, "x", args, outcome, result))  # type: ignore[arg-type]
    return rng.sample(history, len(history))


def is_legal(history: list[Operation], state: Hashable, specification: Specification) -> bool:
    """Try whatever may come next, as the definition of linearizability has it."""
    waiting = [operation for operation in history if operation.answered]
    if not waiting:
        return True
    first_return = min(operation.returned for operation in waiting if operation.returned is not None)
    for place, operation in enumerate(history):
        if operation.call > first_return:
            continue
        rest = [*history[:place], *history[place + 1 :]]
        for after, outcome, result in specification(state, operation.op, operation.args):
            fits = (outcome, result) == (operation.outcome, operation.result)
            if (fits or not operation.answered) and is_legal(rest, after, specification):
                return True
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_verdict_is_that_of_the_definition_when_a_history_is_plausible(kind: str) -> None:
    model, state, specification, calls = KINDS[kind]
    seen = {True: 0, False: 0}
    for seed in range(2_000):
        history = plausible(Random(f"{kind} {seed}"), state, specification, calls)
        expected = is_legal(history, state, specification)
        assert check(history, model()).outcome == ("ok" if expected else "violation"), (seed, history)
        seen[expected] += 1
    assert min(seen.values()) >= 50, seen


def test_write_of_what_is_there_already_may_take_effect_later() -> None:
    history = [
        Operation(1, 0, 5, "write", "x", ("a",)),
        Operation(2, 6, 20, "write", "x", ("a",)),
        Operation(1, 8, 12, "write", "x", ("b",)),
        Operation(1, 21, 22, "read", "x", (), "ok", "a"),
    ]
    assert check(history, Register()).outcome == "ok"


def test_put_that_may_have_been_done_is_taken_for_done_where_only_that_explains_the_rest() -> None:
    history = [
        Operation(1, 0, 1, "set", "x", ("a",), "ok", 1),
        Operation(2, 2, 9, "put", "x", ("b", 2), "raised", "Maybe"),
        Operation(1, 3, 4, "put", "x", ("c", 1), "ok", 2),
        Operation(1, 10, 11, "get", "x", (), "ok", ("b", 3)),
    ]
    assert check(history, VersionedStore()).outcome == "ok"


def test_release_is_refused_when_no_client_learned_the_token_of_the_grant() -> None:
    history = [
        Operation(1, 0, 1, "acquire", "x", (), "unknown"),
        Operation(2, 2, 3, "acquire", "x", (), "ok", None),
        Operation(2, 4, 5, "release", "x", (7,), "ok", False),
        Operation(2, 6, 7, "release", "x", (8,), "ok", True),
    ]
    assert check(history, LockModel()).outcome == "ok"
    contradiction = Operation(2, 6, 7, "release", "x", (7,), "ok", True)
    assert check([*history[:3], contradiction], LockModel()).outcome == "violation"


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_verdict_is_that_of_some_beginning_when_none_is_known(kind: str) -> None:
    model, states = BEGINNINGS[kind]
    _, _, specification, calls = KINDS[kind]
    seen = {True: 0, False: 0}
    for seed in range(1_000):
        rng = Random(f"{kind} begins {seed}")
        history = plausible(rng, rng.choice(states[:4]), specification, calls)
        expected = any(is_legal(history, state, specification) for state in states)
        assert check(history, model()).outcome == ("ok" if expected else "violation"), (seed, history)
        seen[expected] += 1
    assert min(seen.values()) >= 20, seen


@pytest.mark.parametrize("seed", range(300))
def test_a_recording_that_begins_in_the_middle_is_legal_when_the_whole_one_was(seed: int) -> None:
    """Deletions, versions and keys from before are not in it."""
    rng = Random(seed)
    whole: list[Operation] = []
    state: dict[str, tuple[Any, int, int]] = {}
    for moment in range(40):
        key = rng.choice("xy")
        value, version, highest = state.get(key, (None, 0, 0))
        made = rng.choice(["get", "put", "set", "delete", "range"])
        if made == "range":
            page = tuple((name, cell[0], cell[1]) for name, cell in sorted(state.items()) if cell[1])
            whole.append(Operation(1, moment, moment, "range", None, (), "ok", (page, False)))
        elif made == "get":
            outcome, result = ("ok", (value, version)) if version else ("raised", "NoKey")
            whole.append(Operation(1, moment, moment, "get", key, (), outcome, result))  # type: ignore[arg-type]
        elif made == "delete":
            state[key] = (None, 0, highest)
            whole.append(Operation(1, moment, moment, "delete", key, (), "ok", version > 0))
        else:
            new = (version or highest) + 1
            state[key] = (f"v{moment}", new, new)
            args = (f"v{moment}", version) if made == "put" else (f"v{moment}",)
            whole.append(Operation(1, moment, moment, made, key, args, "ok", new))
    rest = whole[rng.randrange(30) :]
    if rng.random() < 0.5:
        rest = [operation for operation in rest if operation.op != "range"]
    assert check(rest, VersionedStore(initial=ANYTHING)).outcome == "ok", rest
    gone = [operation for operation in whole if operation.op == "delete"]
    if gone and rng.random() < 0.5:
        emptied = [*gone[-1:]]
        assert check(emptied, VersionedStore(initial=ANYTHING)).outcome == "ok"


def test_the_first_version_of_a_key_may_be_any_unless_the_store_is_new() -> None:
    history = [Operation(1, 0, 1, "put", "x", ("a", 0), "ok", 7)]
    assert check(history, VersionedStore()).outcome == "ok"
    assert check(history, VersionedStore(initial=NEW)).outcome == "violation"


def test_a_put_that_ended_in_maybe_need_not_be_done_where_its_version_is_not_known() -> None:
    history = [
        Operation(1, 0, 1, "put", "x", ("a", 0), "unknown"),
        Operation(2, 2, 3, "put", "x", ("b", 4), "raised", "Maybe"),
        Operation(2, 4, 5, "get", "x", (), "ok", ("a", 3)),
    ]
    assert check(history, VersionedStore()).outcome == "ok"
