"""The server program: one factory (2.1.1). Silent from start to end, unless it cannot start.

A failure of another server is a normal event (3.1); a customer or a server that sends nonsense loses its
connection. SIGTERM and SIGINT end the program with exit code 0.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.events import Woke
from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.primary_backup.course.messages import Fetch, Greet, Replicate
from viewstamp.protocols.primary_backup.options import CourseOptions
from viewstamp.runtime.server import check_assertions
from viewstamp.runtime.system import Clock, fresh_rng, loop_factory, monotonic_us, raise_descriptor_limit
from viewstamp_labs.cs6650.arguments import ServerArguments, parse_server_arguments
from viewstamp_labs.cs6650.auditor import AuditorRole
from viewstamp_labs.cs6650.engineer import Engineer
from viewstamp_labs.cs6650.factory import Factory
from viewstamp_labs.cs6650.ifa import IdleFactoryAdmins
from viewstamp_labs.cs6650.listener import MESSAGE_TIMEOUT_S, VISITORS_MAX, Doorway, Reception, Role
from viewstamp_labs.cs6650.messages import Identification
from viewstamp_labs.cs6650.pfa import ProductionFactoryAdmin
from viewstamp_labs.cs6650.stubs import ServerStub

EXIT_DONE: Final = 0
EXIT_NO_PORT: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERNAL: Final = 70
"""An invariant of this program's own does not hold."""

HOST_VARIABLE: Final = "VIEWSTAMP_LABS_HOST"
"""Environment variable: where to listen; not set, on every interface."""

_BACKLOG: Final = 1024
_OTHER_DESCRIPTORS: Final = 128


class FactoryServer:
    """A factory on the running loop: engineers, the one admin, and the idle factory's admins."""

    def __init__(
        self,
        arguments: ServerArguments,
        *,
        clock: Clock = monotonic_us,
        options: CourseOptions | None = None,
        message_timeout_s: float = MESSAGE_TIMEOUT_S,
    ) -> None:
        """Prepare a factory; nothing is opened before `start`."""
        peers = arguments.peers
        self._port = arguments.port
        self._clock = clock
        self.factory = Factory(
            arguments.factory_id,
            (arguments.factory_id, *peers),
            rng=fresh_rng(),
            clock=clock,
            options=options,
        )
        self.admin = ProductionFactoryAdmin(self.factory, peers, clock)
        self._idle_admins = IdleFactoryAdmins(self.factory, frozenset(peers), self._after_request)
        self.factory.send = self._send
        self.factory.applied = self.admin.applied
        self.factory.fed = self._arm_timer
        self._reception = Reception(self._make_role, clock, message_timeout_s)
        self._last_engineer = 0
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = Instant(0)

    async def start(self, host: str | None = None) -> None:
        """Listen on the one port.

        Raises:
            OSError: it is not available.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._reception.accept, host, self._port, backlog=_BACKLOG)

    @property
    def listens_at(self) -> frozenset[str]:
        """The hosts on which it listens; empty before `start`."""
        sockets = () if self._server is None else self._server.sockets
        return frozenset(str(each.getsockname()[0]) for each in sockets)

    @property
    def visitors(self) -> frozenset[Doorway]:
        """The connections that others have opened."""
        return self._reception.visitors

    async def stop(self) -> None:
        """Close everything."""
        if self._timer is not None:
            self._timer.cancel()
        self.admin.close()
        self._reception.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _make_role(self, who: Identification, stub: ServerStub, doorway: Doorway) -> Role:
        if who is Identification.PFA:
            return self._idle_admins.make(stub)
        if who is Identification.AUDITOR:
            return AuditorRole(stub, self.factory)
        self._last_engineer += 1
        return Engineer(self._last_engineer, stub, self.factory.records, self.admin, doorway)

    def _send(self, to: NodeId, message: Any) -> bool:
        if isinstance(message, Greet | Replicate | Fetch):
            return self.admin.send(to, message)
        return self._idle_admins.send(to, message)

    def _after_request(self) -> None:
        self.admin.work()

    def _arm_timer(self) -> None:
        """Keep one timer that is not later than the core's deadline; too early is harmless."""
        deadline = self.factory.deadline
        if deadline is not None and (self._timer is None or deadline < self._timer_at):
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            wait_s = max(0, deadline - self._clock()) / 1e6
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        deadline = self.factory.deadline
        if deadline is not None and deadline <= self._clock():
            self.factory.feed(Woke())
            self.admin.work()
        else:
            self._arm_timer()


async def _serve(arguments: ServerArguments) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.set_exception_handler(_die)
    server = FactoryServer(arguments)
    try:
        await server.start(arguments.host or os.environ.get(HOST_VARIABLE))
    except OSError as error:
        return _complain(f"cannot listen on port {arguments.port}: {error.strerror or error}", EXIT_NO_PORT)
    await stop.wait()
    await server.stop()
    return EXIT_DONE


def _die(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """End at once after an error of this program's own: nothing is acknowledged after it."""
    loop.default_exception_handler(context)
    logging.shutdown()
    os._exit(EXIT_INTERNAL)


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"server: {' '.join(message.split())}\n")
    return code


def main(words: Sequence[str]) -> int:
    """Run the server program with these arguments until a signal, and return its exit code."""
    try:
        check_assertions()
        arguments = parse_server_arguments(words)
    except ConfigurationError as error:
        return _complain(str(error), EXIT_USAGE)
    raise_descriptor_limit(VISITORS_MAX + len(arguments.peers) + _OTHER_DESCRIPTORS)
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        return runner.run(_serve(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
