"""The model of the coordination store: against a brute-force specification, and against the store itself."""

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from tests.checker.histories import intervals
from tests.services.store.model import Store
from viewstamp.checker.coordination_model import CoordinationModel
from viewstamp.checker.history import Operation, OutcomeKind, freeze
from viewstamp.checker.linearizable import check
from viewstamp.checker.models import ANYTHING
from viewstamp.services.store.machine import ERRORS
from viewstamp.services.store.types import Compare, Delete, Get, Inner, Innermost, Put, Txn

ALL = b"\0"


# A specification that shares no line with the model: every revision is tried, and every end of a lease


class Held(NamedTuple):
    """The store, with all the states that it had, by revision."""

    last: int = 0
    leases: tuple[tuple[int, int], ...] = ()
    states: tuple[tuple[int, tuple[tuple[Any, ...], ...]], ...] = ((0, ()),)
    refused: int = 0

    @property
    def items(self) -> dict[bytes, tuple[Any, ...]]:
        """Keys as clients get them."""
        return {item[0]: item for item in self.states[-1][1]}

    def changed(self, revision: int, items: dict[bytes, tuple[Any, ...]]) -> "Held":
        """Return it after a change."""
        state = tuple(items[key] for key in sorted(items))
        return self._replace(last=revision, states=(*self.states, (revision, state)))


Ended = tuple[Held, str, Any]
"""The store after an operation, the outcome, the result."""


def covered(items: dict[bytes, Any], key: bytes, end: bytes) -> list[bytes]:
    return [
        each
        for each in sorted(items)
        if (each == key if not end else (each >= key and end == ALL) or key <= each < end)
    ]


def puts(items: dict[bytes, Any], put: tuple[Any, ...], revision: int) -> Any:
    """Write a key; return the result."""
    _, key, value, lease, prev, _, _ = put
    before = items.get(key)
    create, version = (before[2], before[4]) if before else (revision, 0)
    items[key] = (key, value, create, revision, version + 1, lease)
    return (1, revision, before if prev else None)


def page(items: dict[bytes, Any], get: tuple[Any, ...], told: int, *, past: bool) -> Any:
    _, key, end, limit, _, _, _ = get
    found = [items[each] for each in covered(items, key, end)]
    shown = tuple(found[: limit or len(found)])
    return (3, told, shown, len(shown) < len(found), len(shown) if past else len(found))


def outcomes(state: Held, op: str, args: tuple[Any, ...], top: int) -> Iterator[Ended]:
    """Yield all that an operation may end in; no revision is above `top`."""
    given, after = args[0], range(state.last + 1, top + 1)
    living = dict(state.leases)
    if op == "kv_put":
        if given[3] and given[3] not in living:
            yield state, "raised", "LeaseNotFound"
            return
        for revision in after:
            items = state.items
            result = puts(items, given, revision)
            yield state.changed(revision, items), "ok", result
    elif op == "kv_delete":
        gone = covered(state.items, *given[1:3])
        shown = tuple(state.items[key] for key in gone) if given[3] else ()
        if not gone:
            for told in range(state.last, top + 1):
                yield state._replace(last=told), "ok", (2, told, 0, ())
        for revision in after if gone else ():
            left = {key: item for key, item in state.items.items() if key not in gone}
            yield state.changed(revision, left), "ok", (2, revision, len(gone), shown)
    elif op == "kv_range":
        yield from ranges(state, given, top)
    elif op == "kv_txn":
        yield from transactions(state, given, top)
    elif op == "lease_grant":
        ttl_ms, number = args
        if number in living:
            yield state, "raised", "LeaseExists"
        else:
            yield state._replace(leases=tuple(sorted((*state.leases, (number, ttl_ms))))), "ok", number
    elif given not in living:
        yield state, "raised", "LeaseNotFound"
    elif op == "lease_keep_alive":
        yield state, "ok", living[given]
    else:
        yield from ends(state, given, top)


def ends(state: Held, lease: int, top: int) -> Iterator[Ended]:
    left = {key: item for key, item in state.items.items() if item[5] != lease}
    without = state._replace(leases=tuple(each for each in state.leases if each[0] != lease))
    if len(left) == len(state.items):
        for told in range(state.last, top + 1):
            yield without._replace(last=told), "ok", told
    else:
        for revision in range(state.last + 1, top + 1):
            yield without.changed(revision, left), "ok", revision


def ranges(state: Held, get: tuple[Any, ...], top: int) -> Iterator[Ended]:
    at = get[4]
    for told in range(state.last, top + 1):
        seen = state._replace(last=told)
        if at in {0, told}:
            yield seen, "ok", page(state.items, get, told, past=False)
        elif at > told:
            yield state, "raised", "FutureRevision"
        else:
            yield seen._replace(refused=max(at, state.refused)), "raised", "CompactedRevision"
            if at > state.refused:
                items = [items for revision, items in state.states if revision <= at][-1]
                yield seen, "ok", page({item[0]: item for item in items}, get, told, past=True)


