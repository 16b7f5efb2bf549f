"""`paxos-<port>.log`: what Paxos did at one node, one record a line, as the course's tester reads it.

    done <view> <member> <member> ...        the view was decided
    propseen <number> <node>                 n_h rose
    accepted <number> <node> <member> ...    n_a and v_a

Rules of this file:

- It follows the operation log: a record is written here once it is durable there, never before. What a crash
  kept out of here is written at the next start, so there is one `done` for each view, from view 1, always.
- The original leaves a blank behind each member but for view 1; so does this.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from viewstamp.core.errors import ConfigurationError, JournalCorrupt, StorageError
from viewstamp.core.ids import PersistSeq
from viewstamp.protocols.viewstamped.journal import AcceptedValue, Decided, History, Promised, decode_record
from viewstamp.protocols.viewstamped.membership import Membership
from viewstamp.protocols.viewstamped.messages import LOWEST, Ballot
from viewstamp.protocols.viewstamped.paxos import Acceptor
from viewstamp.storage.files import open_regular

_DONE: Final = re.compile(r"done (\d+) (\d+(?: \d+)*) ?")
_OTHER: Final = re.compile(r"propseen \d+ \d+|accepted \d+ \d+ \d+(?: \d+)* ?")
_TORN: Final = re.compile(r"[a-z]{0,8}|(?:done|propseen|accepted) [\d ]*")
_WORDS: Final = ("done", "propseen", "accepted")
_BYTES_MAX: Final = 64 << 20
_TAGS: Final = frozenset(
    record.__struct_config__.tag for record in (Promised, AcceptedValue, Decided, History)
)


class LoggedView(NamedTuple):
    """What one `done` line says."""

    view: int
    members: tuple[int, ...]


class LogText(NamedTuple):
    """A log that was read."""

    views: list[LoggedView]
    since: list[str]
    """Lines after the last `done`."""
    torn: str
    """A record at the end that was not written to its end; empty where there is none."""


def read_log(path: Path) -> LogText:
    """Return what a log says; an empty one where there is no file.

    Raises:
        JournalCorrupt: a line is not a record; the message names it.
        StorageError: the file cannot be read.
    """
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
            text = file.read(_BYTES_MAX).decode("utf-8", "replace")
    except FileNotFoundError:
        return LogText([], [], "")
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    *lines, torn = text.split("\n")
    views: list[LoggedView] = []
    since: list[str] = []
    for number, line in enumerate(lines, start=1):
        since = _read_line(path, number, line.rstrip("\r"), views, since)
    if not _is_torn(torn):
        raise _unknown(path, len(lines) + 1, torn)
    return LogText(views, since, torn)


def _read_line(path: Path, number: int, line: str, views: list[LoggedView], since: list[str]) -> list[str]:
    """Add what a line says to `views`; return the lines since the last `done`."""
    done = _DONE.fullmatch(line)
    if done is not None:
        view = LoggedView(int(done[1]), tuple(map(int, done[2].split())))
        if view.view != len(views) + 1:
            raise JournalCorrupt(f"{path} line {number}: view {view.view} after view {len(views)}; {_REMEDY}")
        views.append(view)
        return []
    if not _OTHER.fullmatch(line):
        raise _unknown(path, number, line)
    return [*since, line]


_REMEDY: Final = (
    "nothing was changed: restore it, or, only while a majority of the others serves, take it away with its "
    ".d folder to start as a new node"
)


def _unknown(path: Path, number: int, line: str) -> JournalCorrupt:
    return JournalCorrupt(f"{path} line {number}: unknown record {line[:40]!r}; {_REMEDY}")


def _is_torn(text: str) -> bool:
    """Return whether a text without its line end can be the beginning of a record, or nothing at all."""
    word = text.split(" ", 1)[0]
    known = word in _WORDS if " " in text else any(name.startswith(word) for name in _WORDS)
    return known and _TORN.fullmatch(text) is not None


def done_line(membership: Membership) -> str:
    """Return the record of a decided view."""
    return f"done {membership.view} {_members(membership)}{'' if membership.view == 1 else ' '}\n"


def _propseen(ballot: Ballot) -> str:
    return f"propseen {ballot.number} {ballot.node}\n"


def _accepted(ballot: Ballot, value: Membership) -> str:
    return f"accepted {ballot.number} {ballot.node} {_members(value)} \n"


def _members(membership: Membership) -> str:
    return " ".join(map(str, membership.nodes))


class PaxosLog:
    """The log of a node that runs. It stays open; each record is one write."""

    def __init__(self, path: Path, history: Sequence[Membership], acceptor: Acceptor) -> None:
        """Open the log and bring it up to what the operation log holds.

        Raises:
            JournalCorrupt: the two do not belong together, or a line is not a record. Nothing was changed.
            StorageError: the file cannot be written.
        """
        self.path = path
        self.repaired = ""
        """In one line, what was wrong and is right again; empty where nothing was."""
        text = read_log(path)
        self._compare(text.views, history)
        self._file = _open(path)
        if text.torn:
            self._cut(len(text.torn.encode()))
        self._views = len(text.views)
        """The newest view that is written."""
        self._waiting: list[tuple[PersistSeq, bytes]] = []
        """Records whose write to the operation log is under way."""
        self._catch_up(history, acceptor, text.since)

    def note(self, seq: PersistSeq, records: Iterable[bytes]) -> None:
        """Record a write to the operation log, which is not durable yet."""
        for record in records:
            if record[1] in _TAGS:
                self._waiting.append((seq, record))

    def durable(self, seq: PersistSeq) -> None:
        """Write down what has become durable."""
        waiting = self._waiting
        if not waiting or waiting[0][0] > seq:
            return
        for number, record in waiting:
            if number <= seq:
                self._write_record(record)
        self._waiting = [noted for noted in waiting if noted[0] > seq]

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _compare(self, written: list[LoggedView], history: Sequence[Membership]) -> None:
        known = [LoggedView(membership.view, membership.nodes) for membership in history]
        if written != known[: len(written)]:
            raise JournalCorrupt(
                f"{self.path} has {len(written)} views that its operation log, with {len(known)}, does not "
                f"have like that: they are not of one node or not of one moment; {_REMEDY}"
            )

    def _cut(self, torn_bytes: int) -> None:
        whole = os.fstat(self._file).st_size - torn_bytes
        os.ftruncate(self._file, whole)
        self.repaired = f"{self.path}: its last record was torn and is written again from the operation log"

    def _catch_up(self, history: Sequence[Membership], acceptor: Acceptor, since: list[str]) -> None:
        if self._write_views(history):
            since = []
        if acceptor.promised not in {LOWEST, acceptor.accepted}:
            self._write_unless_in(since, _propseen(acceptor.promised))
        if acceptor.accepted is not None and acceptor.value is not None:
            self._write_unless_in(since, _accepted(acceptor.accepted, acceptor.value))

    def _write_unless_in(self, lines: list[str], line: str) -> None:
        if line.rstrip() not in [known.rstrip() for known in lines]:
            self._write(line)

    def _write_record(self, encoded: bytes) -> None:
        record = decode_record(encoded)
        if isinstance(record, Decided):
            self._write_views([record.membership])
        elif isinstance(record, History):
            self._write_views(record.memberships)
        elif isinstance(record, Promised):
            self._write(_propseen(record.ballot))
        elif isinstance(record, AcceptedValue):
            self._write(_accepted(record.ballot, record.value))

    def _write_views(self, history: Iterable[Membership]) -> bool:
        """Write the views that are not written yet; return whether there were any."""
        before = self._views
        for membership in history:
            if membership.view > self._views:
                assert membership.view == self._views + 1, (membership, self._views)
                self._write(done_line(membership))
                self._views = membership.view
        return self._views > before

    def _write(self, line: str) -> None:
        try:
            os.write(self._file, line.encode())
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}") from error


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
