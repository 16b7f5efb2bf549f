"""I42, the oracle of the coordination store: what every watch is told, against everything that was executed.

The machine under test tells it each change that a replica executes. All replicas execute the same, so the
first telling is the truth, and every other one must repeat it. A watch is right where what it was told from
one of its revisions to another is exactly the truth in between: that is all seven guarantees at once.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from viewstamp.core.judge import InvariantViolated
from viewstamp.services.store.types import Event, KeyValue
from viewstamp.services.store.watching import Changes, Progress, Resync, Told

NAME: Final = "I42 Store"
PAIR: Final = (b"t/a", b"t/b")
"""Keys that are only written together, with the same value."""
Fact = tuple[bytes, bytes | None]
"""A key, and its value from then on; None: it was deleted."""


class StoreOracle:
    """One for each run."""

    def __init__(self) -> None:
        self.truth: dict[int, tuple[Fact, ...]] = {}
        """By revision, in order."""
        self.counts: Counter[str] = Counter()
        """What was judged."""
        self._written: dict[bytes, int] = {}
        """By value: the revision at which it was written. Values are unique."""
        self._certain: dict[int, Callable[[], bool]] = {}
        """By lease: whether its client counts on it."""
        self._ended: set[int] = set()

    @property
    def revision(self) -> int:
        """The last one."""
        return next(reversed(self.truth), 0)

    # What replicas execute

    def executed(self, revision: int, facts: Sequence[Fact]) -> None:
        """A replica has executed a command that changed something."""
        known = self.truth.get(revision)
        if known is not None:
            if known != tuple(facts):
                raise InvariantViolated(NAME, f"revision {revision} is {known} here and {facts} there")
            return
        if revision <= self.revision:
            raise InvariantViolated(NAME, f"revision {revision} comes after {self.revision}")
        self.truth[revision] = tuple(facts)
        for key, value in facts:
            if value is not None and self._written.setdefault(value, revision) != revision:
                raise InvariantViolated(
                    NAME, f"{key!a} is written at {revision}, as at {self._written[value]}: executed twice"
                )
        pair = [value for key, value in facts if key in PAIR]
        if len(set(pair)) > 1 or len(pair) == 1:
            raise InvariantViolated(NAME, f"a transaction was executed in part at {revision}: {facts}")

    def granted(self, lease: int, is_certain: Callable[[], bool]) -> None:
        """A client has a lease, and says whether it counts on it."""
        self._certain[lease] = is_certain

    def ended(self, lease: int) -> None:
        """A replica has ended a lease: its client does not count on it."""
        if lease in self._ended:
            return
        self._ended.add(lease)
        self.counts["lease ended"] += 1
        is_certain = self._certain.pop(lease, None)
        if is_certain is not None and is_certain():
            raise InvariantViolated(NAME, f"lease {lease} has ended while its client was certain of it")

    # What watches are told

    def state_at(self, revision: int) -> dict[bytes, bytes]:
        """Return the keys as they were."""
        state: dict[bytes, bytes] = {}
        for each, facts in self.truth.items():
            if each > revision:
                break
            for key, value in facts:
                if value is None:
                    state.pop(key, None)
                else:
                    state[key] = value
        return state

    def between(self, after: int, upto: int, covers: Callable[[bytes], bool]) -> list[tuple[int, Fact]]:
        """Return what changed in a range after a revision, up to another."""
        return [
            (revision, fact)
            for revision, facts in self.truth.items()
            if after < revision <= upto
            for fact in facts
            if covers(fact[0])
        ]


class WatchJudge:
    """What one watch was told, judged as it is told."""

    def __init__(self, name: str, oracle: StoreOracle, covers: Callable[[bytes], bool], after: int) -> None:
        self._name = name
        self._oracle = oracle
        self._covers = covers
        self.after = after
        """Everything up to here was told, and was right."""
        self.marks = [after]
        """Revisions from which it may begin again."""
        self._fragment: list[tuple[int, Fact]] = []

    def told(self, told: Told) -> None:
        """Raise `InvariantViolated` where this is not what happened."""
        self._oracle.counts[f"watch told {type(told).__name__.lower()}"] += 1
        match told:
            case Changes():
                self._changes(told)
            case Progress():
                self._require([], told.revision)
            case Resync():
                self._resync(told.revision, told.items)

    def _changes(self, told: Changes) -> None:
        self._fragment += ((told.revision, _fact(event)) for event in told.events)
        if not told.more:
            events, self._fragment = self._fragment, []
            self._require(events, told.revision)

    def _require(self, events: list[tuple[int, Fact]], upto: int) -> None:
        if self._fragment:
            raise InvariantViolated(NAME, f"{self._name}: the rest of a revision was never told")
        if upto <= self.after:
            raise InvariantViolated(NAME, f"{self._name}: was told {upto} after {self.after}")
        wanted = self._oracle.between(self.after, upto, self._covers)
        if events != wanted:
            raise InvariantViolated(
                NAME, f"{self._name}: after {self.after} and up to {upto} was told {events}, not {wanted}"
            )
        self.after = upto
        self.marks.append(upto)

    def _resync(self, revision: int, items: list[KeyValue]) -> None:
        state = self._oracle.state_at(revision)
        wanted = {key: value for key, value in state.items() if self._covers(key)}
        if {item.key: item.value for item in items} != wanted or revision < self.after:
            raise InvariantViolated(
                NAME, f"{self._name}: at {revision} the range is {items}, not {wanted} ({self.after})"
            )
        self._fragment = []
        self.after = revision
        self.marks = [revision]


def _fact(event: Event) -> Fact:
    return event.key, None if event.item is None else event.item.value
