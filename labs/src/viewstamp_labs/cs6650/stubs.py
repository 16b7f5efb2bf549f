"""Stubs: they hide what the network is like from customers, engineers and admins (1.2.2 and 2.5).

The assignment's names are `ClientStub.Order` and so on; here they are written in Python's manner, `order`. A
stub of the client's side waits for its answer. One of the server's side returns None where the message has
not arrived as a whole: its role is called again when more has come.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Self, cast

from viewstamp.core.errors import ProtocolViolation
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.system import tune_socket
from viewstamp.services.records import (
    CustomerRecord,
    InvalidOperation,
    MapOp,
    UnknownOperation,
    check_operation,
)
from viewstamp_labs.cs6650.messages import (
    ENTRY,
    GREETING,
    HAND_OVER,
    INTEGER_BYTES,
    POSITION,
    RECORD_BYTES,
    REPLICATION_BYTES,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    ROBOT_BYTES,
    WRITTEN,
    CustomerRequest,
    Identification,
    Positions,
    ReplicationRequest,
    ReplicationResponse,
    RequestType,
    RobotInfo,
    is_found,
    pack_integer,
    pack_positions,
    pack_record,
    pack_replication,
    pack_request,
    pack_response,
    pack_robot,
    unpack_integer,
    unpack_record,
    unpack_replication,
    unpack_request,
    unpack_response,
    unpack_robot,
)

UNREAD_BYTES_MAX: Final = 1 << 16
"""Of one connection; beyond it nothing more is read until its requests are answered."""
TAKEOVERS_MAX: Final = 1 << 30
"""No takeover of others has a higher number, so that the next one's still is a 4-byte integer."""


class ServerGone(ConnectionError):
    """The connection to the server broke. What was asked for last may have happened or not."""


class Intake:
    """Bytes that have come and are not consumed yet."""

    __slots__ = ("_data", "_start")

    def __init__(self) -> None:
        self._data = b""
        self._start = 0
        """What is before it is consumed; it is cut off when more comes, not for each message."""

    def __len__(self) -> int:
        return len(self._data) - self._start

    def put(self, data: bytes) -> None:
        """Add what has come."""
        self._data = self._data[self._start :] + data if len(self) else data
        self._start = 0

    def take(self, size: int) -> bytes | None:
        """Return the next `size` bytes, or None where there are less."""
        start, end = self._start, self._start + size
        if end > len(self._data):
            return None
        self._start = end
        return self._data[start:end]


