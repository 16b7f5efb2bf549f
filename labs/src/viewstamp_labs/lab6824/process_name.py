"""The name under which `ps`, `pgrep` and `killall` find a program: that of the course, not `python3`."""

import ctypes
import os
from typing import Final

_PR_SET_NAME: Final = 15
"""Of `linux/prctl.h`."""


def call_this_process(name: str) -> None:
    """Give this process a name of up to 15 bytes, where the system knows of such names."""
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)
