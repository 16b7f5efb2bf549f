"""The customer records as a machine: the operations of the log, and what a customer reads."""

import pytest

from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.runtime.local import local_cluster
from viewstamp.services.records import (
    INTEGER_MAX,
    NO_RECORD,
    UPDATE,
    CustomerRecord,
    CustomerRecords,
    InvalidOperation,
    MapOp,
    UnknownOperation,
)


def test_a_record_is_created_and_then_replaced_when_a_customer_orders() -> None:
    records = CustomerRecords()
    assert records.read(100) == CustomerRecord(NO_RECORD, NO_RECORD)
    assert records.update(MapOp(UPDATE, 100, 20)) == 20
    assert records.read(100) == CustomerRecord(100, 20)
    records.update(MapOp(UPDATE, 100, 3))
    assert records.customer_record == {100: 3}


@pytest.mark.parametrize("opcode", [0, 2, -1, INTEGER_MAX])
def test_an_unknown_opcode_raises_and_changes_nothing(opcode: int) -> None:
    records = CustomerRecords()
    with pytest.raises(UnknownOperation, match=str(opcode)):
        records.update(MapOp(opcode, 1, 1))
    assert records.customer_record == {}


@pytest.mark.parametrize(
    "operation", [MapOp(1, -1, 0), MapOp(1, 1 << 31, 0), MapOp(1, 0, -1), MapOp(1, 0, 1 << 31)]
)
def test_an_argument_that_is_no_customer_or_order_raises_and_changes_nothing(operation: MapOp) -> None:
    records = CustomerRecords()
    with pytest.raises(InvalidOperation):
        records.update(operation)
    assert records.customer_record == {}


def test_a_snapshot_holds_all_records() -> None:
    records = CustomerRecords()
    for customer in range(100):
        records.update(MapOp(UPDATE, customer, customer * 7))
    snapshot = records.snapshot()
    again = CustomerRecords()
    again.restore(snapshot if isinstance(snapshot, bytes) else b"".join(snapshot))
    assert again.customer_record == records.customer_record


@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
async def test_the_records_are_replicated_by_any_protocol_when_a_typed_client_calls(protocol: str) -> None:
    async with local_cluster(CustomerRecords, protocol=protocol) as cluster, cluster.connect() as records:
        assert await records.update(MapOp(UPDATE, 5, 9)) == 9
        assert await records.read(5) == CustomerRecord(5, 9)
        with pytest.raises(UnknownOperation):
            await records.update(MapOp(7, 5, 9))
