"""An auditor looks at a factory's positions and log, for tests and for people.

Not of the assignment, whose customers can read records only. An auditor changes nothing.
"""

from typing import Final, Self

import msgspec

from viewstamp.runtime.addresses import Address
from viewstamp.services.records import MapOp
from viewstamp_labs.cs6650.factory import Factory
from viewstamp_labs.cs6650.messages import (
    INTEGER_BYTES,
    OPERATION_BYTES,
    POSITIONS_BYTES,
    Identification,
    Positions,
    pack_integer,
    unpack_integer,
    unpack_operation,
    unpack_positions,
)
from viewstamp_labs.cs6650.stubs import Caller, ServerStub

PAGE_ENTRIES_MAX: Final = 4_096


class Account(msgspec.Struct, frozen=True):
    """What an auditor found."""

    positions: Positions
    log: list[MapOp]
    """From index 1 up to `positions.last_index`."""


class AuditorRole:
    """The factory's side of an auditor's connection."""

    is_waiting = False

    def __init__(self, stub: ServerStub, factory: Factory) -> None:
        self._stub = stub
        self._factory = factory

    def work(self) -> None:
        """Answer the questions that have come.

        Raises:
            ProtocolViolation: it asks for what cannot be.
        """
        while (first := self._stub.receive_question()) is not None:
            entries = self._factory.log_entries()[first - 1 : first - 1 + PAGE_ENTRIES_MAX]
            self._stub.show_log(self._factory.positions, entries)

    def gone(self) -> None:
        """Nothing is left to do."""


class AuditorStub(Caller):
    """An auditor's connection to a factory."""

    @classmethod
    async def connect(cls, address: Address) -> Self:
        """Connect, and say that an auditor speaks.

        Raises:
            OSError: the server is not there.
        """
        stub = await super().connect(address)
        stub.identify(Identification.AUDITOR)
        return stub

    async def audit(self) -> Account:
        """Return positions and log; of a log that grows meanwhile, as far as it had come at first.

        Raises:
            ServerGone: the connection broke.
        """
        positions, log = await self._read_page(1)
        while len(log) < positions.last_index:
            log += (await self._read_page(len(log) + 1))[1]
        return Account(positions, log[: positions.last_index])

    async def _read_page(self, first: int) -> tuple[Positions, list[MapOp]]:
        self.write(pack_integer(first))
        positions = unpack_positions(await self.read(POSITIONS_BYTES))
        count = unpack_integer(await self.read(INTEGER_BYTES))
        data = await self.read(count * OPERATION_BYTES) if count else b""
        starts = range(0, len(data), OPERATION_BYTES)
        return positions, [unpack_operation(data[start : start + OPERATION_BYTES]) for start in starts]
