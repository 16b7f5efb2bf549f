"""Run something in a child that `fork` makes, and hear how it ended there."""

import os
import select
import signal
import warnings
from collections.abc import Callable

_WAIT_S = 60.0


def in_child(do: Callable[[], object]) -> str:
    """Return the `repr` of what this returns or raises in a child; the child ends without cleaning up."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that this process has threads is the point
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, _outcome(do).encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], _WAIT_S)
        if not ready:
            os.kill(child, signal.SIGKILL)
            return "it did not come back"
        return os.read(reading, 65_536).decode()
    finally:
        os.waitpid(child, 0)
        os.close(reading)


def _outcome(do: Callable[[], object]) -> str:
    try:
        return repr(do())
    except Exception as error:  # noqa: BLE001  whatever it is, the parent looks at it
        return repr(error)
