from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.checker.histories import (
    arbitrary_history,
    is_linearizable_by_trying,
    plant_double_apply,
    plant_lost_update,
    plant_stale_read,
    plant_version_skip,
    store_history,
)
from viewstamp.checker.history import HistoryError, Operation
from viewstamp.checker.linearizable import check
from viewstamp.checker.models import CounterModel, LockModel, Model
from viewstamp.checker.register_model import Register
from viewstamp.checker.search import Budget, Search
from viewstamp.checker.store_model import NEW, VersionedStore

Call = tuple[str, tuple[Any, ...]]
Planter = Callable[[Random, list[Operation]], list[Operation]]


def register_call(rng: Random) -> Call:
    return rng.choice(
        [("read", ()), ("write", (rng.randrange(2),)), ("cas", (rng.randrange(2), rng.randrange(2)))]
    )


def counter_call(rng: Random) -> Call:
    return rng.choice([("read", ()), ("add", (1,)), ("add", (rng.randrange(-1, 2),))])


def lock_call(rng: Random) -> Call:
    return rng.choice([("acquire", ()), ("release", (rng.randrange(3),))])


def store_call(rng: Random) -> Call:
    write = ("put", (rng.choice("ab"), rng.randrange(3)))
    return rng.choice([("get", ()), write, write, ("set", (rng.choice("ab"),)), ("delete", ())])


