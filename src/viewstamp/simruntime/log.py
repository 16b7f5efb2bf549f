"""What the servers and clients of a run log: it is heard, not shown.

A simulated network loses connections and damages no byte. So an end that closes a connection because of what
it received from one of ours has found a bug: in the frames, in the messages, in the handshake.
"""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from viewstamp.core.judge import InvariantViolated

NAME: Final = "I30 HonestRefused"
_CLOSED: Final = re.compile(r"(?:closed (?:node|client) \d+|connection to node \d+ ended): (?P<reason>.*)")
_INNOCENT: Final = re.compile(
    r"\[Errno \d+\]|the connection ended in the middle of a frame|a frame was not complete|nothing was sent"
    r"|the replies were not read|the server (stops|failed)|\d+ bytes of replies wait"
    r"|this node has too much to do|the other machine|its token has ended"
)
"""Reasons that follow from what the simulated network does, and from the end of a token (`tokens`)."""


class _Listener(logging.Handler):
    """Reads each line."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        super().__init__(logging.DEBUG)
        self._failed = failed

    def emit(self, record: logging.LogRecord) -> None:
        """Look for a connection that was closed because of what came over it."""
        found = _CLOSED.fullmatch(record.getMessage())
        if found is not None and found["reason"] and not _INNOCENT.match(found["reason"]):
            self._failed(InvariantViolated(NAME, found[0]))


@contextmanager
def listened_to(failed: Callable[[BaseException], None]) -> Iterator[None]:
    """Within the block hear what the runtime logs, and show nothing of it."""
    logger = logging.getLogger("viewstamp.runtime")
    before = logger.level, logger.propagate, logger.handlers
    logger.setLevel(logging.DEBUG)
    logger.propagate, logger.handlers = False, [_Listener(failed)]
    try:
        yield
    finally:
        level, logger.propagate, logger.handlers = before
        logger.setLevel(level)
