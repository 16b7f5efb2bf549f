"""The wire: 4-byte integers in network byte order, in the order of the fields."""

from hypothesis import given, settings
from hypothesis import strategies as st

from viewstamp.services.records import CustomerRecord, MapOp
from viewstamp_labs.cs6650 import messages
from viewstamp_labs.cs6650.messages import (
    CustomerRequest,
    Positions,
    ReplicationRequest,
    ReplicationResponse,
    RobotInfo,
)

INTEGERS = st.integers(-(1 << 31), (1 << 31) - 1)
OPERATIONS = st.builds(MapOp, INTEGERS, INTEGERS, INTEGERS)


def integers(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big", signed=True) for value in values)


def test_every_message_is_its_fields_in_order_when_packed() -> None:
    assert messages.pack_integer(-1) == integers(-1)
    assert messages.pack_request(CustomerRequest(7, -1, 2)) == integers(7, -1, 2)
    assert messages.pack_robot(RobotInfo(1, 2, 3, 4, 5)) == integers(1, 2, 3, 4, 5)
    assert messages.pack_record(CustomerRecord(-1, -1)) == integers(-1, -1)
    assert messages.pack_operation(MapOp(1, 100, 20)) == integers(1, 100, 20)
    request = ReplicationRequest(0, 41, 42, MapOp(1, 100, 20), 3, 2, 1)
    assert messages.pack_replication(request) == integers(0, 41, 42, 1, 100, 20, 3, 2, 1)
    response = ReplicationResponse(3, 2, 3, 4, 5, MapOp(1, 6, 7))
    assert messages.pack_response(response) == integers(3, 2, 3, 4, 5, 1, 6, 7)
    assert messages.pack_positions(Positions(0, -1, 5, 4)) == integers(0, -1, 5, 4)


@settings(max_examples=50)
@given(st.builds(CustomerRequest, INTEGERS, INTEGERS, INTEGERS))
def test_a_request_comes_back_when_unpacked(request: CustomerRequest) -> None:
    assert messages.unpack_request(messages.pack_request(request)) == request


@settings(max_examples=50)
@given(st.builds(RobotInfo, INTEGERS, INTEGERS, INTEGERS, INTEGERS, INTEGERS))
def test_a_robot_comes_back_when_unpacked(robot: RobotInfo) -> None:
    assert messages.unpack_robot(messages.pack_robot(robot)) == robot


@settings(max_examples=50)
@given(st.builds(ReplicationRequest, INTEGERS, INTEGERS, INTEGERS, OPERATIONS, INTEGERS, INTEGERS, INTEGERS))
def test_a_replication_request_comes_back_when_unpacked(request: ReplicationRequest) -> None:
    assert messages.unpack_replication(messages.pack_replication(request)) == request


@settings(max_examples=50)
@given(st.builds(ReplicationResponse, INTEGERS, INTEGERS, INTEGERS, INTEGERS, INTEGERS, OPERATIONS))
def test_a_response_comes_back_when_unpacked(response: ReplicationResponse) -> None:
    assert messages.unpack_response(messages.pack_response(response)) == response


@settings(max_examples=50)
@given(
    st.builds(CustomerRecord, INTEGERS, INTEGERS),
    st.builds(Positions, INTEGERS, INTEGERS, INTEGERS, INTEGERS),
)
def test_records_and_positions_come_back_when_unpacked(record: CustomerRecord, positions: Positions) -> None:
    assert messages.unpack_record(messages.pack_record(record)) == record
    assert messages.unpack_positions(messages.pack_positions(positions)) == positions