class Caller(asyncio.Protocol):
    """The side that opened a connection: it asks, and waits for an answer whose size it knows."""

    def __init__(self) -> None:
        self._intake = Intake()
        self._transport: asyncio.Transport | None = None
        self._wanted = 0
        self._answer: asyncio.Future[bytes] | None = None
        """What is being waited for, `_wanted` bytes."""

    @classmethod
    async def connect(cls, address: Address) -> Self:
        """Connect and identify.

        Raises:
            OSError: the server is not there.
        """
        loop = asyncio.get_running_loop()
        _, stub = await loop.create_connection(cls, *address)
        return stub

    def identify(self, role: Identification) -> None:
        """Send the one-time message (2.3.3)."""
        self.write(pack_integer(role))

    def write(self, data: bytes) -> None:
        """Send; what is sent over a broken connection is lost."""
        if self._transport is not None:
            self._transport.write(data)

    async def read(self, size: int) -> bytes:
        """Return the next `size` bytes.

        Raises:
            ServerGone: the connection broke before they came.
        """
        assert self._answer is None, "one question at a time"
        if (data := self._intake.take(size)) is not None:
            return data
        if self._transport is None:
            raise ServerGone("the server closed the connection")
        self._wanted = size
        self._answer = asyncio.get_running_loop().create_future()
        try:
            return await self._answer
        finally:
            self._answer = None

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start. Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        tune_socket(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """Answer the waiting caller. Called by the loop."""
        self._intake.put(data)
        answer = self._answer
        if answer is not None and not answer.done() and len(self._intake) >= self._wanted:
            answer.set_result(self._intake.take(self._wanted) or b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the waiting caller. Called by the loop, once."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ServerGone(str(exc or "the server closed the connection")))


class ClientStub(Caller):
    """A customer's connection to a factory."""

    @classmethod
    async def connect(cls, address: Address) -> Self:
        """Connect, and say that a customer speaks.

        Raises:
            OSError: the server is not there.
        """
        stub = await super().connect(address)
        stub.identify(Identification.CUSTOMER)
        return stub

    async def order(self, request: CustomerRequest) -> RobotInfo:
        """Order a robot (`ClientStub.Order`).

        Raises:
            ServerGone: the connection broke: the order may be recorded or not.
            ProtocolViolation: this is not an answer to that.
        """
        self.write(pack_request(request))
        robot = unpack_robot(await self.read(ROBOT_BYTES))
        if (robot.customer_id, robot.order_number) != (request.customer_id, request.order_number):
            raise ProtocolViolation(f"the server shipped {robot} for {request}")
        return robot

    async def read_record(self, request: CustomerRequest) -> CustomerRecord:
        """Read a customer's record (`ClientStub.ReadRecord`).

        Raises:
            ServerGone: the connection broke.
            ProtocolViolation: this is not an answer to that.
        """
        self.write(pack_request(request))
        record = unpack_record(await self.read(RECORD_BYTES))
        if is_found(record) and record.customer_id != request.customer_id:
            raise ProtocolViolation(f"the server returned {record} for {request}")
        return record


class ServerStub:
    """The server's side of one connection: a customer's, until the identification says otherwise."""

    __slots__ = ("_send", "intake")

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send
        self.intake = Intake()

    def receive_identification(self) -> Identification | None:
        """Return who opened the connection; called once.

        Raises:
            ProtocolViolation: there is no such role.
        """
        data = self.intake.take(INTEGER_BYTES)
        if data is None:
            return None
        role = unpack_integer(data)
        if role not in _ROLES:
            raise ProtocolViolation(f"no role has the number {role}")
        return Identification(role)

    def receive_request(self) -> CustomerRequest | None:
        """Return the next request of the customer (`ServerStub.ReceiveRequest`).

        Raises:
            ProtocolViolation: it is of an unknown type, or about a customer or an order that cannot be.
        """
        data = self.intake.take(REQUEST_BYTES)
        if data is None:
            return None
        request = unpack_request(data)
        if request.request_type not in _REQUEST_TYPES:
            raise ProtocolViolation(f"no request has the type {request.request_type}")
        if request.customer_id < 0:
            raise ProtocolViolation(f"no customer has the id {request.customer_id}")
        if request.request_type == RequestType.ORDER and request.order_number < 0:
            raise ProtocolViolation(f"no order has the number {request.order_number}")
        return request

    def ship_robot(self, robot: RobotInfo) -> None:
        """Send the robot information (`ServerStub.ShipRobot`)."""
        self._send(pack_robot(robot))

    def return_record(self, record: CustomerRecord) -> None:
        """Send the record (`ServerStub.ReturnRecord`)."""
        self._send(pack_record(record))

    def receive_replication(self) -> ReplicationRequest | None:
        """Return the next request of a PFA.

        Raises:
            ProtocolViolation: its operation is unknown or cannot be, or a position is negative.
        """
        data = self.intake.take(REPLICATION_BYTES)
        if data is None:
            return None
        request = unpack_replication(data)
        positions = (request.factory_id, request.committed_index, request.last_index)
        takeovers = (request.takeover, request.entry_takeover, request.previous_takeover)
        if min(positions + takeovers) < 0 or max(takeovers) > TAKEOVERS_MAX:
            raise ProtocolViolation(f"a position is out of range in {request}")
        if request.operation.opcode not in _NO_OPERATIONS:
            _check(request.operation)
        if request.operation.opcode != GREETING and request.last_index < 1:
            raise ProtocolViolation("an operation needs an index from 1 up")
        return request

    def respond(self, response: ReplicationResponse) -> None:
        """Send the answer of an IFA."""
        self._send(pack_response(response))

    def receive_question(self) -> int | None:
        """Return the auditor's next question: the index of the log from which it wants to read.

        Raises:
            ProtocolViolation: there is no such index.
        """
        data = self.intake.take(INTEGER_BYTES)
        if data is None:
            return None
        if (first := unpack_integer(data)) < 1:
            raise ProtocolViolation(f"no index of the log is {first}")
        return first

    def show_log(self, positions: Positions, entries: Sequence[bytes]) -> None:
        """Send an auditor positions, a number of entries, and the entries."""
        self._send(b"".join((pack_positions(positions), pack_integer(len(entries)), *entries)))


class ReplicationStub:
    """The PFA's side of its connection to one IFA. Sends a request; the answers come when they come."""

    __slots__ = ("_send", "intake")

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send
        self.intake = Intake()

    def identify(self) -> None:
        """Say that a production factory's admin speaks."""
        self._send(pack_integer(Identification.PFA))

    def send_replication(self, request: ReplicationRequest) -> None:
        """Send a replication request (2.2, step 4a)."""
        self._send(pack_replication(request))

    def receive_response(self) -> ReplicationResponse | None:
        """Return the next answer of the IFA (2.2, step 4c).

        Raises:
            ProtocolViolation: it is none.
        """
        data = self.intake.take(RESPONSE_BYTES)
        if data is None:
            return None
        response = unpack_response(data)
        numbers = (
            response.takeover, response.last_index, response.committed_index, response.last_takeover,
        )  # fmt: skip
        takeover_max = max(response.takeover, response.last_takeover)
        if response.kind not in _RESPONSE_KINDS or min(numbers) < 0 or takeover_max > TAKEOVERS_MAX:
            raise ProtocolViolation(f"this cannot be an answer: {response}")
        if response.kind == ENTRY:
            _check(response.operation)
        return response


def _check(operation: MapOp) -> None:
    try:
        check_operation(operation)
    except (UnknownOperation, InvalidOperation) as error:
        raise ProtocolViolation(str(error)) from None


_ROLES: Final = frozenset(Identification)
_REQUEST_TYPES: Final = frozenset(RequestType)
_RESPONSE_KINDS: Final = frozenset((WRITTEN, POSITION, ENTRY))
_NO_OPERATIONS: Final = frozenset((GREETING, HAND_OVER))
