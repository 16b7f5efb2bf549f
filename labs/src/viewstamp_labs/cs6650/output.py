"""What the programs do when nobody reads their output."""

import os
import sys


def give_up_output() -> None:
    """Silence what is still to be printed: the reader has gone (`client ... 3 | head`)."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
