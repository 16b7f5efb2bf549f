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
- Of unknown operations that are the same call, only the earliest is tried.
- A configuration is (answered taken: all below `low`, and the bits of `window` from there; unknown taken;
  state). As operations are numbered by call, `window` stays as narrow as the concurrency, however long the
  history.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from viewstamp.checker.history import Operation
from viewstamp.checker.models import ILLEGAL, Model

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
        self._twin_before = _earlier_twins(self.unknown)
        self._link_events()

    def run(self) -> bool | None:
        """Return whether there is a legal order; None if the budget ran out first."""
        self.seen[self.last] = None
        if self._done():
            return True
        path: list[tuple[Configuration, int, list[Choice]]] = []
        choices = self._choices()
        while True:
            if choices:
                taken = self._take(choices)
                if taken is None:
                    continue
                if not self._budget.spend():
                    return None
                path.append((taken[0], taken[1], choices))
                if self._done():
                    return True
                choices = self._choices()
            elif path:
                self.last, number, choices = path.pop()
                if number >= 0:
                    self._unlift(number)
            else:
                return False

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
            if after is not ILLEGAL:
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
        limit = self.answered[first_return].returned
        assert limit is not None
        state, taken = self.last.state, self.last.unknown
        choices: list[Choice] = []
        for number, operation in enumerate(self.unknown):
            if operation.call > limit:
                break
            twin = self._twin_before[number]
            if taken >> number & 1 or (twin is not None and not taken >> twin & 1):
                continue
            after = self._model.step(state, operation)
            if after is not ILLEGAL and after != state:
                choices.append((-1 - number, after))
        return choices

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
        if after in self.seen:
            return None
        self.seen[after] = (before, number)
        self.last = after
        if number >= 0:
            self._lift(number)
        return before, number

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


def _earlier_twins(unknown: Sequence[Operation]) -> list[int | None]:
    """Return for each unknown operation the number of the one before it that is the same call, if any."""
    latest: dict[Hashable, int] = {}
    twins: list[int | None] = []
    for number, operation in enumerate(unknown):
        call = (operation.op, operation.key, operation.args, operation.context)
        twins.append(latest.get(call))
        latest[call] = number
    return twins
