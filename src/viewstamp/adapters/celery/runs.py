"""The last run of each entry of a beat, in the store.

Rules of this file:

- a run is written before it is sent (`begin`), and again when it was sent (`sent`);
- both writes hold only in the term of the beat that leads, and only on top of what it knows: a beat that was
  suspended, and wakes up when another one leads, writes nothing;
- runs of an entry are numbered 1, 2, 3 and so on, and the number, with the revision at which the entry was
  first seen, makes the task's id. So a run that is sent again has the same id.
"""

import logging
from datetime import datetime
from typing import Final
from uuid import NAMESPACE_URL, uuid5

import msgspec

from viewstamp.adapters.leading import Leadership
from viewstamp.clients.conditions import missing, modified, put
from viewstamp.clients.coordination_blocking import BlockingCoordination
from viewstamp.services.store.types import Compare, KeyValue

_LOGGER: Final = logging.getLogger(__name__)


class Run(msgspec.Struct, frozen=True):
    """The last run of an entry, as the store has it."""

    at: datetime
    number: int = 0
    """How many there were with this one; 0: there was none, and `at` is when the entry was first seen."""
    sent: bool = True
    """False: it was begun, and whether it was sent is not known."""


class Kept(msgspec.Struct, frozen=True):
    """An entry's place in the store."""

    created: int
    mod: int
    run: Run


class Deposed(Exception):
    """This process no longer leads, or another one changed what it knew. Nothing was written."""


class Runs:
    """The runs of one term: a new one begins with `load`."""

    def __init__(self, store: BlockingCoordination, leadership: Leadership, prefix: str) -> None:
        self._store = store
        self._leadership = leadership
        self._prefix = prefix
        self._kept: dict[str, Kept] = {}
        self.seen: set[str] = set()
        """The entries that `load` was asked for, also those whose last run cannot be read."""
        self._sent: dict[tuple[str, int], int] = {}
        """The last run that this process sent, by entry and the revision at which that was first seen."""

    def load(self, first_seen: dict[str, datetime]) -> dict[str, Run]:
        """Return the last run of each of these entries; one that is new is written down as seen.

        What cannot be read is left out, and named in the log: who knows when that entry last ran?

        Raises:
            Deposed, NotExecuted: nothing was written.
            OutcomeUnknown: load again.
        """
        found = {item.name: item for item in self._store.kv.range(prefix=self._prefix).items}
        self._kept, self.seen = {}, set(first_seen)
        for name, at in first_seen.items():
            item = found.get(self._prefix + name)
            if item is None:
                revision = self._write(name, missing(self._prefix + name), Run(at))
                self._kept[name] = Kept(revision, revision, Run(at))
            elif (run := _decoded(item)) is not None:
                self._kept[name] = Kept(item.create, item.mod, run)
        return {name: kept.run for name, kept in self._kept.items()}

    def begin(self, name: str, at: datetime) -> None:
        """Write down that the next run of an entry is about to be sent.

        Raises:
            Deposed, NotExecuted: nothing was written: do not send it.
            OutcomeUnknown: load again before anything is sent.
        """
        kept = self._kept[name]
        if not kept.run.sent:
            _LOGGER.error("%s: run %d was never sent: the next one takes its place", name, kept.run.number)
        self._replace(name, Run(at, kept.run.number + 1, sent=False))

    def sent(self, name: str) -> None:
        """Write down that the run that was begun was sent.

        Raises:
            Deposed, NotExecuted, OutcomeUnknown: it was sent all the same; this process remembers that.
        """
        kept = self._kept[name]
        self._sent[self._life(name)] = kept.run.number
        self._replace(name, msgspec.structs.replace(kept.run, sent=True))

    def was_sent(self, name: str) -> bool:
        """Return whether this process remembers to have sent the last run of an entry."""
        return self._sent.get(self._life(name)) == self._kept[name].run.number

    def task_id(self, name: str) -> str:
        """Return the id of the last run's task: the same for every beat that sends it."""
        kept = self._kept[name]
        text = f"viewstamp:{self._prefix}{name}#{kept.created}#{kept.run.number}"
        return str(uuid5(NAMESPACE_URL, text))

    def number(self, name: str) -> int:
        """Return the number of the last run."""
        return self._kept[name].run.number

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    def _life(self, name: str) -> tuple[str, int]:
        return name, self._kept[name].created

    def _replace(self, name: str, run: Run) -> None:
        kept = self._kept[name]
        revision = self._write(name, modified(self._prefix + name) == kept.mod, run)
        self._kept[name] = Kept(kept.created, revision, run)

    def _write(self, name: str, unchanged: Compare, run: Run) -> int:
        if not self._leadership.is_certain:
            raise Deposed(f"{name}: this beat is not certain to lead: it writes and sends nothing")
        when = [self._leadership.in_term, unchanged]
        done = self._store.kv.txn(when, [put(self._prefix + name, msgspec.json.encode(run))])
        if not done.succeeded:
            raise Deposed(f"{name}: another beat leads, or changed the entry: nothing was written or sent")
        return done.revision


def _decoded(item: KeyValue) -> Run | None:
    try:
        run = msgspec.json.decode(item.value, type=Run)
    except msgspec.DecodeError as error:
        text = "%s: cannot be read: the entry is not run until the key is mended: %s"
        _LOGGER.error(text, item.name, error)  # noqa: TRY400  the trace says no more
        return None
    return run if run.at.tzinfo else msgspec.structs.replace(run, at=run.at.astimezone())
