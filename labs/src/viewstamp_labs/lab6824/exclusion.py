"""Every acquisition of every client, judged: two never hold one lock, and fencing tokens never go down.

A *hold* lasts from the moment at which the client was told that it has the lock until the moment before it
says that it gives it up. Both are read from the one monotonic clock of this machine, so holds of several
processes can be compared.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from viewstamp.storage.files import read_named

_HISTORY_BYTES_MAX: Final = 256 << 20


class Mark(NamedTuple):
    """One line of a history: a client enters or leaves."""

    at_ns: int
    kind: str
    """`enter` or `leave`."""
    lock: str
    client: str
    """The holder: process, client and thread."""
    token: int


class Hold(NamedTuple):
    """One client had one lock."""

    lock: str
    entered_ns: int
    left_ns: int | None
    """None: the history ends before it left."""
    client: str
    session: str
    """The client that the server knows: holds of one session may share a token."""
    token: int


class HistoryWriter:
    """Appends to the history of one process. Any number of threads may write: a line is one write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, mark: Mark) -> None:
        """Add a mark."""
        os.write(self._file, f"{mark.at_ns} {mark.kind} {mark.lock} {mark.client} {mark.token}\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_history(path: Path) -> list[Mark]:
    """Return the marks of a history; none where there is no file. A torn last line is left out."""
    if not os.path.lexists(path):
        return []
    lines = read_named(path, bytes_max=_HISTORY_BYTES_MAX).decode("ascii").split("\n")[:-1]
    fields = (line.split(" ") for line in lines)
    return [Mark(int(at), kind, lock, client, int(token)) for at, kind, lock, client, token in fields]


def holds_of(marks: Iterable[Mark]) -> list[Hold]:
    """Pair entering and leaving, in the order of entering.

    Raises:
        AssertionError: the history itself makes no sense: somebody leaves that did not enter.
    """
    inside: dict[tuple[str, str], Mark] = {}
    holds: list[Hold] = []
    for mark in sorted(marks):
        key = (mark.lock, mark.client)
        if mark.kind == "enter":
            assert key not in inside, f"{mark.client} entered lock {mark.lock} twice"
            inside[key] = mark
            continue
        holds.append(_hold(inside.pop(key), mark.at_ns))
    holds += [_hold(mark, None) for mark in inside.values()]
    return sorted(holds, key=lambda hold: hold.entered_ns)


def _hold(mark: Mark, left_ns: int | None) -> Hold:
    session = mark.client.rpartition(".")[0]
    return Hold(mark.lock, mark.at_ns, left_ns, mark.client, session, mark.token)


def breaches(holds: Iterable[Hold]) -> Iterator[str]:
    """Yield in one line each what must not be."""
    by_lock: dict[str, list[Hold]] = defaultdict(list)
    for hold in sorted(holds, key=lambda hold: hold.entered_ns):
        by_lock[hold.lock].append(hold)
    for held in by_lock.values():
        for earlier, later in pairwise(held):
            yield from _compare(earlier, later)


def _compare(earlier: Hold, later: Hold) -> Iterator[str]:
    who = f"lock {later.lock}: {later.client} (token {later.token}) after {earlier.client} ({earlier.token})"
    if earlier.left_ns is None or earlier.left_ns > later.entered_ns:
        yield f"{who}: both held it"
    if later.token < earlier.token:
        yield f"{who}: the token went down"
    elif later.session != earlier.session and later.token == earlier.token:
        yield f"{who}: two clients were given one token"
