"""One client of a cluster for each process, for libraries that make their objects again and again.

Rules of this file:

- a client belongs to the process that made it: its thread does not exist in a process that was forked off;
- nothing of a client that a parent process made is used or closed in the child, for they share its sockets.
"""

import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

T = TypeVar("T")


class _Clients:
    """The clients of this process, by what they were made of."""

    def __init__(self) -> None:
        self.inherited: list[Any] = []
        """Those of the parent process: kept, so that nothing collects and closes them here."""
        self.begin()

    def begin(self) -> None:
        self.lock = threading.Lock()
        self.made: dict[Hashable, Any] = {}

    def forked(self) -> None:
        self.inherited.append(self.made)
        self.begin()


_CLIENTS: Final = _Clients()
os.register_at_fork(after_in_child=_CLIENTS.forked)


def shared(key: Hashable, make: Callable[[], T]) -> T:
    """Return what `make` made in this process for this key, making it if this is the first call.

    Raises:
        ViewstampError: what `make` raises; the next call tries again.
    """
    with _CLIENTS.lock:
        if key not in _CLIENTS.made:
            _CLIENTS.made[key] = make()
        made: T = _CLIENTS.made[key]
    return made


def forget(key: Hashable) -> Any:
    """Let the next call make a new one, and return what was there, to be closed; None: there was nothing."""
    with _CLIENTS.lock:
        return _CLIENTS.made.pop(key, None)
