"""`lock_tester [host:]PORT [1..5]`: six clients of the lock service in one process, and the five tests.

It ends with the line `<program>: passed all tests successfully`, and prints it only then. Each acquisition is
compared with a table of this process, as in the course; with `LOCK_HISTORY` in the environment each is also
written to that file, for `exclusion` to judge.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from viewstamp.clients.locks_blocking import BlockingLockClient
from viewstamp.core.errors import ConfigurationError, NotExecuted, ViewstampError
from viewstamp.runtime.addresses import Address, format_address
from viewstamp.runtime.client_base import make_asker
from viewstamp.runtime.discovery import learn
from viewstamp.runtime.sockets import ask_blocking
from viewstamp.runtime.system import fresh_rng, monotonic_us
from viewstamp_labs.lab6824.arguments import EXIT_USAGE, LIFETIME_S, parse_server
from viewstamp_labs.lab6824.exclusion import HistoryWriter, Mark
from viewstamp_labs.lab6824.waiting import pause

CLIENTS: Final = 6
ROUNDS: Final = 10
HOLD_S: Final = 1.0
A: Final = 1
B: Final = 2
EXIT_FAILED: Final = 1
EXIT_TOO_LATE: Final = 0
"""As the original, which ends itself without the line of success."""
LATEST: Final = 5
READY: Final = "cache lock client"
"""Said once all clients have found the servers."""
FOUND_WITHIN_S = 10.0
"""How long the first server may take to answer."""
_ASK_AGAIN_S: Final = 0.05


class Violation(Exception):
    """The server broke its promise."""


class Held:
    """The locks that this process holds, and the history of it."""

    def __init__(self, history: HistoryWriter | None) -> None:
        self._guard = threading.Lock()
        self._locks: set[int] = set()
        self._history = history

    def enter(self, lock: int, client: str, token: int) -> None:
        """Note a grant; `Violation` where the lock is held already."""
        with self._guard:
            self._mark("enter", lock, client, token)
            if lock in self._locks:
                raise Violation(f"error: server granted {lock:016x} twice")
            self._locks.add(lock)

    def leave(self, lock: int, client: str, token: int) -> None:
        """Note that a lock is about to be released; `Violation` where it is not held."""
        with self._guard:
            self._mark("leave", lock, client, token)
            if lock not in self._locks:
                raise Violation("error: client released un-held lock")
            self._locks.remove(lock)

    def _mark(self, kind: str, lock: int, client: str, token: int) -> None:
        if self._history is not None:
            self._history.write(Mark(time.monotonic_ns(), kind, str(lock), client, token))


class Tester:
    """The five tests over some clients."""

    def __init__(self, clients: list[BlockingLockClient], held: Held) -> None:
        self._clients = clients
        self._held = held

    def run(self, number: int) -> None:
        """Run one test.

        Raises:
            Violation: the server broke its promise.
            ViewstampError: it did not answer.
        """
        match number:
            case 1:
                self._one_client()
            case 2:
                _say(f"test2: {CLIENTS} clients acquire a and release it, one second each")
                self._in_parallel(range(CLIENTS), self._hold_a_second)
            case 3:
                _say("test3: each client acquires and releases a ten times")
                self._in_parallel(range(CLIENTS), self._ten_times)
            case 4:
                _say("test4: two threads of one client acquire and release a ten times")
                self._in_parallel([0, 0], self._ten_times)
            case _:
                _say("test5: five threads of one client and one of another")
                self._in_parallel([0] * (CLIENTS - 1) + [1], self._ten_times)

    def _one_client(self) -> None:
        _say("test1: acquire a release a acquire a release a")
        for _ in range(2):
            with self._holding(A, 0, 0):
                pass
        _say("test1: acquire a acquire b release b release a")
        with self._holding(A, 0, 0), self._holding(B, 0, 0):
            pass

    def _hold_a_second(self, client: int, thread: int) -> None:
        with self._holding(A, client, thread):
            pause(HOLD_S)

    def _ten_times(self, client: int, thread: int) -> None:
        for _ in range(ROUNDS):
            with self._holding(A, client, thread):
                pass

    @contextmanager
    def _holding(self, lock: int, client: int, thread: int) -> Iterator[None]:
        name = f"{os.getpid()}.{client}.{thread}"
        with self._clients[client].hold(str(lock)) as held:
            self._held.enter(lock, name, held.token)
            try:
                yield
            finally:
                self._held.leave(lock, name, held.token)
                if held.standing == "lost":
                    raise Violation(f"error: the server took {lock:016x} back while it was held")

    def _in_parallel(self, clients: "list[int] | range", work: Callable[[int, int], None]) -> None:
        """Run one thread for each of these clients, and raise what any of them raised."""
        with ThreadPoolExecutor(len(clients)) as threads:
            started = [threads.submit(work, client, thread) for thread, client in enumerate(clients)]
        for one in started:
            one.result()


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    program = os.environ.get("LAB_PROGRAM", "lock_tester")
    if len(arguments) not in {1, 2} or (len(arguments) == 2 and arguments[1] not in map(str, range(1, 6))):
        sys.stderr.write(f"usage: {program} [host:]port [1..5]\n")
        return EXIT_USAGE
    try:
        server = parse_server(arguments[0])
    except ConfigurationError as error:
        sys.stderr.write(f"{program}: nothing was tested: {error}\n")
        return EXIT_USAGE
    signal.signal(signal.SIGALRM, lambda *_: os._exit(EXIT_TOO_LATE))
    signal.alarm(LIFETIME_S)
    try:
        _run(
            find(server),
            [int(number) for number in arguments[1:]] or list(range(1, LATEST + 1)),
        )
    except (Violation, ViewstampError) as error:
        _say(str(error))
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED
    _say(f"{program}: passed all tests successfully")
    return 0


def find(address: Address) -> str:
    """Return the addresses of all servers, by asking one: it may be dead when the last client is made.

    Raises:
        NotExecuted: it did not answer in time.
    """
    until = time.monotonic() + FOUND_WITHIN_S
    while True:
        answer = ask_blocking(address, make_asker(fresh_rng()), monotonic_us, FOUND_WITHIN_S)
        if not isinstance(answer, str):
            return ",".join(map(format_address, learn(answer, address).addresses.values()))
        if time.monotonic() > until:
            raise NotExecuted(
                f"no server answered within {FOUND_WITHIN_S:g} s: {format_address(address)}: {answer}"
            )
        pause(_ASK_AGAIN_S)


def _run(where: str, numbers: list[int]) -> None:
    path = os.environ.get("LOCK_HISTORY")
    held = Held(None if path is None else HistoryWriter(Path(path)))
    clients = [
        BlockingLockClient(where, part="", label=f"lock_tester {number}", timeout_s=FOUND_WITHIN_S)
        for number in range(CLIENTS)
    ]
    tester = Tester(clients, held)
    _say(READY)
    for number in numbers:
        tester.run(number)
    for client in clients:
        client.close()


def _say(line: str) -> None:
    print(line, flush=True)
