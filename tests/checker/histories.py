"""Histories for tests of the checker: linearizable by construction, small and arbitrary, with anomalies."""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import combinations, permutations
from random import Random
from typing import Any

from msgspec.structs import replace

from viewstamp.checker.history import Operation
from viewstamp.checker.models import ILLEGAL, Either, Model


def intervals(rng: Random, count: int, clients: int, pause: int) -> list[tuple[int, int, int, int]]:
    """Return (effect, call, return, client): each client calls one after the other."""
    free = [(0, client) for client in range(clients)]
    heapify(free)
    found = []
    for _ in range(count):
        idle_since, client = heappop(free)
        call = idle_since + rng.randint(1, pause)
        effect = call + rng.randint(1, 100)
        returned = effect + rng.randint(1, 100)
        found.append((effect, call, returned, client))
        heappush(free, (returned, client))
    return sorted(found)


def store_history(
    rng: Random, count: int, clients: int = 10, keys: int = 10, unknown: float = 0.0, pause: int = 50
) -> list[Operation]:
    """Return a history of a versioned store in which each call really took effect at one moment."""
    store: dict[str, tuple[Any, int]] = {}
    history = []
    for effect, call, returned, client in intervals(rng, count, clients, pause):
        key = f"k{rng.randrange(keys)}"
        value, version = store.get(key, (None, 0))
        made: tuple[str, tuple[Any, ...], str, Any]
        if rng.random() < 0.5:
            made = ("get", (), "ok", (value, version)) if version else ("get", (), "raised", "NoKey")
        else:
            wanted = version if rng.random() < 0.7 else rng.randint(0, version + 1)
            new = f"{client}@{effect}"
            if wanted == version:
                store[key] = (new, version + 1)
                made = ("put", (new, wanted), "ok", version + 1)
            else:
                made = ("put", (new, wanted), "raised", "VersionMismatch" if version else "NoKey")
        operation, args, outcome, result = made
        lost = rng.random() < unknown
        history.append(
            Operation(client, call, None, operation, key, args, "unknown")
            if lost
            else Operation(client, call, returned, operation, key, args, outcome, result)  # type: ignore[arg-type]
        )
    return sorted(history, key=lambda done: done.call)


def arbitrary_history(
    rng: Random,
    count: int,
    calls: Callable[[Random], tuple[str, tuple[Any, ...]]],
    results: Sequence[tuple[str, Any]],
) -> list[Operation]:
    """Return calls at random moments with random results: most such histories are not linearizable."""
    history = []
    for number in range(count):
        call = rng.randrange(12)
        name, args = calls(rng)
        if rng.random() < 0.2:
            history.append(Operation(number, call, None, name, "x", args, "unknown"))
            continue
        outcome, result = rng.choice(results)
        history.append(
            Operation(number, call, call + rng.randrange(8), name, "x", args, outcome, result)  # type: ignore[arg-type]
        )
    return history


def is_linearizable_by_trying(history: Sequence[Operation], model: Model) -> bool:
    """Try every order of every choice of unknown operations: obviously right, and hopeless beyond eight."""
    model.parts(history)
    answered = [operation for operation in history if operation.answered]
    unknown = [operation for operation in history if operation.outcome == "unknown"]
    return any(
        _legal(order, model)
        for size in range(len(unknown) + 1)
        for chosen in combinations(unknown, size)
        for order in permutations([*answered, *chosen])
    )


def _legal(order: Sequence[Operation], model: Model) -> bool:
    for place, later in enumerate(order):
        if any(later.returned is not None and later.returned < earlier.call for earlier in order[:place]):
            return False
    states = {model.initial_of_part(order)}
    for operation in order:
        after = [model.step(state, operation) for state in states]
        states = {
            one
            for state in after
            if state is not ILLEGAL
            for one in (state.states if isinstance(state, Either) else (state,))
        }
    return bool(states)


def puts_that_count(history: Sequence[Operation]) -> list[tuple[int, Operation]]:
    return [
        (place, operation)
        for place, operation in enumerate(history)
        if operation.op == "put" and operation.outcome == "ok"
    ]


def plant_stale_read(rng: Random, history: list[Operation]) -> list[Operation]:
    """Let a get return a value that was replaced by a put that ended before the get began."""
    candidates = []
    puts = [put for _, put in puts_that_count(history)]
    for place, operation in enumerate(history):
        if operation.op != "get" or operation.outcome != "ok":
            continue
        before = [put for put in puts if put.key == operation.key and put.returned < operation.call]  # type: ignore[operator]
        older = [put for put in before if any(other.result > put.result for other in before)]
        candidates += [(place, put) for put in older[-1:]]
    place, put = rng.choice(candidates)
    stale = replace(history[place], result=(put.args[0], put.result))
    return [*history[:place], stale, *history[place + 1 :]]


def plant_lost_update(rng: Random, history: list[Operation]) -> list[Operation]:
    """Let a put that failed claim success: its value is never to be seen, another put has the version."""
    failed = [
        place
        for place, operation in enumerate(history)
        if operation.op == "put"
        and operation.result == "VersionMismatch"
        and operation.args[1] > 0
        and any(
            put.key == operation.key and put.args[1] == operation.args[1]
            for _, put in puts_that_count(history)
        )
    ]
    place = rng.choice(failed)
    lost = replace(history[place], outcome="ok", result=history[place].args[1] + 1)
    return [*history[:place], lost, *history[place + 1 :]]


def plant_double_apply(rng: Random, history: list[Operation]) -> list[Operation]:
    """Let a put's own version number come out as if it had been executed twice."""
    place, put = rng.choice(puts_that_count(history))
    return [*history[:place], replace(put, result=put.result + 1), *history[place + 1 :]]


def plant_version_skip(rng: Random, history: list[Operation]) -> list[Operation]:
    """Let all that was seen of a key after one put be one version too high."""
    place, put = rng.choice([found for found in puts_that_count(history) if found[1].result > 1])

    def skipped(operation: Operation) -> Operation:
        if operation.key != put.key or operation.outcome != "ok":
            return operation
        if operation.op == "get":
            value, version = operation.result
            return replace(operation, result=(value, version + (version >= put.result)))
        moved = operation.args[1] >= put.result
        args = (operation.args[0], operation.args[1] + moved)
        return replace(operation, args=args, result=operation.result + (operation.result >= put.result))

    assert history[place] is put
    return [skipped(operation) for operation in history]