ANSWERS: dict[str, tuple[Model, Callable[[Random], Call], list[tuple[str, Any]]]] = {
    "register": (Register(), register_call, [("ok", value) for value in (None, None, 0, 1, True, False)]),
    "counter": (CounterModel(), counter_call, [("ok", value) for value in (-1, 0, 1, 1, 2)]),
    "lock": (LockModel(), lock_call, [("ok", value) for value in (0, 1, 2, None, True, False)]),
    "store": (
        VersionedStore(initial=NEW),
        store_call,
        [
            *(("ok", (value, version)) for value in "ab" for version in (1, 2)),
            *(("ok", value) for value in (1, 2, None, True)),
            *(("raised", kind) for kind in ("NoKey", "VersionMismatch", "Maybe")),
        ],
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_verdict_equals_that_of_trying_all_orders_when_histories_are_small_and_arbitrary(name: str) -> None:
    model, calls, results = ANSWERS[name]
    rng = Random(name)
    seen = {True: 0, False: 0}
    for _ in range(2000):
        history = arbitrary_history(rng, rng.randint(1, 5), calls, results)
        expected = is_linearizable_by_trying(history, model)
        verdict = check(history, model)
        assert verdict.outcome == ("ok" if expected else "violation"), history
        seen[expected] += 1
    assert min(seen.values()) >= 50, seen


@pytest.mark.parametrize("name", ANSWERS)
def test_prefix_of_counterexample_is_illegal_and_nothing_shorter_is_when_a_history_is_illegal(
    name: str,
) -> None:
    model, calls, results = ANSWERS[name]
    rng = Random(name + " prefix")
    found = 0
    while found < 100:
        history = arbitrary_history(rng, 5, calls, results)
        counterexample = check(history, model).counterexample
        if counterexample is None:
            continue
        found += 1
        failing = counterexample.failing
        assert failing.returned is not None
        assert failing in counterexample.window
        assert not is_linearizable_by_trying(counterexample.prefix, model)
        prefix, initial = counterexample.prefix, model.initial_of_part(history)
        assert Search(prefix, model, initial, Budget(10_000), until=failing.returned - 1).run()
        assert not Search(prefix, model, initial, Budget(10_000), until=failing.returned).run()


@pytest.mark.parametrize("unknown", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("clients", [1, 5, 20])
def test_history_passes_when_each_call_took_effect_at_one_moment(unknown: float, clients: int) -> None:
    for seed in range(10):
        history = store_history(Random(seed), 400, clients, 3, unknown)
        assert check(history, VersionedStore(initial=NEW)).outcome == "ok", seed


@pytest.mark.parametrize(
    "plant", [plant_stale_read, plant_lost_update, plant_double_apply, plant_version_skip]
)
def test_anomaly_is_found_when_one_is_planted(plant: Planter) -> None:
    for seed in range(60):
        rng = Random(seed)
        history = plant(rng, store_history(rng, 300, 4, 2))
        verdict = check(history, VersionedStore(initial=NEW))
        assert verdict.outcome == "violation", (plant.__name__, seed)


def test_counterexample_is_two_lines_when_a_read_is_stale() -> None:
    history = [
        Operation(1, 0, 5, "put", "x", ("a", 0), "ok", 1),
        Operation(2, 0, 9, "get", "y", (), "raised", "NoKey"),
        Operation(1, 10, 15, "put", "x", ("b", 1), "ok", 2),
        Operation(3, 12, 30, "get", "x", (), "ok", ("b", 2)),
        Operation(2, 20, 25, "get", "x", (), "ok", ("a", 1)),
    ]
    assert str(check(history, VersionedStore(initial=NEW))) == (
        "violation (5 operations in 2 parts, 3 configurations): no order of the operations "
        "on key 'x' explains their results.\n"
        "  first [10 .. 15] client 1: put('x', 'b', 1) -> 2\n"
        "  then it can only have been: 'b' at version 2\n"
        "  [20 .. 25] client 2: get('x') -> ('a', 1)   <- cannot be explained\n"
        "  (3 earlier or concurrent operations of this part do not change that)"
    )


def test_concurrent_operation_is_listed_when_its_result_is_part_of_the_contradiction() -> None:
    history = [
        Operation(1, 0, 10, "cas", "x", (None, 1), "ok", True),
        Operation(2, 0, 10, "cas", "x", (None, 2), "ok", True),
        Operation(3, 0, 10, "read", "x", (), "ok", None),
    ]
    counterexample = check(history, Register()).counterexample
    assert counterexample is not None
    assert {operation.op for operation in counterexample.window} == {"cas"}


def test_moments_count_as_concurrent_when_they_are_equal() -> None:
    write = Operation(1, 0, 10, "write", "x", (1,), "ok", None)
    assert check([write, Operation(2, 10, 20, "read", "x", (), "ok", None)], Register()).outcome == "ok"
    assert (
        check([write, Operation(2, 11, 20, "read", "x", (), "ok", None)], Register()).outcome == "violation"
    )


def test_operation_may_take_effect_after_everything_when_its_outcome_is_unknown() -> None:
    write = Operation(1, 0, None, "write", "x", (1,), "unknown")
    late = [Operation(2, t, t + 1, "read", "x", (), "ok", None if t < 50 else 1) for t in range(1, 99, 2)]
    assert check([write, *late], Register()).outcome == "ok"
    back = Operation(2, 100, 101, "read", "x", (), "ok", None)
    assert check([write, *late, back], Register()).outcome == "violation"


def test_operation_is_left_out_when_it_failed() -> None:
    failed = Operation(1, 0, 5, "write", "x", (1,), "failed")
    assert check([failed, Operation(2, 10, 20, "read", "x", (), "ok", None)], Register()).outcome == "ok"
    assert check([failed, Operation(2, 10, 20, "read", "x", (), "ok", 1)], Register()).outcome == "violation"


def test_verdict_is_unknown_when_the_budget_runs_out() -> None:
    history = store_history(Random(1), 100)
    model = VersionedStore(initial=NEW)
    verdict = check(history, model, steps_max=20)
    assert verdict.outcome == "unknown"
    assert "key 'k" in str(verdict)
    assert (
        check(history, VersionedStore(initial=NEW), expired=lambda: True, steps_max=300).outcome == "unknown"
    )


def test_history_is_refused_when_the_model_does_not_know_an_operation() -> None:
    with pytest.raises(HistoryError, match=r"operation 1 .*no operation 'jump'"):
        check([Operation(1, 0, 5, "jump", "x")], Register())


def test_the_work_is_in_proportion_to_the_history_when_ten_clients_use_ten_keys() -> None:
    """Counted in configurations; `benchmarks.checker` says how long they take."""
    history = store_history(Random(7), 10_000, clients=10, keys=10, unknown=0.02)
    verdict = check(history, VersionedStore(initial=NEW))
    assert verdict.outcome == "ok"
    assert verdict.operations == 10_000
    assert verdict.steps < 10 * verdict.operations


def lost_writes(count: int, op: str = "write") -> list[Operation]:
    return [Operation(100 + i, i, None, op, "x", (f"lost {i}",), "unknown") for i in range(count)]


def test_lost_writes_cost_little_when_results_are_right_and_when_they_are_not() -> None:
    """Counted in configurations: without the rules about unknown operations there are millions."""
    history = lost_writes(200)
    value: str | None = None
    rng = Random(5)
    for moment in range(1_000, 3_000, 10):
        if rng.random() < 0.3:
            value = f"written {moment}"
            history.append(Operation(1, moment, moment + 15, "write", "x", (value,), "ok"))
        elif rng.random() < 0.2:
            value = f"lost {moment // 10 - 100}"
        history.append(Operation(2, moment + 16, moment + 17, "read", "x", (), "ok", value))
    assert check(history, Register(), steps_max=10_000).outcome == "ok"
    wrong = Operation(3, 9_000, 9_001, "read", "x", (), "ok", "never written")
    assert check([*history, wrong], Register(), steps_max=100_000).outcome == "violation"


@pytest.mark.parametrize("count", [20, 100])
def test_lost_writes_of_a_versioned_key_cost_little_when_half_of_them_were_read(count: int) -> None:
    history = lost_writes(count, "set")
    version = 0
    for number in range(0, count, 2):
        version += 1 + (number % 3 == 0)  # now and then a write that nobody read comes between
        moment = 500 + 10 * number
        history.append(Operation(1, moment, moment + 1, "get", "x", (), "ok", (f"lost {number}", version)))
    assert check(history, VersionedStore(initial=NEW), steps_max=10 * count).outcome == "ok"
    skipped = Operation(1, 9_000, 9_001, "get", "x", (), "ok", ("lost 0", count + 1))
    assert check([*history, skipped], VersionedStore(initial=NEW), steps_max=10**5).outcome != "ok"


def test_easy_parts_are_judged_when_a_hard_one_takes_the_budget() -> None:
    hard = [Operation(i, 0, 1_000, "write", "hard", (i,), "ok") for i in range(30)]
    hard += [Operation(99, 1_001 + 2 * i, 1_002 + 2 * i, "read", "hard", (), "ok", i) for i in range(2)]
    right = [
        call
        for name in "abcd"
        for call in (
            Operation(1, 0, 1, "write", name, (1,), "ok"),
            Operation(1, 2, 3, "read", name, (), "ok", 1),
        )
    ]
    verdict = check([*hard, *right], Register(), steps_max=20_000)
    assert (verdict.outcome, verdict.undecided) == ("unknown", ("key 'hard'",))
    wrong = Operation(1, 4, 5, "read", "d", (), "ok", 2)
    assert check([*hard, *right, wrong], Register(), steps_max=20_000).outcome == "violation"
