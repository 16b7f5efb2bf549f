"""Many sequences of calls of one class, each run in several equal ways; the first difference, made small."""

import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.rules import HIDDEN_STATE, HOST, SET_ORDER, Rule
from viewstamp.sim.workloads.own_machine import OwnMachine
from viewstamp.testing.elsewhere import Question, ask, steps_of
from viewstamp.testing.steps import STEPS, Step
from viewstamp.testing.twins import Contradiction, contradiction, digests, outcomes

SEEDS: Final = 25
"""Sequences of one examination."""
_ATTEMPTS_MAX: Final = 400
_LONG: Final = 2_000
"""Calls of the one long sequence: more than Python has frames for a recursion along the state."""
_ROUNDS_ELSEWHERE: Final = 8


class Difference(NamedTuple):
    """A finding, and the fewest calls that show it."""

    contradiction: Contradiction
    seed: int
    drawn: int
    """How many steps the seed draws."""
    kept: tuple[int, ...]
    steps: tuple[Step, ...]

    @property
    def rule(self) -> Rule:
        """The rule that is broken."""
        return self.contradiction.rule


def find_difference(
    workload: OwnMachine,
    name: str | None,
    *,
    first_seed: int = 0,
    seeds: int = SEEDS,
    pythons: Sequence[str] = (),
    expired: Callable[[], bool] = lambda: False,
) -> Difference | None:
    """Return the first difference between equal runs of a class; None: there is none in these seeds.

    Args:
        workload: the class, and how its arguments are drawn.
        name: MODULE:CLASS, by which another process finds it; None: no other process is asked.
        first_seed: of the sequences.
        seeds: how many.
        pythons: other interpreters, which have this library too.
        expired: asked before each seed whether to stop.
    """
    definition = MachineDefinition.of(workload.machine)
    done = []
    for seed in range(first_seed, first_seed + seeds):
        if expired():
            break
        steps = steps_of(workload, seed, STEPS)
        found = contradiction(definition, steps, seed)
        if found is not None:
            return _shrunk(workload, definition, found, seed)
        done.append(seed)
    long = _at_length(workload, definition, first_seed) if done else None
    if long is not None or name is None or not done:
        return long
    for python in (sys.executable, *pythons):
        different = _elsewhere(workload, definition, name, done, python)
        if different is not None:
            return different
    return None


def replay(
    workload: OwnMachine, name: str, seed: int, count: int, kept: Sequence[int]
) -> Contradiction | None:
    """Return what the kept steps of a seed show; None: nothing any longer."""
    definition = MachineDefinition.of(workload.machine)
    steps = steps_of(workload, seed, count, kept)
    found = contradiction(definition, steps, seed)
    if found is None:
        question = Question(name, ((seed, count, tuple(kept)),))
        theirs = ask(question, as_host=True)
        ours = outcomes(definition, steps)
        at = None if theirs is None else _first_difference(digests(ours), theirs[0])
        if at is not None:
            found = _other_process(workload, question, steps, at, sys.executable)
    return found


def _at_length(workload: OwnMachine, definition: MachineDefinition, seed: int) -> Difference | None:
    steps = steps_of(workload, seed, _LONG)
    found = contradiction(definition, steps, seed)
    if found is None:
        return None
    kept = tuple(range(found.at + 1))
    return Difference(found, seed, _LONG, kept, tuple(steps[: found.at + 1]))


def _shrunk(
    workload: OwnMachine, definition: MachineDefinition, found: Contradiction, seed: int
) -> Difference:
    """Leave out steps as long as the same rule is found."""
    steps = steps_of(workload, seed, STEPS)
    kept = list(range(found.at + 1))
    best = found
    attempts = 0
    size = max(1, len(kept) // 2)
    while size:
        place = 0
        while place < len(kept) and attempts < _ATTEMPTS_MAX:
            fewer = kept[:place] + kept[place + size :]
            attempts += 1
            again = contradiction(definition, [steps[one] for one in fewer], seed) if fewer else None
            if again is not None and again.rule == found.rule:
                kept, best = fewer[: again.at + 1], again
            else:
                place += size
        size //= 2
    return Difference(best, seed, STEPS, tuple(kept), tuple(steps[one] for one in kept))


def _elsewhere(
    workload: OwnMachine, definition: MachineDefinition, name: str, seeds: Sequence[int], python: str
) -> Difference | None:
    question = Question(name, tuple((seed, STEPS, None) for seed in seeds))
    theirs = ask(question, python, as_host=python == sys.executable)
    if theirs is None:
        return None
    for seed, found in zip(seeds, theirs, strict=True):
        steps = steps_of(workload, seed, STEPS)
        at = _first_difference(digests(outcomes(definition, steps)), found)
        if at is not None:
            return _shrunk_elsewhere(workload, definition, name, seed, at, python)
    return None


def _first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    pairs = enumerate(zip(ours, theirs, strict=True))
    return next((place for place, (one, other) in pairs if one != other), None)


def _shrunk_elsewhere(
    workload: OwnMachine, definition: MachineDefinition, name: str, seed: int, at: int, python: str
) -> Difference:
    """Ask for many smaller sequences at a time: starting a process is what takes long."""
    steps = steps_of(workload, seed, STEPS)
    kept = tuple(range(at + 1))
    for _ in range(_ROUNDS_ELSEWHERE):
        smaller = [half for size in (len(kept) // 2, len(kept) // 4, 1) for half in _without(kept, size)]
        question = Question(name, tuple((seed, STEPS, one) for one in smaller))
        theirs = ask(question, python, as_host=python == sys.executable) if smaller else None
        fewer = kept
        for one, found in zip(smaller, theirs or [], strict=False):
            place = _first_difference(digests(outcomes(definition, [steps[step] for step in one])), found)
            if place is not None and place + 1 < len(fewer):
                fewer = one[: place + 1]
        if fewer == kept:
            break
        kept = fewer
    small = tuple(steps[one] for one in kept)
    question = Question(name, ((seed, STEPS, kept),))
    why = _other_process(workload, question, small, len(small) - 1, python)
    return Difference(why, seed, STEPS, kept, small)


def _without(kept: tuple[int, ...], size: int) -> list[tuple[int, ...]]:
    if not size or size >= len(kept):
        return []
    return [kept[:place] + kept[place + size :] for place in range(0, len(kept), size)]


def _other_process(
    workload: OwnMachine, question: Question, steps: Sequence[Step], at: int, python: str
) -> Contradiction:
    """Say why another process left something else behind: its Python, its hashes, its host, or itself."""
    ours = outcomes(MachineDefinition.of(workload.machine), steps)
    who = steps[at].method or "session_ended"
    told = f"{who} {ours[at]} here, and something else"
    if python != sys.executable:
        return Contradiction(HOST, at, f"{told} under {python}")
    first, again = ask(question), ask(question)
    if first != again:
        return Contradiction(HIDDEN_STATE, at, f"{told} in each process that is started in the same way")
    if first == [digests(ours)]:
        return Contradiction(HOST, at, f"{told} on a host with another time zone or language")
    return Contradiction(SET_ORDER, at, f"{told} in a process with another PYTHONHASHSEED")
