"""The checker and its models against specifications that share no line with them.

Each history took place in some order; then a few outcomes became unknown and a few results were changed. Few
values, each used many times: a write that writes what is there already is where orders are easily lost.
"""

from collections.abc import Callable, Hashable, Iterator
from random import Random
from typing import Any

import pytest

from viewstamp.checker.history import Operation
from viewstamp.checker.linearizable import check
from viewstamp.checker.models import CounterModel, LockModel, Model, Register
from viewstamp.checker.store_model import VersionedStore

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


KINDS: dict[str, tuple[Callable[[], Model], Any, Specification, Calls]] = {
    "register": (Register, None, register, register_calls),
    "counter": (CounterModel, 0, counter, counter_calls),
    "store": (VersionedStore, None, store, store_calls),
    "lock": (LockModel, (None, -1), lock, lock_calls),
}


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
    for client, call, returned in moments(rng):
        op, args = calls(rng, state)
        after, outcome, result = rng.choice((specification(state, op, args) or [(state, "ok", None)])[:2])
        lost = rng.random() < 0.2
        if not lost or rng.random() < 0.5:
            state = after
        if rng.random() < 0.1:
            _, outcome, result = rng.choice(specification(state, op, args) or [(state, "ok", None)])
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
