"""`python -m viewstamp_labs.lab6824 PROGRAM ARGUMENT...`: what the launchers in `labs/6.824` start."""

import sys
from contextlib import suppress
from pathlib import Path

_OWN_NAME = Path("/proc/self/comm")
"""Linux: what `pgrep` and `killall` know this process by, as `PR_SET_NAME` sets it."""


def main(arguments: list[str]) -> int:
    """Run one of the programs and return its exit code. Each is imported only when it is wanted."""
    if arguments:
        with suppress(OSError):
            _OWN_NAME.write_text(arguments[0], encoding="utf-8")
    match arguments:
        case ["lock_server", *rest]:
            from viewstamp_labs.lab6824 import lock_server

            return lock_server.main(rest)
        case ["lock_tester", *rest]:
            from viewstamp_labs.lab6824 import lock_tester

            return lock_tester.main(rest)
        case ["rsm_tester", *rest]:
            from viewstamp_labs.lab6824 import rsm_tester

            return rsm_tester.main(rest)
        case ["rsm_tests", *rest]:
            from viewstamp_labs.lab6824 import rsm_tests

            return rsm_tests.main(rest)
        case ["extent_server", *rest]:
            from viewstamp_labs.lab6824 import extent_server

            return extent_server.main(rest)
        case ["yfs_client", *rest]:
            from viewstamp_labs.lab6824 import yfs_client

            return yfs_client.main(rest)
        case ["fs_tests", *rest]:
            from viewstamp_labs.lab6824 import fs_tests

            return fs_tests.main(rest)
        case _:
            sys.stderr.write("usage: python -m viewstamp_labs.lab6824 PROGRAM ARGUMENT...\n")
            return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
