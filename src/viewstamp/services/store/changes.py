"""What a watch asks: the changes of a range after a revision, from the history.

Rules of this file:

- what is told up to a revision is everything of the range up to it, in order, each event once;
- a revision is told as a whole, or in fragments that say so;
- one answer looks at a bounded number of steps, and tells a bounded number of bytes: the cursor in it says
  where the next one goes on;
- nothing is told of a revision that was not asked for, and no progress beyond what was applied here.

A cursor is a revision, and how many of the steps after it were looked at. It means the same on every replica:
steps are only added behind, and forgotten together with the revisions before them.
"""

from typing import Final

from viewstamp.services.store.history import Step
from viewstamp.services.store.table import Table, shown_or_none
from viewstamp.services.store.types import (
    ANSWER_BYTES_MAX,
    ITEM_BYTES,
    Change,
    Compacted,
    Event,
    News,
    Watch,
    span,
)

LOOKED_AT_MAX: Final = 4_096
"""Steps that one answer looks at."""


def news(table: Table, watch: Watch, applied: int) -> News | Compacted:
    """Return what changed; behind the last change, that this is all up to the revision `applied`."""
    history, done = table.history, watch.after
    if done < history.compacted:
        return Compacted(history.compacted)
    steps, first = history.after(done, None if watch.end else watch.key)
    key, until = span(watch.key, watch.end)
    place = first + max(0, watch.skip)
    end = min(len(steps), place + LOOKED_AT_MAX)
    changes: list[Change] = []
    room = ANSWER_BYTES_MAX
    while place < end and room > 0:
        revision = steps[place].revision
        events: list[Event] = []
        while place < end and room > 0 and steps[place].revision == revision:
            step = steps[place]
            place += 1
            if step.key >= key and (not until or step.key < until):
                events.append(_event(step, prev=watch.prev))
                room -= _size(step, prev=watch.prev)
        more = place < len(steps) and steps[place].revision == revision
        if events or (watch.skip > 0 and done == watch.after and not more):
            changes.append(Change(revision, events, more))  # the last fragment is told even if it is empty
        if more:
            return News(changes, done, place - first)
        done, first = revision, place
    return News(changes, done if place < len(steps) else max(done, applied, table.revision))


def _event(step: Step, *, prev: bool) -> Event:
    before = shown_or_none(step.key, step.before) if prev else None
    return Event(step.key, shown_or_none(step.key, step.after), before)


def _size(step: Step, *, prev: bool) -> int:
    before = step.before if prev else None
    values = sum(len(record.value) for record in (step.after, before) if record is not None)
    return len(step.key) + values + 2 * ITEM_BYTES
