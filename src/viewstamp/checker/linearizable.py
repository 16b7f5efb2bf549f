"""Is there one order of the calls, each between its call and its return, that explains all results?

`check` answers `ok`, `violation` with a minimal counter-example, or `unknown` where its budget was not
enough; the last is never a pass. Soundness rests on three facts: parts that share no state are judged apart
(Herlihy and Wing, "Linearizability" (1990), locality); each search is exhaustive (`checker_search`); and a
counter-example is only ever weakened: an operation is left out when the contradiction stands with any
outcome of it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

import msgspec

from viewstamp.checker.history import HistoryError, Operation
from viewstamp.checker.models import Model
from viewstamp.checker.search import Budget, Configuration, Search

STEPS_MAX: Final = 5_000_000
_FIRST_TURN: Final = 4096
_TURN_GROWTH: Final = 4
"""Parts take turns, the shortest first: one hard part does not use up what would decide the others."""
_CONFIGURATIONS_EXPLAINED_MAX: Final = 64
_STEPS_FOR_EXPLANATION: Final = 20_000
_STATES_SHOWN_MAX: Final = 5


class Counterexample(msgspec.Struct, frozen=True):
    """Why a part of a history is illegal, as small as it could be made."""

    part: str
    failing: Operation
    """The answered operation for whose return no legal order reaches; the earliest such return."""
    window: tuple[Operation, ...]
    """By call, `failing` among them: no order of these explains their results from any of `states`."""
    states: tuple[str, ...]
    """What the object could be before the window, in words; the first few."""
    states_left_out: int
    before: tuple[Operation, ...]
    """The last operations before the window up to one that made the state, in an order that is legal."""
    prefix: tuple[Operation, ...]
    """The shortest prefix of the part that is illegal: what was called before `failing` returned."""

    def __str__(self) -> str:
        lines = [f"no order of the operations on {self.part} explains their results."]
        lines += [f"  first {_placed(operation)}" for operation in self.before]
        more = f", or {self.states_left_out} other states" if self.states_left_out else ""
        lines.append(f"  then it can only have been: {'; or '.join(self.states)}{more}")
        for operation in self.window:
            mark = "   <- cannot be explained" if operation is self.failing else ""
            lines.append(f"  {_placed(operation)}{mark}")
        others = len(self.prefix) - len(self.window)
        lines.append(f"  ({others} earlier or concurrent operations of this part do not change that)")
        return "\n".join(lines)


class Verdict(msgspec.Struct, frozen=True):
    """What a check found."""

    outcome: Literal["ok", "violation", "unknown"]
    operations: int
    parts: int
    steps: int
    """Configurations that were visited."""
    counterexample: Counterexample | None = None
    undecided: tuple[str, ...] = ()
    """Parts for which the budget did not suffice."""

    def __str__(self) -> str:
        size = f"{self.operations} operations in {self.parts} parts, {self.steps} configurations"
        if self.outcome == "violation":
            return f"violation ({size}): {self.counterexample}"
        if self.outcome == "unknown":
            parts = ", ".join(self.undecided[:5])
            return f"unknown ({size}): the budget ran out for {parts}; raise it and check again"
        return f"ok ({size})"


def check(
    operations: Iterable[Operation],
    model: Model,
    *,
    steps_max: int = STEPS_MAX,
    expired: Callable[[], bool] | None = None,
) -> Verdict:
    """Judge a history. `expired` is asked now and then whether to give up.

    Raises:
        HistoryError: the model does not know an operation, or its arguments are wrong.
    """
    executed = [operation for operation in operations if operation.outcome != "failed"]
    refuse_foreign(executed, model)
    parts = model.parts(executed)
    budget = Budget(steps_max, expired)
    searches = [
        (name, part, Search(part, model, model.initial_of_part(part), budget))
        for name, part in sorted(parts, key=lambda named: len(named[1]))
    ]
    turn = _FIRST_TURN
    while searches and budget.steps > 0:
        undecided = []
        for name, part, search in searches:
            found = search.run(turn)
            if found is False:
                steps = steps_max - max(budget.steps, 0)
                return Verdict(
                    "violation", len(executed), len(parts), steps, explain(name, part, model, search)
                )
            if found is None:
                undecided.append((name, part, search))
        searches, turn = undecided, turn * _TURN_GROWTH
    steps = steps_max - max(budget.steps, 0)
    names = tuple(name for name, _, _ in searches)
    return Verdict("unknown" if names else "ok", len(executed), len(parts), steps, None, names)


def refuse_foreign(operations: Sequence[Operation], model: Model) -> None:
    """Raise `HistoryError` for the first operation that the model cannot judge."""
    for number, operation in enumerate(operations, start=1):
        objection = model.objection(operation)
        if objection is not None:
            raise HistoryError(
                f"operation {number} (client {operation.caller}, call {operation.call}): {objection}"
            )


def explain(name: str, part: Sequence[Operation], model: Model, search: Search) -> Counterexample:
    """Return why a search that ended without an order failed."""
    failing = search.answered[search.furthest]
    assert failing.returned is not None
    prefix = [operation for operation in part if operation.call <= failing.returned]
    starts = _configurations_at(search, failing.call)
    rests = [_remaining(search, start, failing.returned) for start in starts]
    states = list(dict.fromkeys(start.state for start in starts))
    needed = _weaken(failing, list(zip(starts, rests, strict=True)), model)
    return Counterexample(
        part=name,
        failing=failing,
        window=tuple(sorted(needed, key=lambda operation: operation.call)),
        states=tuple(model.describe(state) for state in states[:_STATES_SHOWN_MAX]),
        states_left_out=max(0, len(states) - _STATES_SHOWN_MAX),
        before=_latest_change(search, starts[0], model.initial_of_part(part)),
        prefix=tuple(sorted(prefix, key=lambda operation: operation.call)),
    )


def _configurations_at(search: Search, moment: int) -> list[Configuration]:
    """Return all visited configurations that the history can have been in just before `moment`.

    They have taken every operation that returned before it and none that was called since. The search
    has visited all of them: it cannot take a call that comes after a return it has not passed.
    """
    answered, unknown = search.answered, search.unknown
    later = sum(operation.call < moment for operation in answered)
    unborn = sum(operation.call < moment for operation in unknown)
    done = sum(
        1 << number
        for number, operation in enumerate(answered)
        if operation.returned is not None and operation.returned < moment
    )
    return [
        seen
        for seen in search.seen
        if not (done >> seen.low) & ~seen.window
        and seen.low + seen.window.bit_length() <= later
        and not seen.unknown >> unborn
    ]


def _remaining(search: Search, start: Configuration, until: int) -> list[Operation]:
    """Return what a configuration has not taken yet and was called by `until`."""
    answered = [
        operation
        for number, operation in enumerate(search.answered)
        if not start.has_taken(number) and operation.call <= until
    ]
    unknown = [
        operation
        for number, operation in enumerate(search.unknown)
        if not start.unknown >> number & 1 and operation.call <= until
    ]
    return answered + unknown


def _weaken(
    failing: Operation, cases: list[tuple[Configuration, list[Operation]]], model: Model
) -> list[Operation]:
    """Return the operations without whose results the contradiction would vanish, `failing` among them.

    One after the other is given an unknown outcome; where that leaves the contradiction, it stays so. Where
    there are too many cases, or a search takes too long, an operation counts as needed.
    """
    candidates = list(
        {id(operation): operation for _, rest in cases for operation in rest if operation.answered}.values()
    )
    if len(cases) > _CONFIGURATIONS_EXPLAINED_MAX:
        return candidates
    weak: set[int] = {id(operation) for _, rest in cases for operation in rest if not operation.answered}
    for operation in sorted(candidates, key=lambda candidate: candidate.call, reverse=True):
        if operation is not failing and _still_illegal(failing, cases, weak | {id(operation)}, model):
            weak.add(id(operation))
    return [operation for operation in candidates if id(operation) not in weak]


def _still_illegal(
    failing: Operation,
    cases: list[tuple[Configuration, list[Operation]]],
    weak: set[int],
    model: Model,
) -> bool:
    budget = Budget(_STEPS_FOR_EXPLANATION)
    for start, rest in cases:
        weakened = [
            msgspec.structs.replace(operation, outcome="unknown", returned=None, result=None)
            if id(operation) in weak
            else operation
            for operation in rest
        ]
        if Search(weakened, model, start.state, budget, until=failing.returned).run() is not False:
            return False
    return True


def _latest_change(search: Search, start: Configuration, initial: object) -> tuple[Operation, ...]:
    """Return the tail of the order that led to `start`, from the last operation that changed the state."""
    order = search.order(start)
    states = [initial, *(state for _, state in order)]
    for place in range(len(order) - 1, -1, -1):
        if states[place] != states[place + 1]:
            return (order[place][0],)
    return ()


def _placed(operation: Operation) -> str:
    returned = "open" if operation.returned is None else str(operation.returned)
    return f"[{operation.call} .. {returned}] client {operation.caller}: {operation}"
