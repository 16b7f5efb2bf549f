"""The search for a legal order of one part of a history: Wing and Gong's, as improved by Lowe.

Sources: J. Wing, C. Gong, "Testing and verifying concurrent objects" (1993); G. Lowe, "Testing for
linearizability" (2016), section 4. Depth-first: take an operation whose call is before every return that is
still to come, as the next of the order, if the model allows its result; go back where none is left; never
visit the same configuration (set of operations taken, state) twice.

Rules of this file:

- *Answered* operations stand in a doubly linked list of their calls and returns in order of time; taking one
  lifts both out. *Unknown* ones have no return: they may be taken at any time after their call, or never.
- A legal answered operation that changes nothing in any state, a read, is taken at once and without
  alternative: every order that is possible without it here is possible with it. A write of what is there
  already is different: it may be needed later. An unknown one that leaves the state is never taken.
- Of unknown operations that `Model.alike` calls exchangeable, only the earliest is tried.
- A configuration is (answered taken: all below `low`, and the bits of `window` from there; unknown taken;
  state). As operations are numbered by call, `window` stays as narrow as the concurrency, however long the
  history.
- An unknown operation need not be taken at all. So a configuration that differs from a visited one only in
  having taken more of them leads nowhere that the visited one does not lead: it is not visited.
- For the same reason two unknown operations are not taken in a row where the second alone leads to the same
  state: the second overwrites the first, and nobody saw the first.
- Where nothing answered can come next, unknown operations after which the next return is explained go first,
  then those that no result tells apart from others: what a result names may be needed for that result.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from viewstamp.checker.history import Operation
from viewstamp.checker.models import ILLEGAL, Either, Model, same_call

_NODES_BETWEEN_LOOKS_AT_THE_CLOCK: Final = 256


class Budget(msgspec.Struct):
    """What a check may spend. Shared by its searches; a search that finds it empty ends without a verdict."""

    steps: int
    """Configurations that may still be visited."""
    expired: Callable[[], bool] | None = None
    """Asked now and then: whether time is up."""

    def spend(self) -> bool:
        """Spend one step; return whether one was left."""
        self.steps -= 1
        if self.steps < 0:
            return False
        if (
            self.expired is not None
            and self.steps % _NODES_BETWEEN_LOOKS_AT_THE_CLOCK == 0
            and self.expired()
        ):
            self.steps = 0
            return False
        return True


class Configuration(NamedTuple):
    """What has been put in order so far, as a set, and where that has led. See the rules of this file."""

    low: int
    window: int
    unknown: int
    state: Hashable

    def has_taken(self, answered: int) -> bool:
        """Return whether the answered operation of this number has been put in order."""
        return answered < self.low or bool(self.window >> (answered - self.low) & 1)


Choice: TypeAlias = tuple[int, Hashable]
"""(number of an answered operation, or -1 - number of an unknown one; the state after it)."""


def _order(answered: Sequence[Operation]) -> list[tuple[int, int, int]]:
    """Return the events (time, 0 for a call and 1 for a return, number); at one moment calls come first."""
    calls = [(operation.call, 0, number) for number, operation in enumerate(answered)]
    returns = [
        (operation.returned, 1, number)
        for number, operation in enumerate(answered)
        if operation.returned is not None
    ]
    assert len(returns) == len(answered)
    return sorted(calls + returns)


class Search:
    """One search. Run it once; then its fields hold the result.

    With `until`, only what returns by then must find a place; other operations may, with their results.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        model: Model,
        initial: Hashable,
        budget: Budget,
        until: int | None = None,
    ) -> None:
        in_order = sorted(operations, key=lambda operation: operation.call)
        self.answered = [operation for operation in in_order if operation.answered]
        self.unknown = [operation for operation in in_order if operation.outcome == "unknown"]
        self.furthest = -1
        """Number of the answered operation whose return was the latest that the search got stuck before."""
        self.seen: dict[Configuration, tuple[Configuration, int] | None] = {}
        """Configurations visited; with each the one it was first reached from, and by which operation."""
        self.last = Configuration(0, 0, 0, initial)
        """Where the search stands; after a success, the configuration in which everything is in order."""
        self._model = model
        self._budget = budget
        self._until = until
        kinds = [model.alike(operation) for operation in self.unknown]
        self._twin_before = _earlier_twins(kinds)
        self._is_named = [
            kind == same_call(operation) for kind, operation in zip(kinds, self.unknown, strict=True)
        ]
        """For each unknown operation, whether results may tell it from others."""
        self._fewest: dict[tuple[int, int, Hashable], list[int]] = {}
        """For what was taken of the answered and the state: the unknown taken, no set within another."""
        self._path: list[tuple[Configuration, int, list[Choice]]] = []
        """How the search came here: what was left, what was taken there, what is still to be tried there."""
        self._link_events()
        self.seen[self.last] = None
        self._waiting: list[Choice] | None = None
        """What is to be tried next from `last`; None before the search has begun."""
        self._turn = -1
        """Steps left of this call of `run`; below zero: as many as the budget has."""

    def run(self, steps_max: int | None = None) -> bool | None:
        """Return whether there is a legal order; None if the budget or `steps_max` did not suffice.

        Called again after None, it goes on from where it stood.
        """
        self._turn = -1 if steps_max is None else steps_max
        if self._done():
            return True
        choices = self._choices() if self._waiting is None else self._waiting
        while choices or self._path:
            if not choices:
                self.last, number, choices = self._path.pop()
                if number >= 0:
                    self._unlift(number)
                continue
            taken = self._take(choices)
            if taken is None:
                continue
            self._path.append((*taken, choices))
            if self._done():
                return True
            choices = self._choices()
            if not self._spend_step():
                self._waiting = choices
                return None
        return False

    def _spend_step(self) -> bool:
        """Spend one step of the budget and of this turn; return whether the search may go on."""
        self._turn -= 1
        return self._budget.spend() and self._turn != 0

    def order(self, end: Configuration) -> list[tuple[Operation, Hashable]]:
        """Return the order that led to a visited configuration: each operation with the state after it."""
        steps = []
        came = self.seen[end]
        while came is not None:
            before, number = came
            operation = self.answered[number] if number >= 0 else self.unknown[-1 - number]
            steps.append((operation, end.state))
            end, came = before, self.seen[before]
        return steps[::-1]

    def _link_events(self) -> None:
        """Lay the events out as a list: node 0 is the head, node p + 1 the event at place p."""
        events = _order(self.answered)
        size = len(events) + 1
        self._next: list[int] = [*range(1, size), 0]
        self._previous = [size - 1, *range(size - 1)]
        self._number: list[int] = [-1] * size
        self._is_call: list[bool] = [False] * size
        self._call_node = [0] * len(self.answered)
        self._return_node = [0] * len(self.answered)
        for node, (_, is_return, number) in enumerate(events, start=1):
            self._number[node] = number
            self._is_call[node] = not is_return
            (self._return_node if is_return else self._call_node)[number] = node

    def _first_return(self) -> int:
        """Return the number of the operation with the next return, -1 where there is none left."""
        following, is_call, node = self._next, self._is_call, self._next[0]
        while is_call[node]:
            node = following[node]
        return self._number[node]

    def _done(self) -> bool:
        first = self._next[0]
        if first == 0:
            return True
        if self._until is None:
            return False
        returned = self.answered[self._first_return()].returned
        assert returned is not None
        return returned > self._until

    def _choices(self) -> list[Choice]:
        """Return what may come next, the best last: answered by return, unknown as a last resort."""
        state, step = self.last.state, self._model.step
        following, is_call = self._next, self._is_call
        choices: list[Choice] = []
        node = following[0]
        while is_call[node]:
            number = self._number[node]
            after = step(state, self.answered[number])
            if isinstance(after, Either):
                choices += [(number, one) for one in after.states]
            elif after is not ILLEGAL:
                if after == state and self._model.changes_nothing(self.answered[number]):
                    return [(number, state)]
                choices.append((number, after))
            node = following[node]
        first_return = self._number[node]
        self._note_stuck(first_return)
        if len(choices) > 1:
            choices.sort(key=lambda choice: self._return_node[choice[0]], reverse=True)
        return self._unknown_choices(first_return) + choices if self.unknown else choices

    def _note_stuck(self, number: int) -> None:
        if self.furthest < 0 or self._return_node[number] > self._return_node[self.furthest]:
            self.furthest = number

    def _unknown_choices(self, first_return: int) -> list[Choice]:
        """Return what of the unknown may come next, the most useful last."""
        blocked = self.answered[first_return]
        limit = blocked.returned
        assert limit is not None
        state, taken, step = self.last.state, self.last.unknown, self._model.step
        before_last = self._path[-1][0].state if self._path and self._path[-1][1] < 0 else None
        ranked: tuple[list[Choice], list[Choice], list[Choice]] = ([], [], [])
        for number, operation in enumerate(self.unknown):
            if operation.call > limit:
                break
            twin = self._twin_before[number]
            if taken >> number & 1 or (twin is not None and not taken >> twin & 1):
                continue
            for after in _states(step(state, operation)):
                if after == state or (
                    before_last is not None and after in _states(step(before_last, operation))
                ):
                    continue
                explains = step(after, blocked) is not ILLEGAL
                rank = 2 if explains else 0 if self._is_named[number] else 1
                ranked[rank].append((-1 - number, after))
        return [choice for choices in ranked for choice in choices]

    def _take(self, choices: list[Choice]) -> tuple[Configuration, int] | None:
        """Take the best choice: go to the next configuration, or return None if that has been seen.

        Otherwise return the configuration that was left and the number of what was taken.
        """
        number, state = choices.pop()
        before = self.last
        if number < 0:
            after = before._replace(unknown=before.unknown | 1 << (-1 - number), state=state)
        else:
            low, window = before.low, before.window | 1 << (number - before.low)
            while window & 1:
                low, window = low + 1, window >> 1
            after = Configuration(low, window, before.unknown, state)
        if after in self.seen or (after.unknown and not self._takes_fewest(after)):
            return None
        self.seen[after] = (before, number)
        self.last = after
        if number >= 0:
            self._lift(number)
        return before, number

    def _takes_fewest(self, after: Configuration) -> bool:
        """Return whether nothing visited is equal but for having taken fewer of the unknown; then keep it."""
        place = (after.low, after.window, after.state)
        if Configuration(after.low, after.window, 0, after.state) in self.seen:
            return False
        taken, kept = after.unknown, self._fewest.get(place, [])
        if any(fewer & taken == fewer for fewer in kept):
            return False
        self._fewest[place] = [*(more for more in kept if more & taken != taken), taken]
        return True

    def _lift(self, number: int) -> None:
        following, previous = self._next, self._previous
        for node in (self._call_node[number], self._return_node[number]):
            following[previous[node]] = following[node]
            previous[following[node]] = previous[node]

    def _unlift(self, number: int) -> None:
        following, previous = self._next, self._previous
        for node in (self._return_node[number], self._call_node[number]):
            following[previous[node]] = node
            previous[following[node]] = node


def _earlier_twins(kinds: Sequence[Hashable]) -> list[int | None]:
    """Return for each unknown operation the number of the one before it that is exchangeable, if any."""
    latest: dict[Hashable, int] = {}
    twins: list[int | None] = []
    for number, kind in enumerate(kinds):
        twins.append(latest.get(kind))
        latest[kind] = number
    return twins


def _states(after: Hashable) -> tuple[Hashable, ...]:
    if after is ILLEGAL:
        return ()
    return after.states if isinstance(after, Either) else (after,)
