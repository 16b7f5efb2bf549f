"""How the keys were: the last changes, within a window of bytes and of log time.

Rules of this file:

- every step with a revision above `compacted` is here; what is asked below it is refused, never answered in
  part;
- steps are trimmed inside commands, some at a time, so no command pauses, and every replica forgets alike;
- lists shrink by halves: to forget a step costs the same, however many there are.
"""

from bisect import bisect_right
from operator import attrgetter
from typing import Any, Final

import msgspec

from viewstamp.services.sorted_names import SortedKeys

STEP_BYTES: Final = 256
"""What a step takes beside its key and values, about."""
TRIMMED_MAX: Final = 256
"""Steps that one command forgets, at most: more than one command of average size makes."""
MICROSECONDS_PER_MS: Final = 1_000
_REVISION: Final = attrgetter("revision")
_NONE: Final[list[Any]] = []


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A key's value and what the store knows of it."""

    value: bytes
    create: int
    mod: int
    version: int
    lease: int
    base: int
    """With `version`, the version under the rules of `services.kv`: one that no key with this name had."""


class Step(msgspec.Struct, frozen=True, gc=False):
    """One key changed."""

    revision: int
    time: int
    """Log time, in microseconds."""
    key: bytes
    after: Record | None
    """None: it was deleted."""
    before: Record | None
    """None: it did not exist."""

    size: int
    """Bytes that it keeps, about."""


def step_of(revision: int, time: int, key: bytes, after: Record | None, before: Record | None) -> Step:
    """Return a step."""
    size = STEP_BYTES + len(key)
    if after is not None:
        size += len(after.value)
    if before is not None:
        size += len(before.value)
    return Step(revision, time, key, after, before, size)


class History:
    """The last steps, in order."""

    __slots__ = ("_by_key", "_first", "bytes_max", "compacted", "gone", "ms_max", "size_bytes", "steps")

    def __init__(self, bytes_max: int, ms_max: int) -> None:
        self.bytes_max = bytes_max
        self.ms_max = ms_max
        self.steps: list[Step] = []
        """Read-only for callers; those before `_first` are forgotten."""
        self._first = 0
        self.size_bytes = 0
        self.compacted = 0
        """No revision up to this one can be asked for."""
        self._by_key: dict[bytes, list[Step]] = {}
        """The steps of each key, in order; forgotten ones may stand before the others."""
        self.gone: SortedKeys[bytes] = SortedKeys()
        """Keys that have steps here and do not exist now."""

    def __len__(self) -> int:
        """Return how many steps are kept."""
        return len(self.steps) - self._first

    @property
    def kept(self) -> list[Step]:
        """The steps that are kept, for a snapshot."""
        return self.steps[self._first :]

    def add(self, step: Step) -> None:
        """Keep a step that is made now."""
        self.steps.append(step)
        self.size_bytes += step.size
        known = self._by_key.get(step.key)
        if known is None:
            self._by_key[step.key] = [step]
        else:
            known.append(step)
            if step.before is None:
                self.gone.remove(step.key)
        if step.after is None:
            self.gone.add(step.key)

    def trim(self, now: int) -> None:
        """Forget what has left the window, a bounded number of steps."""
        since, steps = now - self.ms_max * MICROSECONDS_PER_MS, self.steps
        if self.size_bytes <= self.bytes_max and self._is_fresh(since):
            return
        end = min(len(steps), self._first + TRIMMED_MAX)
        while self._first < end:
            step = steps[self._first]
            is_old = self.size_bytes > self.bytes_max or step.time < since
            if not is_old and step.revision > self.compacted:
                break
            self._forget(step)
        if self._first > len(steps) // 2:
            del steps[: self._first]
            self._first = 0

    def _is_fresh(self, since: int) -> bool:
        """Return whether the oldest step has not left the window of time, and is not compacted."""
        if self._first >= len(self.steps):
            return True
        oldest = self.steps[self._first]
        return oldest.time >= since and oldest.revision > self.compacted

    def compact(self, revision: int) -> None:
        """From now on refuse what is asked up to this revision; the steps are forgotten by and by."""
        self.compacted = max(self.compacted, revision)

    def after(self, revision: int, key: bytes | None = None) -> tuple[list[Step], int]:
        """Return all steps in order, or those of one key, and the place of the first after this revision.

        The revision is not compacted. Callers do not change the list.
        """
        assert revision >= self.compacted, (revision, self.compacted)
        steps = self.steps if key is None else self._by_key.get(key, _NONE)
        return steps, bisect_right(steps, revision, lo=self._first if key is None else 0, key=_REVISION)

    def at(self, key: bytes, revision: int, current: Record | None) -> Record | None:
        """Return a key as it was at this revision, which is not compacted."""
        steps = self._by_key.get(key)
        if steps is None or steps[-1].revision <= revision:
            return current
        return steps[bisect_right(steps, revision, key=_REVISION)].before

    def last_of(self, key: bytes) -> Record | None:
        """Return a key as it was after its last step here; it has one."""
        return self._by_key[key][-1].after

    def _forget(self, step: Step) -> None:
        self._first += 1
        self.size_bytes -= step.size
        self.compacted = max(self.compacted, step.revision)
        known = self._by_key[step.key]
        if known[len(known) // 2] is step:  # half of them are forgotten
            del known[: len(known) // 2 + 1]
            if not known:
                del self._by_key[step.key]
                if step.after is None:
                    self.gone.remove(step.key)
