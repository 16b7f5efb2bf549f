"""What the client program asks for: customers, numbers and types, each exactly once."""

from collections import Counter

import pytest

from viewstamp.core.ids import NodeId
from viewstamp.services.records import NO_RECORD, CustomerRecord
from viewstamp_labs.cs6650 import client
from viewstamp_labs.cs6650.arguments import ClientArguments
from viewstamp_labs.cs6650.client import Crowd
from viewstamp_labs.cs6650.messages import CustomerRequest, RequestType, RobotInfo
from viewstamp_labs.cs6650.stubs import ServerGone

SERVER = ("127.0.0.1", 7_000)


class ScriptedStub:
    """A connection to a factory that records what it is asked, and has a record of every second customer."""

    asked: list[CustomerRequest] = []  # noqa: RUF012  cleared for each test
    gone_after = 1 << 30

    @classmethod
    async def connect(cls, address: object) -> "ScriptedStub":
        assert address == SERVER
        return cls()

    async def order(self, request: CustomerRequest) -> RobotInfo:
        self._note(request)
        return RobotInfo(request.customer_id, request.order_number, request.request_type, 1, NodeId(0))

    async def read_record(self, request: CustomerRequest) -> CustomerRecord:
        self._note(request)
        if request.customer_id % 2:
            return CustomerRecord(NO_RECORD, NO_RECORD)
        return CustomerRecord(request.customer_id, 10 * request.customer_id)

    def _note(self, request: CustomerRequest) -> None:
        if len(self.asked) >= self.gone_after:
            raise ServerGone("it is gone")
        self.asked.append(request)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[CustomerRequest]:
    monkeypatch.setattr(client, "ClientStub", ScriptedStub)
    ScriptedStub.asked = []
    ScriptedStub.gone_after = 1 << 30
    return ScriptedStub.asked


async def crowd(customers: int, orders: int, request_type: int) -> tuple[Crowd, str]:
    printed: list[str] = []
    made = Crowd(ClientArguments(SERVER, customers, orders, request_type), printed.append)
    await made.run()
    return made, "".join(printed)


async def test_type_3_reads_each_id_from_0_to_orders_and_prints_those_that_exist(
    asked: list[CustomerRequest],
) -> None:
    _, printed = await crowd(1, 4, 3)
    assert printed == "0\t0\n2\t20\n4\t40\n"
    assert asked == [CustomerRequest(customer, -1, RequestType.READ) for customer in range(5)]


async def test_type_1_lets_each_customer_place_its_orders_numbered_from_0(
    asked: list[CustomerRequest],
) -> None:
    made, printed = await crowd(3, 4, 1)
    assert Counter(asked) == Counter(
        CustomerRequest(customer, number, RequestType.ORDER) for customer in range(3) for number in range(4)
    )
    for customer in range(3):
        assert [each.order_number for each in asked if each.customer_id == customer] == [0, 1, 2, 3]
    assert (made.latencies.count, printed) == (12, "")


async def test_type_2_lets_each_customer_read_its_own_record_once_for_each_order(
    asked: list[CustomerRequest],
) -> None:
    made, _ = await crowd(3, 4, 2)
    assert Counter(asked) == Counter(
        {CustomerRequest(customer, -1, RequestType.READ): 4 for customer in range(3)}
    )
    assert made.latencies.count == 12


@pytest.mark.parametrize("request_type", [1, 2])
async def test_customers_stop_when_the_server_is_gone_and_what_was_answered_counts(request_type: int) -> None:
    ScriptedStub.gone_after = 5
    made, _ = await crowd(3, 4, request_type)
    assert made.trouble == "it is gone"
    assert made.latencies.count == 5


async def test_time_to_connect_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0]

    async def slow(address: object) -> ScriptedStub:
        assert address == SERVER
        clock[0] += 1_000_000
        return ScriptedStub()

    monkeypatch.setattr(ScriptedStub, "connect", slow)
    monkeypatch.setattr(client, "monotonic_us", lambda: clock[0])
    made, _ = await crowd(2, 1, 1)
    assert made.elapsed_us == 0
