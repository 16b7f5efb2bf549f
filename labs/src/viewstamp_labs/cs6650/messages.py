"""What goes over the wire: 4-byte integers in network byte order, in the order of the fields, nothing else.

The first integer on every connection is the identification: who opened it. After it come messages of one size
for each role, so that no length is ever sent (docs/labs/cs6650.md).
"""

from enum import IntEnum
from struct import Struct
from typing import Final

import msgspec

from viewstamp.services.records import NO_RECORD, CustomerRecord, MapOp

INTEGER_BYTES: Final = 4
NO_ORDER: Final = -1
"""`order_number` of a request that reads."""
GREETING: Final = 0
"""Opcode of a replication request that brings no operation."""
HAND_OVER: Final = -1
"""Opcode of a replication request that asks for the other's log, which is newer, from `last_index` on."""
WRITTEN: Final = 1
POSITION: Final = 2
ENTRY: Final = 3
"""Kinds of replication responses."""
NOBODY: Final = -1
"""In `admin_id`: no admin had a part in it; in `primary_id`: no factory is known to produce."""

_INTEGER: Final = Struct("!i")
_PAIR: Final = Struct("!ii")
_TRIPLE: Final = Struct("!iii")
_FIVE: Final = Struct("!iiiii")
_FOUR: Final = Struct("!iiii")
_EIGHT: Final = Struct("!iiiiiiii")
_NINE: Final = Struct("!iiiiiiiii")


class Identification(IntEnum):
    """The one-time message that opens a connection: the role of the program that opened it (2.3.3)."""

    CUSTOMER = 1
    PFA = 2
    """The production factory's admin: what follows are replication requests for our idle factory's admin."""
    AUDITOR = 3
    """Reads positions and log; not of the assignment."""


class RequestType(IntEnum):
    """What a customer wants."""

    ORDER = 1
    READ = 2


class CustomerRequest(msgspec.Struct, frozen=True, gc=False):
    """A customer's order, or a request for a record."""

    customer_id: int
    order_number: int
    """How many orders this customer has issued before; `NO_ORDER` for a read."""
    request_type: int


class RobotInfo(msgspec.Struct, frozen=True, gc=False):
    """The robot that is shipped: the order, and who made and recorded it."""

    customer_id: int
    order_number: int
    request_type: int
    engineer_id: int
    admin_id: int


class ReplicationRequest(msgspec.Struct, frozen=True, gc=False):
    """The PFA's request to an IFA (2.2, step 4a), and three variables more (docs/labs/cs6650.md#on-the-wire).

    With the opcode `GREETING` it is a question: how far has your log come? Its indices are then those of the
    asker's own log. `HAND_OVER` asks for entries.
    """

    factory_id: int
    committed_index: int
    last_index: int
    operation: MapOp
    takeover: int
    """By which the asker became primary: tells its words from those of an older one."""
    entry_takeover: int
    """The takeover in which the operation at `last_index` was first put into a log."""
    previous_takeover: int
    """The same of the operation before it; 0 in a greeting."""


class ReplicationResponse(msgspec.Struct, frozen=True, gc=False):
    """The IFA's answer (2.2, step 4b iv), and how far its log has come."""

    kind: int
    """`WRITTEN`; `POSITION`, in answer to a greeting or to an operation with a gap before it; `ENTRY`."""
    takeover: int
    """As in the request."""
    last_index: int
    """Of `ENTRY`: where it stands in the log."""
    committed_index: int
    """Of `POSITION`, else 0."""
    last_takeover: int
    """Of `POSITION` and `ENTRY`: the takeover in which the operation at `last_index` was put into a log."""
    operation: MapOp
    """Of `ENTRY`, else without meaning."""


class Positions(msgspec.Struct, frozen=True, gc=False):
    """What every factory keeps beside its log and its map (2.2)."""

    factory_id: int
    primary_id: int
    last_index: int
    """The last index of the log that holds an operation; the first one is 1."""
    committed_index: int
    """The last index that is committed and applied to the map; committed_index <= last_index."""


def pack_integer(value: int) -> bytes:
    """Return an identification, or whatever else is one integer."""
    return _INTEGER.pack(value)


