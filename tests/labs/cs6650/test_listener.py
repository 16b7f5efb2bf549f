"""Whatever nonsense comes to the port: that connection is closed, and nobody else notices."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.labs.cs6650.factories import Factories, order, read, until
from viewstamp.services.records import CustomerRecord
from viewstamp_labs.cs6650 import listener
from viewstamp_labs.cs6650.audit import read_account
from viewstamp_labs.cs6650.messages import POSITION, RESPONSE_BYTES, Identification, Positions
from viewstamp_labs.cs6650.stubs import UNREAD_BYTES_MAX, Caller, ServerGone

CUSTOMER, PFA, AUDITOR = Identification.CUSTOMER, Identification.PFA, Identification.AUDITOR

READ_AT_ONCE_BYTES_MAX = 1 << 18
"""What the loop hands over in one piece at most."""

NONSENSE = {
    "an unknown role": [9],
    "a role of nobody": [0],
    "http": [int.from_bytes(b"GET ", "big")],
    "a request of type 3": [CUSTOMER, 1, 0, 3],
    "a request of type 0": [CUSTOMER, 1, 0, 0],
    "a request of type -1": [CUSTOMER, 1, 0, -1],
    "an order of a negative customer": [CUSTOMER, -1, 0, 1],
    "a read of a negative customer": [CUSTOMER, -5, -1, 2],
    "an order with a negative number": [CUSTOMER, 1, -1, 1],
    "an unknown opcode": [PFA, 1, 0, 1, 2, 7, 7, 1, 1, 0],
    "a negative opcode": [PFA, 1, 0, 1, -2, 7, 7, 1, 1, 0],
    "a hand-over from index 0": [PFA, 1, 0, 0, -1, 0, 0, 1, 0, 0],
    "an operation on a negative customer": [PFA, 1, 0, 1, 1, -7, 7, 1, 1, 0],
    "an operation at no index": [PFA, 1, 0, 0, 1, 7, 7, 1, 1, 0],
    "an operation with a negative position": [PFA, 1, -1, 1, 1, 7, 7, 1, 1, 0],
    "a takeover of no 4 bytes": [PFA, 1, 0, 0, 0, 0, 0, (1 << 31) - 1, 0, 0],
    "a PFA of an unknown factory": [PFA, 5, 0, 0, 0, 0, 0, 1, 0, 0],
    "a PFA of this very factory": [PFA, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    "a PFA of two factories": [PFA, 1, 0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 2, 0, 0],
    "an auditor of index 0": [AUDITOR, 0],
}


def packed(integers: Sequence[int]) -> bytes:
    return b"".join(integer.to_bytes(4, "big", signed=True) for integer in integers)


async def ends(caller: Caller) -> bool:
    """Wait until the server closes the connection."""
    async with asyncio.timeout(20):
        try:
            while True:
                await caller.read(4)
        except ServerGone:
            return True


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_closes_its_own_connection_and_no_other(name: str) -> None:
    async with Factories(3) as factories:
        customer = await factories.customer(0)
        await customer.order(order(1, 0))
        nonsense = await Caller.connect(factories.address(0))
        nonsense.write(packed(NONSENSE[name]))
        assert await ends(nonsense)
        await customer.order(order(1, 1))
        assert await customer.read_record(read(1)) == CustomerRecord(1, 1)
        assert factories.where(0) == (0, 2, 2)
        assert factories.where(1) == (0, 2, 1)
        customer.close()


async def test_a_false_primary_costs_an_order_at_most_and_no_record() -> None:
    """A PFA that says it is another factory cannot be told from it; its operation with a gap is not taken."""
    async with Factories(3) as factories:
        await factories.orders(0, 1, range(5))
        liar = await Caller.connect(factories.address(1))
        liar.write(packed([PFA, 2, 3_000, 3_001, 1, 9, 9, 1_000, 1_000, 999]))
        assert (await liar.read(RESPONSE_BYTES))[:4] == packed([POSITION])
        assert factories.positions(1).last_index == 5
        assert factories.records(1) == {1: 3}
        liar.close()
        with pytest.raises(ServerGone):
            await factories.orders(0, 1, range(5, 6))
        await factories.orders(0, 1, range(6, 7))
        assert factories.log(0) == factories.log(1) == factories.log(2)
        assert factories.records(0) == {1: 6}


@pytest.mark.parametrize(
    "half", [b"", b"\0\0", packed([CUSTOMER, 1]), packed([CUSTOMER, 1, 0]) + b"\0", packed([PFA, 1, 0])]
)
async def test_half_a_message_and_then_silence_ends_the_connection(half: bytes) -> None:
    async with Factories(1, message_timeout_s=0.2) as factories:
        customer = await factories.customer(0)
        await customer.order(order(1, 0))
        silent = await Caller.connect(factories.address(0))
        silent.write(half)
        assert await ends(silent)
        await customer.order(order(1, 1))
        customer.close()


async def test_a_customer_may_be_silent_between_two_requests() -> None:
    async with Factories(1, message_timeout_s=0.1) as factories:
        customer, silent = await factories.customer(0), await Caller.connect(factories.address(0))
        await customer.order(order(1, 0))
        for _ in range(3):
            assert await ends(silent)
            silent = await Caller.connect(factories.address(0))
        await customer.order(order(1, 1))
        silent.close()
        customer.close()


async def test_a_message_may_come_byte_by_byte() -> None:
    async with Factories(2) as factories:
        slow = await Caller.connect(factories.address(0))
        for byte in packed([CUSTOMER, 4, 0, 1]):
            slow.write(bytes([byte]))
            await asyncio.sleep(0.002)
        assert (await slow.read(20))[:4] == packed([4])
        slow.close()


async def test_a_customer_who_sends_without_end_is_answered_without_growth() -> None:
    async with Factories(2) as factories:
        flood = await factories.customer(0)
        flood.write(packed([1, 0, 1]) * (64 * UNREAD_BYTES_MAX // 12))
        await until(lambda: factories.positions(0).last_index > 200, "orders are recorded")
        unread = max(visitor.unread_bytes for visitor in factories.servers[0].visitors)
        assert unread <= UNREAD_BYTES_MAX + READ_AT_ONCE_BYTES_MAX
        other = await factories.customer(0)
        await other.order(order(2, 0))
        flood.close()
        other.close()


async def test_reading_goes_on_when_what_waited_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "UNREAD_BYTES_MAX", 100)
    async with Factories(2) as factories:
        stub = await factories.customer(0)
        for number in range(5):
            stub.write(packed([1, number, 1]) * 50)
            await stub.read(20 * 50)
        assert factories.where(0) == (0, 250, 250)
        stub.close()


async def test_a_customer_who_leaves_does_not_stop_the_order_that_is_recorded() -> None:
    async with Factories(2) as factories:
        leaving = await factories.customer(0)
        leaving.write(packed([6, 0, 1]))
        leaving.close()
        await until(lambda: factories.positions(0).last_index == 1, "the order is recorded")
        await factories.orders(0, 7, range(1))
        assert factories.records(0) == {6: 0, 7: 0}


async def test_an_auditor_sees_positions_and_log_and_changes_nothing() -> None:
    async with Factories(2) as factories:
        await factories.orders(0, 3, range(7))
        account = await read_account(factories.address(1))
        assert account.positions == Positions(1, 0, 7, 6)
        assert [(op.opcode, op.arg1, op.arg2) for op in account.log] == [(1, 3, n) for n in range(7)]
        assert factories.where(1) == (0, 7, 6)