def transactions(state: Held, txn: tuple[Any, ...], top: int) -> Iterator[Ended]:
    """Yield the ends of a transaction with one condition on a `mod`, puts then and a read otherwise."""
    ((key, _, _, operand, _),), then, otherwise = txn
    if state.items.get(key, (0, 0, 0, 0))[3] == operand:
        twice = len({put[1] for put in then}) < len(then)
        unleased = any(put[3] and put[3] not in dict(state.leases) for put in then)
        for reason in ["DuplicateKey"] * twice + ["LeaseNotFound"] * unleased:
            yield state, "raised", reason
        if twice or unleased:
            return
        for revision in range(state.last + 1, top + 1):
            items = state.items
            results = tuple(puts(items, put, revision) for put in then)
            yield state.changed(revision, items), "ok", (revision, True, results)
    else:
        for told in range(state.last, top + 1):
            results = tuple(page(state.items, get, told, past=False) for get in otherwise)
            yield state._replace(last=told), "ok", (told, False, results)


def is_legal(history: list[Operation], state: Held, top: int) -> bool:
    """Try whatever may come next, as the definition of linearizability has it."""
    waiting = [operation for operation in history if operation.answered]
    if not waiting:
        return True
    first_return = min(operation.returned for operation in waiting if operation.returned is not None)
    for place, operation in enumerate(history):
        if operation.call > first_return:
            continue
        rest = [*history[:place], *history[place + 1 :]]
        for after, outcome, result in outcomes(state, operation.op, operation.args, top):
            fits = (outcome, result) == (operation.outcome, operation.result)
            if (fits or not operation.answered) and is_legal(rest, after, top):
                return True
    return any(
        is_legal(history, after, top) for lease, _ in state.leases for after, _, _ in ends(state, lease, top)
    )


def calls(rng: Random, state: Held) -> tuple[str, tuple[Any, ...]]:
    key, value, lease = rng.choice([b"a", b"b"]), rng.choice([b"x", b"y"]), rng.choice([0, 0, 7])
    at = rng.choice([0, 0, state.last, max(0, state.last - 1), state.last + 1])
    known = state.items.get(key, (0, 0, 0, 0))[3]
    put = (1, key, value, lease, rng.random() < 0.5, False, False)
    get = (3, b"a", ALL, rng.choice([0, 0, 1]), at, False, False)
    now = (3, key, b"", 0, 0, False, False)
    txn = (
        ((key, "mod", "=", rng.choice([known, known, 0]), b""),),
        (put, (1, b"b", b"z", 0, False, False, False)),
        (now,),
    )
    return rng.choice(
        [
            ("kv_put", (put,)),
            ("kv_put", (put,)),
            ("kv_delete", ((2, key, rng.choice([b"", ALL]), rng.random() < 0.5),)),
            ("kv_range", (get,)),
            ("kv_range", (get,)),
            ("kv_txn", (txn,)),
            ("lease_grant", (1_000, 7)),
            (rng.choice(["lease_keep_alive", "lease_revoke"]), (7,)),
        ]
    )  # fmt: skip


def plausible(rng: Random) -> list[Operation]:
    """Return a history that is often linearizable."""
    history, state, past = [], Held(), [Held()]
    free = dict.fromkeys(range(3), 0)
    for _ in range(rng.randint(2, 5)):
        client = rng.randrange(3)
        call = free[client] + rng.randint(0, 3)
        free[client] = returned = call + rng.randint(0, 5)
        if rng.random() < 0.2 and state.leases:
            state = next(ends(state, 7, state.last + 1))[0]
        op, args = calls(rng, state)
        after, outcome, result = rng.choice(list(outcomes(state, op, args, state.last + 2))[:4])
        lost = rng.random() < 0.2
        if not lost or rng.random() < 0.5:
            state = after
            past.append(state)
        if rng.random() < 0.15:
            wrong = rng.choice(past)
            _, outcome, result = rng.choice(list(outcomes(wrong, op, args, wrong.last + 2)))
        ended = (outcome, result) if not lost else ("unknown", None)
        history.append(Operation(client, call, returned, op, None, args, *ended))
    return history


def test_verdict_is_that_of_the_definition() -> None:
    seen = {True: 0, False: 0}
    for seed in range(1_500):
        history = plausible(Random(f"store {seed}"))
        expected = is_legal(history, Held(), 14)
        assert check(history, CoordinationModel()).outcome == ("ok" if expected else "violation"), (
            seed,
            history,
        )
        seen[expected] += 1
    assert min(seen.values()) >= 200, seen


# Against the store itself


