"""Models of what is granted for a while: they accept what the services do, and refuse what these must not."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from tests.checker.histories import intervals
from tests.services.recipes.desk import ANNE, Desk
from viewstamp.checker.claim_models import LeasedQueueModel, ReadWriteLockModel, SemaphoreModel
from viewstamp.checker.history import Operation, freeze
from viewstamp.checker.linearizable import check
from viewstamp.checker.models import ANYTHING, Model
from viewstamp.services.recipes.queue_messages import NotTaken
from viewstamp.services.recipes.queues import QueueService
from viewstamp.services.recipes.semaphores import SemaphoreService

Call = tuple[str, tuple[Any, ...], Any]


def history(*calls: Call, unknown: tuple[int, ...] = ()) -> list[Operation]:
    """Return calls one after the other."""
    return [
        Operation(1, 10 * place, None, op, "k", args, "unknown")
        if place in unknown
        else Operation(1, 10 * place, 10 * place + 5, op, "k", args, "ok", freeze(result))
        for place, (op, args, result) in enumerate(calls)
    ]


def accepts(model: Model, operations: list[Operation]) -> bool:
    return check(operations, model).outcome == "ok"


@pytest.mark.parametrize(
    ("calls", "legal"),
    [
        (
            [("acquire", (2,), 1), ("acquire", (1,), 2), ("acquire", (1,), None), ("release", (1,), True)],
            True,
        ),
        ([("acquire", (2,), 1), ("acquire", (2,), 2)], False),
        ([("acquire", (2,), 1), ("acquire", (1,), None)], False),
        ([("acquire", (1,), 5), ("release", (5,), True), ("acquire", (3,), 5)], False),
        ([("acquire", (1,), 5), ("release", (5,), True), ("release", (5,), True)], False),
        ([("acquire", (1,), 5), ("release", (5,), False)], False),
        ([("release", (5,), False), ("acquire", (4,), None)], True),
    ],
)
def test_a_semaphore_is_never_over_granted(calls: list[Call], legal: bool) -> None:
    assert accepts(SemaphoreModel(initial=3), history(*calls)) is legal


def test_a_grant_that_nobody_heard_of_may_be_released_under_any_token() -> None:
    calls: list[Call] = [("acquire", (2,), 0), ("acquire", (2,), None), ("release", (7,), True)]
    assert accepts(SemaphoreModel(initial=3), history(*calls, unknown=(0,)))
    assert not accepts(SemaphoreModel(initial=3), history(*calls))
    assert not accepts(SemaphoreModel(initial=3), history(*calls, ("release", (8,), True), unknown=(0,)))


@pytest.mark.parametrize(
    ("modes", "legal"),
    [("rr", True), ("rw", False), ("wr", False), ("ww", False), ("rrr", True)],
)
def test_a_writer_is_alone(modes: str, legal: bool) -> None:
    names = {"r": "read", "w": "write"}
    calls: list[Call] = [("acquire", (names[mode],), place + 1) for place, mode in enumerate(modes)]
    assert accepts(ReadWriteLockModel(), history(*calls)) is legal
    refused: list[Call] = [*calls[:-1], ("acquire", (names[modes[-1]],), None)]
    assert accepts(ReadWriteLockModel(), history(*refused)) is not legal


PUT: list[Call] = [("put", ("a",), None), ("put", ("b",), None)]


@pytest.mark.parametrize(
    ("calls", "legal"),
    [
        ([("take", (), ["a", 1]), ("take", (), ["b", 2]), ("ack", (1,), True), ("ack", (1,), True)], False),
        ([("take", (), ["a", 1]), ("take", (), ["b", 2]), ("take", (), None)], True),
        ([("take", (), ["b", 1])], False),
        ([("take", (), ["a", 1]), ("take", (), ["a", 2]), ("ack", (2,), True)], True),
        ([("take", (), ["a", 1]), ("take", (), ["a", 2]), ("ack", (1,), True)], False),
        ([("take", (), ["a", 1]), ("take", (), ["a", 1])], False),
        ([("take", (), ["a", 1]), ("ack", (1,), False), ("take", (), ["b", 2])], False),
        ([("take", (), ["a", 1]), ("give_back", (1,), True), ("take", (), ["a", 2])], True),
        ([("take", (), ["a", 1]), ("ack", (1,), True), ("take", (), ["a", 2])], False),
        ([("take", (), None)], False),
    ],
)
def test_an_item_is_done_once_and_in_order(calls: list[Call], legal: bool) -> None:
    assert accepts(LeasedQueueModel(), history(*PUT, *calls)) is legal


def test_an_item_that_somebody_may_have_taken_may_be_done_under_any_token() -> None:
    calls: list[Call] = [*PUT, ("take", (), ["?", 1]), ("take", (), ["b", 5]), ("ack", (3,), True)]
    assert accepts(LeasedQueueModel(), history(*calls, unknown=(2,)))
    assert not accepts(LeasedQueueModel(), history(*calls[:2], *calls[3:]))


def semaphore_calls(rng: Random) -> Iterator[Call]:
    desk, tokens, sequence = Desk(SemaphoreService()), dict[int, int](), 0
    while True:
        if tokens and rng.random() < 0.5:
            token = rng.choice([*tokens, 3])
            with desk.by(ANNE) as service:
                released = token in tokens and service.release("s", tokens.pop(token)) == "released"
            yield "release", (token,), released
        else:
            sequence, weight = sequence + 1, rng.randint(1, 3)
            with desk.by(ANNE) as service:
                granted = service.acquire("s", sequence, 3, weight)
                if granted.state == "waiting":
                    service.release("s", sequence)
            if granted.token:
                tokens[granted.token] = sequence
            yield "acquire", (weight,), granted.token or None


def queue_calls(rng: Random) -> Iterator[Call]:
    desk, taken, number = Desk(QueueService()), dict[int, int](), 0
    with desk.by(ANNE) as service:
        service.configure("q", attempts_max=0)
    while True:
        number += 1
        draw = rng.random()
        desk.now += rng.randrange(200_000)
        with desk.by(ANNE) as service:
            if draw < 0.35:
                service.put("q", b"%d" % number)
                yield "put", (str(number),), None
            elif draw < 0.65 or not taken:
                answer = service.take("q", number, 300)
                if answer.item is None:
                    service.release("q", number)
                    yield "take", (), None
                else:
                    taken[answer.token] = number
                    yield "take", (), [answer.item.body.decode(), answer.token]
            else:
                token = rng.choice([*taken])
                op = rng.choice(("ack", "give_back"))
                try:
                    if op == "ack":
                        service.ack("q", taken.pop(token), token)
                        done = True
                    else:
                        done = service.release("q", taken.pop(token)) == "released"
                except NotTaken:
                    done = False
                yield op, (token,), done


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("model", "calls"),
    [(lambda: SemaphoreModel(initial=3), semaphore_calls), (LeasedQueueModel, queue_calls)],
)
def test_what_the_services_did_is_accepted_whatever_overlapped(
    model: Callable[[], Model], calls: Callable[[Random], Iterator[Call]], seed: int
) -> None:
    rng = Random(seed)
    made = calls(rng)
    operations = []
    for _, begin, end, client in intervals(rng, 60, 4, 200):
        op, args, result = next(made)
        if rng.random() < 0.05:
            operations.append(Operation(client, begin, None, op, "k", args, "unknown"))
        else:
            operations.append(Operation(client, begin, end, op, "k", args, "ok", freeze(result)))
    assert accepts(model(), sorted(operations, key=lambda one: one.call))


def test_what_a_model_cannot_judge_is_said() -> None:
    (wrong,) = history(("acquire", ("x",), 1))
    assert "a number of permits" in (SemaphoreModel(initial=3).objection(wrong) or "")
    assert "how many permits" in (SemaphoreModel(initial=ANYTHING).objection(wrong) or "")
    assert '"read" or "write"' in (ReadWriteLockModel().objection(wrong) or "")
    for model in (ReadWriteLockModel(initial=1), LeasedQueueModel(initial=1)):
        assert "leave --initial out" in (model.objection(wrong) or "")
    assert SemaphoreModel(initial=3).describe(((), (1,), 0))
    assert LeasedQueueModel().describe((((0, "a"),), ((0, 5),), 1, 5)) == "(('a', 5),)"
