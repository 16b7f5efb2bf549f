"""What only the system can give, in one place: the time, randomness, the event loop, options of TCP sockets.

Everything else takes an `Instant`, a `Random` or a loop as an argument.
"""

import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from random import Random, SystemRandom
from time import clock_gettime_ns, monotonic_ns, time_ns  # noqa: TID251  certificates end at a date
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from viewstamp.core.durations import number
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Instant
from viewstamp.core.messages import SECRET_BYTES

if TYPE_CHECKING:
    import asyncio

Loop = Literal["auto", "asyncio", "uvloop"]
LOG: Final = logging.getLogger("viewstamp.runtime")
TIMEOUT_S_MAX: Final = 1e9
"""Thirty years. Calls end; a caller that wants to wait longer calls again."""

Clock: TypeAlias = Callable[[], Instant]
"""Returns a moment in microseconds that never goes back. Tests pass one of their own."""


def monotonic_us() -> Instant:
    """Return this moment of the monotonic clock, in microseconds."""
    # A call of Instant costs as much as the clock.
    return monotonic_ns() // 1000 + _AHEAD_US[0]  # type: ignore[return-value]


def boottime_us() -> Instant:
    """Return this moment of a clock that goes on while the machine is suspended, in microseconds.

    For what this process holds in others' eyes: their clocks went on. Where the system has no such clock
    (it is Linux's) it is `monotonic_us`.
    """
    if _BOOTTIME is None:
        return monotonic_us()
    return clock_gettime_ns(_BOOTTIME) // 1000 + _AHEAD_US[0]  # type: ignore[return-value]


_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


def advance_clock(us: int) -> None:
    """For `viewstamp chaos`: let this process's clock be ahead by so much more than now."""
    assert us >= 0, "a clock never goes back"
    _AHEAD_US[0] += us


_AHEAD_US: Final = [0]


def wall_s() -> float:
    """Return the date, in seconds since 1970: for the dates of certificates and tokens."""
    return _WALL_S[0]()


def wall_ns() -> int:
    """Return the date, in nanoseconds since 1970: for the times of files, which say when somebody wrote."""
    return int(wall_s() * 1e9)


def check_timeout_s(timeout_s: float) -> float:
    """Return the seconds; `ConfigurationError` unless they are more than none and at most `TIMEOUT_S_MAX`."""
    if not 0 < number(timeout_s, "timeout_s") <= TIMEOUT_S_MAX:
        raise ConfigurationError(f"timeout_s is {timeout_s}: it must be positive and finite")
    return timeout_s


_SYSTEM: Final[list[Random]] = [SystemRandom()]
_WALL_S: Final[list[Callable[[], float]]] = [lambda: time_ns() / 1e9]


@contextlib.contextmanager
def simulated(rng: Random, wall_s: Callable[[], float]) -> Iterator[None]:
    """For a simulated world: within the block everything fresh comes from this generator, dates from this."""
    before = _SYSTEM[0], _WALL_S[0]
    _SYSTEM[0], _WALL_S[0] = rng, wall_s
    try:
        yield
    finally:
        _SYSTEM[0], _WALL_S[0] = before


def fresh_number() -> int:
    """Return 63 random bits, such as for an incarnation."""
    return _SYSTEM[0].getrandbits(63)


def fresh_bytes(count: int) -> bytes:
    """Return bytes that nobody can foresee."""
    return _SYSTEM[0].randbytes(count)


def state_directory() -> Path:
    """Return where this user keeps what programs remember (XDG base directories)."""
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path("~/.local/state").expanduser()
    return base / "viewstamp"


def fresh_secret() -> bytes:
    """Return the secret of a new client."""
    return _SYSTEM[0].randbytes(SECRET_BYTES)


def utc_now() -> datetime:
    """Return the date and time, as `wall_s` does."""
    return datetime.fromtimestamp(wall_s(), UTC)


def fresh_rng() -> Random:
    """Return a generator for jitter and election time-outs, seeded by the system. Not for secrets."""
    return Random(_SYSTEM[0].getrandbits(64))  # noqa: S311  no secret depends on it


def loop_factory(choice: Loop) -> Callable[[], "asyncio.AbstractEventLoop"]:
    """Return what makes the loop.

    Raises:
        ConfigurationError: uvloop was asked for and is not installed.
    """
    import asyncio  # late: the blocking client starts without it

    if choice == "asyncio":
        return asyncio.new_event_loop
    if find_spec("uvloop") is None:
        if choice == "uvloop":
            raise ConfigurationError("uvloop is not installed: pip install 'viewstamp[speed]'")
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


USER_TIMEOUT_MS: Final = 10_000
"""Unacknowledged data older than this means that the other machine is gone (Linux TCP_USER_TIMEOUT)."""


def tune_socket(sock: socket.socket | None) -> None:
    """No delay for small writes, and an end to connections whose other machine is gone."""
    if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


_TCP_INFO_BYTES: Final = 60
_TCP_FIELDS: Final = (24, 56)
"""Where the two numbers are, of 4 bytes each."""


def unacknowledged_ms(sock: socket.socket) -> int:
    """Return how long ago the other machine last acknowledged anything; 0 where nothing waits for that.

    Linux's `struct tcp_info`: `tcpi_unacked` and `tcpi_last_ack_recv`. A process that does not read is not
    silent: its machine acknowledges until its buffers are full; then nothing is under way. 0 elsewhere.
    """
    if not sys.platform.startswith("linux") or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return 0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return 0
    if len(info) < _TCP_INFO_BYTES:
        return 0
    unacknowledged, age_ms = (int.from_bytes(info[at : at + 4], sys.byteorder) for at in _TCP_FIELDS)
    return age_ms if unacknowledged else 0


def explain(error: BaseException) -> str:
    """Return why a connection could not be opened, in a few words."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer"
    return " ".join(str(error).split()) or type(error).__name__


def raise_descriptor_limit(wanted: int) -> None:
    """Allow this process as many open files as its limits on connections need, if the system does."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        soft = target
    if soft != resource.RLIM_INFINITY and soft < wanted:
        LOG.warning("only %d files may be open, the limits on connections need %d", soft, wanted)
