"""Factories with real connections on one loop: positions, reads anywhere, failures and repairs."""

import asyncio
import socket

import pytest

from tests.labs.cs6650.factories import Factories, address_book, applied, arguments_of, order, read, until
from viewstamp.core.ids import Instant, NodeId
from viewstamp.protocols.primary_backup.options import CourseOptions
from viewstamp.runtime.addresses import LOOPBACK
from viewstamp.services.records import NO_RECORD, CustomerRecord
from viewstamp_labs.cs6650 import peer_connections
from viewstamp_labs.cs6650.messages import NOBODY, RobotInfo, unpack_operation
from viewstamp_labs.cs6650.server import FactoryServer
from viewstamp_labs.cs6650.stubs import ServerGone


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for dials however busy this machine is: who is live must not depend on it."""
    monkeypatch.setattr(peer_connections, "PATIENCE_S", 10.0)


async def test_an_order_is_made_recorded_and_shipped_when_a_factory_is_alone() -> None:
    async with Factories(1) as factories:
        stub = await factories.customer(0)
        robot = await stub.order(order(7, 0))
        assert (robot.customer_id, robot.order_number, robot.request_type) == (7, 0, 1)
        assert robot.admin_id == 0
        assert robot.engineer_id >= 1
        assert await stub.read_record(read(7)) == CustomerRecord(7, 0)
        assert await stub.read_record(read(8)) == CustomerRecord(NO_RECORD, NO_RECORD)
        assert factories.where(0) == (0, 1, 1)
        stub.close()


async def test_nothing_is_connected_before_the_first_order() -> None:
    async with Factories(3) as factories:
        stub = await factories.customer(0)
        await stub.read_record(read(1))
        assert [factories.where(node) for node in range(3)] == [(NOBODY, 0, 0)] * 3
        to_others = factories.servers[0].admin.lines.values()
        assert all(line.may_be_dialled for line in to_others), "none was tried, nor is being tried"
        await stub.order(order(1, 0))
        assert all(line.is_up for line in to_others)
        assert not any(line.is_up for line in factories.servers[1].admin.lines.values())
        stub.close()


async def test_positions_are_those_of_section_2_6_when_the_production_factory_is_switched() -> None:
    async with Factories(3) as factories:
        await factories.orders(0, 7, range(10))
        assert [factories.where(node) for node in range(3)] == [(0, 10, 10), (0, 10, 9), (0, 10, 9)]
        assert factories.records(0) == {7: 9}
        assert factories.records(1) == factories.records(2) == {7: 8}
        await factories.orders(1, 8, range(1))
        assert [factories.where(node) for node in range(3)] == [(1, 11, 10), (1, 11, 11), (1, 11, 10)]
        assert factories.records(1) == {7: 9, 8: 0}
        assert factories.records(0) == factories.records(2) == {7: 9}
        assert factories.log(0) == factories.log(1) == factories.log(2)


async def test_orders_of_many_customers_keep_their_order_and_one_admin_records_them() -> None:
    async with Factories(3) as factories:
        await asyncio.gather(*(factories.orders(2, customer, range(20)) for customer in range(40)))
        assert factories.where(2) == (2, 800, 800)
        log = [unpack_operation(entry) for entry in factories.log(2)]
        for customer in range(40):
            assert [op.arg2 for op in log if op.arg1 == customer] == list(range(20))
        assert factories.records(0) == factories.records(1) == applied(log[:-1])


async def test_records_are_read_at_every_factory_while_orders_come() -> None:
    async with Factories(3) as factories:
        ordering = asyncio.create_task(factories.orders(0, 5, range(200)))
        stubs = [await factories.customer(node) for node in range(3)]
        seen: list[list[int]] = [[], [], []]
        while not ordering.done():
            for node, stub in enumerate(stubs):
                record = await stub.read_record(read(5))
                seen[node].append(record.last_order)
        await ordering
        for orders in seen:
            assert orders == sorted(orders)
            assert orders[-1] > NO_RECORD
        for stub in stubs:
            stub.close()


async def test_requests_are_answered_in_order_when_a_customer_does_not_wait() -> None:
    async with Factories(2) as factories:
        stub = await factories.customer(0)
        answers = 300
        sending = [order(3, number) for number in range(answers)]
        data = b"".join(bytes_of(3, request.order_number) for request in sending)
        stub.write(data)
        for number in range(answers):
            robot = await stub.read(20)
            assert robot[4:8] == number.to_bytes(4, "big")
        stub.close()


def bytes_of(customer: int, number: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in (customer, number, 1))


async def test_an_order_is_recorded_when_a_backup_has_died() -> None:
    async with Factories(3) as factories:
        await factories.orders(0, 1, range(3))
        await factories.stop(1)
        await factories.orders(0, 1, range(3, 6))
        assert factories.where(0) == (0, 6, 6)
        assert factories.where(2) == (0, 6, 5)


async def test_a_backup_knows_no_primary_when_the_primary_has_died() -> None:
    async with Factories(3) as factories:
        await factories.orders(0, 1, range(3))
        await factories.stop(0)
        await until(lambda: factories.positions(1).primary_id == NOBODY, "factory 1 noticed")
        await until(lambda: factories.positions(2).primary_id == NOBODY, "factory 2 noticed")
        await factories.orders(2, 1, range(3, 5))
        assert factories.where(2) == (2, 5, 5)
        assert factories.where(1) == (2, 5, 4)


async def test_the_primary_is_kept_when_a_former_primary_dies() -> None:
    async with Factories(3) as factories:
        await factories.orders(0, 1, range(3))
        await factories.orders(1, 1, range(3, 6))
        await factories.stop(0)
        await factories.orders(1, 1, range(6, 7))
        assert factories.where(2) == (1, 7, 6)
        assert factories.where(1) == (1, 7, 7)


async def test_a_backup_stays_live_when_it_only_hangs_up_its_line_from_when_it_produced() -> None:
    async with Factories(3) as factories:
        await factories.orders(0, 1, range(3))
        await factories.orders(1, 1, range(3, 6))
        producing = factories.servers[1]
        before = len(producing.visitors)
        factories.servers[0].admin.close()
        await until(lambda: len(producing.visitors) < before, "factory 1 has noticed")
        assert producing.factory.core.live == (0, 2)
        await factories.orders(1, 1, range(6, 7))
        assert factories.where(0) == (1, 7, 6)


async def test_a_repaired_factory_gets_everything_with_the_next_order() -> None:
    async with Factories(3) as factories:
        await factories.orders(0, 1, range(100))
        await factories.stop(2)
        await factories.orders(0, 1, range(100, 120))
        await factories.start(2)
        assert factories.where(2) == (NOBODY, 0, 0)
        await until(lambda: factories.servers[0].admin.lines[NodeId(2)].may_be_dialled, "time has passed")
        await factories.orders(0, 1, range(120, 121))
        assert factories.where(2) == (0, 121, 120)
        assert factories.log(2) == factories.log(0)


async def test_all_backups_come_back_when_all_were_killed() -> None:
    async with Factories(4) as factories:
        await factories.orders(3, 1, range(5))
        for node in range(3):
            await factories.stop(node)
        await factories.orders(3, 1, range(5, 10))
        assert factories.where(3) == (3, 10, 10)
        for node in range(3):
            await factories.start(node)
        to_others = factories.servers[3].admin.lines.values()
        await until(lambda: all(line.may_be_dialled for line in to_others), "time has passed")
        await factories.orders(3, 2, range(1))
        assert [factories.where(node) for node in range(3)] == [(3, 11, 10)] * 3
        assert all(factories.log(node) == factories.log(3) for node in range(3))


@pytest.mark.parametrize("takeovers", [(0,), (1, 2, 1, 2)])
async def test_nothing_is_lost_when_an_empty_server_gets_an_order_before_its_repair(
    takeovers: tuple[int, ...],
) -> None:
    async with Factories(3) as factories:
        for turn, node in enumerate(takeovers):
            await factories.orders(node, turn, range(60))
        await factories.stop(0)
        await factories.start(0)
        await factories.orders(0, 9, range(2))
        count = 60 * len(takeovers) + 2
        assert [factories.where(node) for node in range(3)] == [
            (0, count, count),
            *[(0, count, count - 1)] * 2,
        ]
        assert factories.log(0) == factories.log(1) == factories.log(2)
        assert factories.records(0) == dict.fromkeys(range(len(takeovers)), 59) | {9: 1}


async def test_the_customer_learns_of_it_when_the_factory_dies() -> None:
    async with Factories(1) as factories:
        stub = await factories.customer(0)
        await stub.order(order(1, 0))
        await factories.stop(0)
        with pytest.raises(ServerGone):
            await stub.order(order(1, 1))


async def test_an_order_waits_only_a_moment_when_a_machine_does_not_even_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer_connections, "PATIENCE_S", 0.05)
    with socket.socket() as deaf:
        deaf.bind((LOOPBACK, 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        async with Factories(2, running=()) as factories:
            factories.book[NodeId(1)] = deaf.getsockname()
            await factories.start(0)
            begun = asyncio.get_running_loop().time()
            await factories.orders(0, 1, range(5))
            assert asyncio.get_running_loop().time() - begun < peer_connections.DIAL_TIMEOUT_S
            assert factories.where(0) == (0, 5, 5)
        for filler in fillers:
            filler.close()


async def test_a_backup_that_does_not_answer_is_given_up_after_a_while() -> None:
    silent = await asyncio.get_running_loop().create_server(asyncio.Protocol, LOOPBACK, 0)
    async with silent, Factories(3, running=(), options=CourseOptions(reply_timeout_ms=200)) as factories:
        factories.book[NodeId(1)] = silent.sockets[0].getsockname()
        await factories.start(0)
        await factories.start(2)
        await factories.orders(0, 1, range(20))
        assert factories.where(0) == (0, 20, 20)
        assert factories.where(2) == (0, 20, 19)


async def test_an_order_is_not_acknowledged_when_another_factory_took_its_place() -> None:
    """Two primaries at once are against the rules (2.2), but nobody may be told what is not so."""

    silent = await asyncio.get_running_loop().create_server(asyncio.Protocol, LOOPBACK, 0)
    async with silent, Factories(3, running=()) as factories:
        real = factories.book[NodeId(2)]
        factories.book[NodeId(2)] = silent.sockets[0].getsockname()
        await factories.start(0)
        factories.book[NodeId(2)] = real
        await factories.start(1)
        await factories.start(2)
        stub = await factories.customer(0)
        waiting = asyncio.create_task(stub.order(order(1, 0)))
        await until(lambda: factories.positions(0).primary_id == 0, "the order is under way")
        await factories.orders(1, 2, range(2))
        with pytest.raises(ServerGone):
            await waiting
        assert factories.log(0) == factories.log(1) == factories.log(2)


async def test_a_robot_tells_who_made_and_recorded_it() -> None:
    async with Factories(2) as factories:
        first, second = await factories.customer(1), await factories.customer(1)
        robots = [
            await first.order(order(1, 0)),
            await second.order(order(2, 0)),
            await first.order(order(1, 1)),
        ]
        assert [robot.admin_id for robot in robots] == [1, 1, 1]
        assert robots[0].engineer_id == robots[2].engineer_id != robots[1].engineer_id
        assert robots[2] == RobotInfo(1, 1, 1, robots[0].engineer_id, 1)
        first.close()
        second.close()


async def test_an_order_is_recorded_by_forty_factories() -> None:
    """Any number of peers (2.1.1): until now 31 were the most."""
    async with Factories(40) as factories:
        await factories.orders(7, 1, range(2))
        assert factories.where(7) == (7, 2, 2)
        assert {factories.where(node) for node in range(40) if node != 7} == {(7, 2, 1)}


async def test_every_interface_listens_unless_an_address_is_given() -> None:
    for host, expected in ((None, {"0.0.0.0", "::"}), (LOOPBACK, {LOOPBACK})):
        server = FactoryServer(arguments_of(address_book(1), NodeId(0)))
        await server.start(host)
        assert server.listens_at <= expected
        await server.stop()


async def test_a_dead_factory_is_dialled_once_in_a_tenth_of_a_second_however_many_orders_come() -> None:
    now_us = [0]
    async with Factories(2, running=[0], clock=lambda: Instant(now_us[0])) as factories:
        line = factories.servers[0].admin.lines[NodeId(1)]
        await factories.orders(0, 1, range(3))
        assert not line.may_be_dialled, "it was tried just now"
        now_us[0] += 99_999
        assert not line.may_be_dialled
        now_us[0] += 1
        assert line.may_be_dialled