def wire(rng: Random, store: Store) -> tuple[str, tuple[Any, ...]]:
    """Return a random call of the store: any shape of it that clients use."""
    last = store.token() if store.seqno else 0
    key, end = rng.choice([b"a", b"b", b"c"]), rng.choice([b"", b"c", ALL])
    lease = rng.choice([0, 0, 5, 6])
    put = Put(key, rng.randbytes(2), lease, rng.random() < 0.5, rng.random() < 0.1, rng.random() < 0.1)
    at = rng.choice([0, 0, last, last - (1 << 20), last - 3 * (1 << 20), last + 1])
    get = Get(key, end, rng.randrange(3), max(at, 0), rng.random() < 0.2, rng.random() < 0.2)
    target, operand = rng.choice(
        [("version", 1), ("create", 0), ("mod", last), ("lease", 5), ("value", b"m"), ("value", 3)]
    )
    when = [Compare(key, target, rng.choice(["=", "!=", "<", ">"]), operand, end)]  # type: ignore[arg-type]
    one, other = Put(b"d", b"1"), Delete(key, end, rng.random() < 0.5)
    inner = Inner(when, [Get(b"d"), Innermost([], [one], [])], [other])
    txn = Txn(when, rng.choice([[one, get], [other, get], [put, Put(b"d", b"2")], [inner]]), [get, put])
    return rng.choice(
        [
            ("kv_put", (put,)),
            ("kv_delete", (Delete(key, end, rng.random() < 0.5),)),
            ("kv_range", (get,)),
            ("kv_range", (get,)),
            ("kv_txn", (txn,)),
            ("kv_txn", (txn,)),
            ("lease_grant", (rng.choice([100, 1_000]), rng.choice([5, 6]))),
            ("lease_keep_alive", (5,)),
            ("lease_revoke", (6,)),
        ]
    )


def recorded(seed: int, *, unknown: float) -> list[Operation]:
    """Return what clients of a store saw. Leases end, and are not in the history; the past is forgotten."""
    rng, store = Random(seed), Store()
    history = []
    for _, call, returned, client in intervals(rng, 60, 4, 200):
        store.now += rng.randrange(100_000)
        while store.ring():
            pass
        if rng.random() < 0.05 and store.machine._table.revision:
            store.do("kv_compact", store.machine._table.revision)
        op, args = wire(rng, store)
        ended: tuple[OutcomeKind, Any] = ("unknown", None)
        try:
            result = (store.ask if op == "kv_range" else store.do)(op, *args)
        except ERRORS as error:
            ended = "raised", type(error).__name__
        else:
            ended = "ok", freeze(result)
        if rng.random() < unknown:
            ended = "unknown", None
        history.append(Operation(client, call, returned, op, None, freeze(args), *ended))
    return sorted(history, key=lambda each: each.call)


@pytest.mark.parametrize("seed", range(40))
def test_what_the_store_did_is_accepted_whatever_overlapped(seed: int) -> None:
    history = recorded(seed, unknown=0.05 * (seed % 2))
    verdict = check(history, CoordinationModel())
    assert verdict.outcome == "ok", verdict


def spoiled(value: Any, rng: Random) -> Any:
    """Return the value with one number, one text or one answer of it changed."""
    if isinstance(value, tuple) and value:
        place = rng.randrange(len(value))
        return (*value[:place], spoiled(value[place], rng), *value[place + 1 :])
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + rng.choice([-1, 1, 1 << 19])
    return b"other" if isinstance(value, bytes) else 1


def test_a_result_that_is_changed_is_noticed() -> None:
    noticed = 0
    for seed in range(200):
        rng, history = Random(seed), recorded(seed % 10, unknown=0.0)
        place = rng.choice([at for at, each in enumerate(history) if each.outcome == "ok"])
        wrong = spoiled(history[place].result, rng)
        changed = [*history[:place], replace(history[place], result=wrong), *history[place + 1 :]]
        noticed += check(changed, CoordinationModel()).outcome == "violation"
    assert noticed >= 150


def test_what_the_model_cannot_judge_is_said() -> None:
    model = CoordinationModel()
    for op, key, args, reason in [
        ("get", None, (1,), "no operation"),
        ("kv_put", "k", ((1,),), "no `key`"),
        ("lease_grant", None, (), "up to 2 arguments"),
        ("kv_put", None, ((2,),), "begins with 1"),
        ("kv_txn", None, ((1, 2),), "when, then, otherwise"),
    ]:
        assert reason in (model.objection(Operation(1, 0, 1, op, key, args)) or "")
    wrong = Operation(1, 0, 1, "lease_revoke", None, (1,))
    assert "leave --initial out" in (CoordinationModel(initial=ANYTHING).objection(wrong) or "")
    empty = model.initial_of_part([])
    assert model.describe(empty) == "{} at revision 0, leases {}"