def unpack_integer(data: bytes) -> int:
    """Return the one integer in these 4 bytes."""
    value: int = _INTEGER.unpack(data)[0]
    return value


REQUEST_BYTES: Final = _TRIPLE.size


def pack_request(request: CustomerRequest) -> bytes:
    """Return the request as `REQUEST_BYTES` bytes."""
    return _TRIPLE.pack(request.customer_id, request.order_number, request.request_type)


def unpack_request(data: bytes) -> CustomerRequest:
    """Return what `pack_request` was given. Its fields are integers, nothing more is known of them."""
    return CustomerRequest(*_TRIPLE.unpack(data))


ROBOT_BYTES: Final = _FIVE.size


def pack_robot(robot: RobotInfo) -> bytes:
    """Return the robot information as `ROBOT_BYTES` bytes."""
    return _FIVE.pack(
        robot.customer_id, robot.order_number, robot.request_type, robot.engineer_id, robot.admin_id
    )


def unpack_robot(data: bytes) -> RobotInfo:
    """Return what `pack_robot` was given."""
    return RobotInfo(*_FIVE.unpack(data))


RECORD_BYTES: Final = _PAIR.size


def pack_record(record: CustomerRecord) -> bytes:
    """Return the record as `RECORD_BYTES` bytes."""
    return _PAIR.pack(record.customer_id, record.last_order)


def unpack_record(data: bytes) -> CustomerRecord:
    """Return what `pack_record` was given."""
    return CustomerRecord(*_PAIR.unpack(data))


def is_found(record: CustomerRecord) -> bool:
    """Whether there is such a record."""
    return record.customer_id != NO_RECORD


OPERATION_BYTES: Final = _TRIPLE.size


def pack_operation(operation: MapOp) -> bytes:
    """Return the operation as `OPERATION_BYTES` bytes: an entry of the log."""
    return _TRIPLE.pack(operation.opcode, operation.arg1, operation.arg2)


def unpack_operation(data: bytes) -> MapOp:
    """Return what `pack_operation` was given."""
    return MapOp(*_TRIPLE.unpack(data))


REPLICATION_BYTES: Final = _NINE.size


def pack_replication(request: ReplicationRequest) -> bytes:
    """Return the request as `REPLICATION_BYTES` bytes, the assignment's own fields first."""
    operation = request.operation
    return _NINE.pack(
        *(request.factory_id, request.committed_index, request.last_index),
        *(operation.opcode, operation.arg1, operation.arg2),
        *(request.takeover, request.entry_takeover, request.previous_takeover),
    )


def unpack_replication(data: bytes) -> ReplicationRequest:
    """Return what `pack_replication` was given. Its fields are integers, nothing more is known of them."""
    factory_id, committed, last, opcode, arg1, arg2, takeover, entry, previous = _NINE.unpack(data)
    return ReplicationRequest(
        factory_id, committed, last, MapOp(opcode, arg1, arg2), takeover, entry, previous
    )


RESPONSE_BYTES: Final = _EIGHT.size


def pack_response(response: ReplicationResponse) -> bytes:
    """Return the response as `RESPONSE_BYTES` bytes."""
    operation = response.operation
    return _EIGHT.pack(
        *(response.kind, response.takeover, response.last_index),
        *(response.committed_index, response.last_takeover),
        *(operation.opcode, operation.arg1, operation.arg2),
    )


def unpack_response(data: bytes) -> ReplicationResponse:
    """Return what `pack_response` was given. Its fields are integers, nothing more is known of them."""
    kind, takeover, last, committed, last_takeover, opcode, arg1, arg2 = _EIGHT.unpack(data)
    operation = MapOp(opcode, arg1, arg2)
    return ReplicationResponse(kind, takeover, last, committed, last_takeover, operation)


POSITIONS_BYTES: Final = _FOUR.size


def pack_positions(positions: Positions) -> bytes:
    """Return the positions as `POSITIONS_BYTES` bytes."""
    return _FOUR.pack(
        *(positions.factory_id, positions.primary_id, positions.last_index, positions.committed_index)
    )


def unpack_positions(data: bytes) -> Positions:
    """Return what `pack_positions` was given."""
    return Positions(*_FOUR.unpack(data))
