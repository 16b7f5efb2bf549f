"""A command that does not outlive the process that started it."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
"""Of `linux/prctl.h`."""


def end_with_parent() -> Callable[[], None] | None:
    """Return what a child has to call before it executes a command, so that the command dies with its parent.

    The kernel sends SIGKILL to the command when this thread ends, however that happens. It reaches neither
    the command's own children nor a program with other rights (set-user-ID). None: only Linux can do it.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # found before the fork: a child must not import
    parent = os.getpid()
    wanted = int(signal.SIGKILL)

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, wanted, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(128 + wanted)  # the parent ended before it was asked for

    return prepare
