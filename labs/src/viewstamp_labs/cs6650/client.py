"""The client program: a crowd of customers, each with a connection of its own (1.3, 1.4, 2.4).

It is silent while it runs. At its end it prints one line: average, minimum and maximum latency in
microseconds, and requests a second; with type 3 it prints the records and nothing else. When the server dies,
the customers stop, and the program ends as always, with a line to standard error that says how far it came.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from viewstamp.core.errors import ConfigurationError, ProtocolViolation
from viewstamp.runtime.addresses import format_address
from viewstamp.runtime.system import loop_factory, monotonic_us, raise_descriptor_limit
from viewstamp_labs.cs6650.arguments import ClientArguments, parse_client_arguments
from viewstamp_labs.cs6650.messages import NO_ORDER, CustomerRequest, RequestType, is_found
from viewstamp_labs.cs6650.output import give_up_output
from viewstamp_labs.cs6650.stubs import ClientStub, ServerGone
from viewstamp_labs.cs6650.timing import Latencies

EXIT_DONE: Final = 0
EXIT_NO_SERVER: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

_OTHER_DESCRIPTORS: Final = 64
_CONNECT_TIMEOUT_S: Final = 10.0
_CONNECTING_MAX: Final = 256
"""Connections that are being opened at once: a listener's queue is not endless."""

Customer: TypeAlias = Callable[[ClientStub, int], Awaitable[None]]


class Crowd:
    """All customers of one program."""

    def __init__(self, arguments: ClientArguments, out: Callable[[str], object]) -> None:
        self._arguments = arguments
        self._out = out
        self.latencies = Latencies()
        self.elapsed_us = 0
        """How long the customers were at it, without the time to connect."""
        self.trouble = ""
        """Why a customer stopped early; empty where none did."""

    async def run(self) -> None:
        """Let every customer do its part.

        Raises:
            OSError: a customer cannot connect. None has sent a request.
        """
        stubs = await self._connect()
        behave = _BEHAVIOURS[self._arguments.request_type]
        begun = monotonic_us()
        try:
            await asyncio.gather(*(self._visit(behave, stub, number) for number, stub in enumerate(stubs)))
        finally:
            self.elapsed_us = monotonic_us() - begun
            for stub in stubs:
                stub.close()

    async def _connect(self) -> list[ClientStub]:
        places = asyncio.Semaphore(_CONNECTING_MAX)

        async def connect_one() -> ClientStub:
            async with places, asyncio.timeout(_CONNECT_TIMEOUT_S):
                return await ClientStub.connect(self._arguments.server)

        wanted = [connect_one() for _ in range(self._arguments.customers)]
        found = await asyncio.gather(*wanted, return_exceptions=True)
        stubs = [one for one in found if isinstance(one, ClientStub)]
        failures = [one for one in found if isinstance(one, BaseException)]
        if failures:
            for stub in stubs:
                stub.close()
            raise failures[0]
        return stubs

    async def _visit(
        self, behave: "Callable[[Crowd, ClientStub, int], Awaitable[None]]", stub: ClientStub, number: int
    ) -> None:
        try:
            await behave(self, stub, number)
        except ServerGone as error:
            self.trouble = str(error)

    async def order_robots(self, stub: ClientStub, customer: int) -> None:
        """Type 1: order one robot after the other."""
        add = self.latencies.add
        for number in range(self._arguments.orders):
            request = CustomerRequest(customer, number, RequestType.ORDER)
            begun = monotonic_us()
            await stub.order(request)
            add(monotonic_us() - begun)

    async def read_own_record(self, stub: ClientStub, customer: int) -> None:
        """Type 2: read the own record again and again."""
        add = self.latencies.add
        request = CustomerRequest(customer, NO_ORDER, RequestType.READ)
        for _ in range(self._arguments.orders):
            begun = monotonic_us()
            await stub.read_record(request)
            add(monotonic_us() - begun)

    async def scan_records(self, stub: ClientStub, _customer: int) -> None:
        """Type 3: read all records from 0 to `orders`, and print those that exist."""
        for customer in range(self._arguments.orders + 1):
            record = await stub.read_record(CustomerRequest(customer, NO_ORDER, RequestType.READ))
            if is_found(record):
                self._out(f"{record.customer_id}\t{record.last_order}\n")


_SCAN: Final = 3
_BEHAVIOURS: Final = {1: Crowd.order_robots, 2: Crowd.read_own_record, _SCAN: Crowd.scan_records}


async def _run(arguments: ClientArguments) -> int:
    crowd = Crowd(arguments, sys.stdout.write)
    where = format_address(arguments.server)
    try:
        await crowd.run()
    except asyncio.CancelledError:
        _summarize(crowd, arguments)
        raise
    except TimeoutError:
        return _complain(f"no answer from {where} in {_CONNECT_TIMEOUT_S:g} s", EXIT_NO_SERVER)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _complain(f"cannot connect to {where}: {error.strerror or error}", EXIT_NO_SERVER)
    except ProtocolViolation as error:
        return _complain(f"{where} is not a factory: {error}", EXIT_NO_SERVER)
    _summarize(crowd, arguments)
    if crowd.trouble:
        answered = crowd.latencies.count
        _complain(f"{where} went away: {crowd.trouble} ({answered} requests were answered)", EXIT_DONE)
    return EXIT_DONE


def _summarize(crowd: Crowd, arguments: ClientArguments) -> None:
    if arguments.request_type != _SCAN:
        sys.stdout.write(crowd.latencies.summary(crowd.elapsed_us) + "\n")


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"client: {' '.join(message.split())}\n")
    return code


def main(words: Sequence[str]) -> int:
    """Run the client program with these arguments and return its exit code."""
    try:
        arguments = parse_client_arguments(words)
    except ConfigurationError as error:
        return _complain(str(error), EXIT_USAGE)
    raise_descriptor_limit(arguments.customers + _OTHER_DESCRIPTORS)
    try:
        with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
            code = runner.run(_run(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stdout.flush()
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        give_up_output()
        return EXIT_DONE
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
