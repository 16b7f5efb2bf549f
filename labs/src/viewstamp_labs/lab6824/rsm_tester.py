"""`rsm_tester PORT breakpoint|partition N`: arm a breakpoint of the node whose test port this is.

It imports nothing of the package, so that it starts in a few hundredths of a second on a busy machine too.
"""

import socket
import sys

OK = 0
LINE_BYTES_MAX = 64
EXIT_USAGE = 1
EXIT_UNREACHABLE = 2
_PATIENCE_S = 5.0
_HOST = "127.0.0.1"


def ask(host: str, port: int, request: str) -> int:
    """Send one request to a test port and return its answer.

    Raises:
        OSError: there is none, or it does not answer in time.
        ValueError: what it answers is not a number.
    """
    with socket.create_connection((host, port), timeout=_PATIENCE_S) as connection:
        connection.sendall(f"{request}\n".encode())
        answer = b""
        while not answer.endswith(b"\n") and len(answer) < LINE_BYTES_MAX:
            received = connection.recv(LINE_BYTES_MAX)
            if not received:
                break
            answer += received
    return int(answer)


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    if len(arguments) != 3 or arguments[1] not in {"breakpoint", "partition"}:
        return _usage()
    where, command, number = arguments
    host, _, port = where.rpartition(":")
    if not port.isdecimal() or not 1 <= int(port) <= 65535 or not number.isdecimal():
        return _usage()
    try:
        answer = ask(host or _HOST, int(port), f"{command} {number}")
    except (OSError, ValueError) as error:
        sys.stderr.write(f"rsm_tester: nothing was armed: no test port answers at {where}: {error}\n")
        return EXIT_UNREACHABLE
    what = f"breakpoint {number}" if command == "breakpoint" else "net_repair"
    sys.stdout.write(f"{what} returned {answer}\n")
    return OK


def _usage() -> int:
    sys.stderr.write("usage: rsm_tester [host:]port [partition 0|1] [breakpoint 1|2|3|4]\n")
    return EXIT_USAGE


if __name__ == "__main__":
    try:
        with open("/proc/self/comm", "w") as name:  # noqa: PTH123  pathlib takes time to import
            name.write("rsm_tester")
    except OSError:
        pass  # another system: `pgrep` knows it by the name of the interpreter
    sys.exit(main(sys.argv[1:]))
