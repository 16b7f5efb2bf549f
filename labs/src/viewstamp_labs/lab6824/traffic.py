"""`RPC_LOSSY` and `RPC_COUNT` of the course: messages of clients that get lost, and how many calls there are.

With RPC_LOSSY=5 one in twenty messages of clients is lost, and one in twenty answers. With RPC_COUNT=25 the
totals are printed after every 25 calls, by the numbers that the course gives its procedures.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError, ProtocolViolation
from viewstamp.core.ids import ClientAddress
from viewstamp.core.messages import QueryRequest, Submit, decode_client_message
from viewstamp.runtime.driver import Driver
from viewstamp.runtime.server import Server
from viewstamp.runtime.system import fresh_rng
from viewstamp.runtime.transport import Transport

_PUT, _GET, _GET_ATTRIBUTES, _REMOVE = 0x6001, 0x6002, 0x6003, 0x6004
PROCEDURES: Final = {
    "acquire": 0x7001,
    "release": 0x7002,
    "stat": 0x7003,
    "store": _PUT,
    "create": _PUT,
    "link": _PUT,
    "rename": _PUT,
    "read": _GET,
    "find": _GET,
    "peek": _GET,
    "listing": _GET,
    "target": _GET,
    "look": _GET_ATTRIBUTES,
    "claim": _GET_ATTRIBUTES,
    "remove": _REMOVE,
}
"""What the course has instead of each method; others are not counted."""
_PERCENT_MAX: Final = 99
_NAME: Final[msgspec.msgpack.Decoder[list[msgspec.Raw]]] = msgspec.msgpack.Decoder(list[msgspec.Raw])


class Traffic:
    """What happens to the messages of clients on their way to one server."""

    def __init__(
        self,
        environment: Mapping[str, str],
        rng: Random,
        say: Callable[[str], None] = lambda line: print(line, flush=True),
    ) -> None:
        """Read both settings.

        Raises:
            ConfigurationError: one of them is not a number, or too large.
        """
        self._lossy = _number(environment, "RPC_LOSSY", _PERCENT_MAX) / 100
        self._every = _number(environment, "RPC_COUNT", 1 << 30)
        self._rng = rng
        self._say = say
        self.counts: Counter[int] = Counter()

    def attach(self, driver: Driver, transport: Transport) -> None:
        """Stand between a server and its clients, if there is anything to do."""
        if not self._lossy and not self._every:
            return
        taken, answered = driver.client_frame, transport.respond

        def take(source: ClientAddress, payload: bytes, principal: str) -> None:
            if not self._is_lost():
                self.count(payload)
                taken(source, payload, principal)

        def answer(to: ClientAddress, payload: bytes) -> None:
            if not self._is_lost():
                answered(to, payload)

        driver.client_frame = take  # type: ignore[method-assign]
        transport.respond = answer  # type: ignore[method-assign]

    def _is_lost(self) -> bool:
        return self._rng.random() < self._lossy

    def count(self, payload: bytes) -> None:
        """Count the calls in a message."""
        if not self._every:
            return
        try:
            message = decode_client_message(payload)
        except ProtocolViolation:
            return  # the server says so to the client
        if isinstance(message, Submit | QueryRequest):
            for _, call in message.calls:
                self._count_one(msgspec.msgpack.decode(_NAME.decode(call)[0], type=str))

    def _count_one(self, name: str) -> None:
        procedure = PROCEDURES.get(name.rpartition(".")[2])
        if procedure is None:
            return
        self.counts[procedure] += 1
        if sum(self.counts.values()) % self._every == 0:
            self._say(
                "RPC STATS: " + " ".join(f"{one:x}:{count}" for one, count in sorted(self.counts.items()))
            )


class ObservedServer(Server):
    """A server with the traffic that the environment asks for."""

    async def start(self) -> None:
        """Start, and stand between it and its clients."""
        traffic = Traffic(os.environ, fresh_rng())
        await super().start()
        assert self._driver is not None
        assert self._transport is not None
        traffic.attach(self._driver, self._transport)


def _number(environment: Mapping[str, str], name: str, most: int) -> int:
    text = environment.get(name, "") or "0"
    if not text.isascii() or not text.isdecimal() or int(text) > most:
        raise ConfigurationError(f"{name}={text[:20]!r}: give a number from 0 to {most}")
    return int(text)
