"""The programs as processes: what the assignment's own testing (2.7, 3, 4) would look at."""

import asyncio
import shlex
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.labs.cs6650.factories import applied, eventually, order, read, until
from tests.labs.cs6650.programs import ENVIRONMENT, LAUNCHERS, Programs, run
from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import LOOPBACK, free_ports
from viewstamp_labs.cs6650.arguments import ClientArguments
from viewstamp_labs.cs6650.client import Crowd
from viewstamp_labs.cs6650.messages import NOBODY, is_found
from viewstamp_labs.cs6650.stubs import ClientStub, ServerGone
from viewstamp_labs.cs6650.timing import parse_summary

pytestmark = pytest.mark.process

PAUSE_S = 0.005
"""Between two orders of a customer: logs stay short while servers start, and so do repairs."""


def scan(records: dict[int, int]) -> str:
    """Return what a client of type 3 prints for these records."""
    return "".join(f"{customer}\t{last}\n" for customer, last in sorted(records.items()))


async def scans(programs: Programs, highest: int) -> list[str]:
    """Run a client of type 3 against every server that there is."""
    results = await asyncio.gather(*(run(programs.client(node, 1, highest, 3)) for node in programs.book))
    assert [(code, complaints) for code, _, complaints in results] == [(0, "")] * len(results)
    return [output for _, output, _ in results]


async def test_orders_at_one_factory_and_then_at_another_are_read_at_all(tmp_path: Path) -> None:
    async with Programs(tmp_path) as programs:
        code, output, complaints = await run(programs.client(0, 8, 25, 1))
        assert (code, complaints) == (0, "")
        assert output.count("\n") == 1
        summary = parse_summary(output)
        assert 0 < summary["min latency"] <= summary["avg latency"] <= summary["max latency"]
        assert summary["throughput"] > 0
        assert [await programs.where(node) for node in range(3)] == [
            (0, 200, 200),
            (0, 200, 199),
            (0, 200, 199),
        ]
        await run(programs.client(1, 4, 10, 1))
        assert [await programs.where(node) for node in range(3)] == [
            (1, 240, 239),
            (1, 240, 240),
            (1, 240, 239),
        ]
        logs = [(await programs.account(node)).log for node in range(3)]
        assert logs[0] == logs[1] == logs[2]
        expected = [scan(applied(logs[0][:239])), scan(applied(logs[0])), scan(applied(logs[0][:239]))]
        assert await scans(programs, 128) == expected
        assert expected[1] == scan({customer: 9 if customer < 4 else 24 for customer in range(8)})
        assert programs.outputs() == {0: "", 1: "", 2: ""}


class Shop:
    """Customers who order without end at one server, and remember every robot that was shipped."""

    def __init__(self) -> None:
        self.shipped: set[tuple[int, int]] = set()
        self._next = 0

    async def order_until_gone(self, programs: Programs, node: int, customers: int) -> None:
        """Return when the server is gone."""
        await asyncio.gather(*(self._order(programs, node) for _ in range(customers)))

    async def order_some(self, programs: Programs, node: int, count: int) -> None:
        await self._order(programs, node, count)

    async def _order(self, programs: Programs, node: int, count: int | None = None) -> None:
        self._next += 1
        customer, number = self._next, 0
        stub = await ClientStub.connect(programs.address(node))
        try:
            while count is None or number < count:
                await stub.order(order(customer, number))
                self.shipped.add((customer, number))
                number += 1
                await asyncio.sleep(PAUSE_S)
        except ServerGone:
            assert count is None
        finally:
            stub.close()


async def until_record(programs: Programs, node: int, customer: int, last_order: int = 0) -> None:
    """Wait until a customer, who is of a client program's, has a record, and of so late an order."""
    stub = await ClientStub.connect(programs.address(node))

    async def has_one() -> bool:
        record = await stub.read_record(read(customer))
        return is_found(record) and record.last_order >= last_order

    await eventually(has_one)
    stub.close()


async def order_until_equal(programs: Programs, shop: Shop, node: int) -> None:
    """Let a factory find those that came back, bring them up, and record one order more with all of them."""

    async def equal() -> bool:
        await shop.order_some(programs, node, 1)
        return len({(await programs.where(each))[1] for each in programs.book}) == 1

    await eventually(equal)
    await shop.order_some(programs, node, 1)


async def shipped_grows(shop: Shop, by: int) -> None:
    target = len(shop.shipped) + by
    await until(lambda: len(shop.shipped) >= target, "robots are shipped")


@pytest.mark.slow
async def test_no_shipped_order_is_lost_when_servers_die_down_to_one_and_come_back(tmp_path: Path) -> None:
    shop = Shop()
    async with Programs(tmp_path) as programs:
        load = asyncio.create_task(shop.order_until_gone(programs, 0, 8))
        await shipped_grows(shop, 50)
        programs.kill(1)
        await shipped_grows(shop, 50)
        client = asyncio.create_task(run(programs.client(0, 4, 1_000_000, 1)))
        await until_record(programs, 0, 0)
        programs.kill(0)
        await load
        code, output, complaints = await client
        assert (code, output.count("\n"), complaints.count("\n")) == (0, 1, 1)
        assert "went away" in complaints
        load = asyncio.create_task(shop.order_until_gone(programs, 2, 8))
        await shipped_grows(shop, 50)
        for node in (1, 0):
            await programs.restart(node)
            await shipped_grows(shop, 100)
        programs.kill(1)
        await shipped_grows(shop, 50)
        await programs.restart(1)
        await shipped_grows(shop, 50)
        programs.kill(2)
        await load
        await shop.order_some(programs, 0, 3)
        await programs.restart(2)
        await order_until_equal(programs, shop, 0)
        accounts = [await programs.account(node) for node in range(3)]
        assert accounts[0].log == accounts[1].log == accounts[2].log
        assert shop.shipped <= {(op.arg1, op.arg2) for op in accounts[0].log}
        last = len(accounts[0].log)
        assert [await programs.where(node) for node in range(3)] == [
            (0, last, last),
            (0, last, last - 1),
            (0, last, last - 1),
        ]
        assert programs.outputs() == {0: "", 1: "", 2: ""}


@pytest.mark.parametrize("successor", [1, 2])
async def test_all_logs_end_equal_when_the_primary_dies_after_the_first_backup_has_an_entry(
    tmp_path: Path, successor: int
) -> None:
    """Backup 1 is stopped when entry 11 reaches its socket: so backup 2 is never sent it (hole 2 of 4.7)."""
    shop = Shop()
    async with Programs(tmp_path) as programs:
        await shop.order_some(programs, 0, 10)
        first = programs.servers[NodeId(1)]
        first.signal(signal.SIGSTOP)
        cut_off = asyncio.create_task(shop.order_until_gone(programs, 0, 1))
        await programs.reaches(0, (0, 11, 10))
        assert await programs.where(2) == (0, 10, 9)
        programs.kill(0)
        await cut_off
        first.signal(signal.SIGCONT)
        await programs.reaches(1, (NOBODY, 11, 10))
        assert await programs.where(2) == (NOBODY, 10, 9)
        await shop.order_some(programs, successor, 1)
        await programs.restart(0)
        await order_until_equal(programs, shop, successor)
        accounts = [await programs.account(node) for node in range(3)]
        assert accounts[0].log == accounts[1].log == accounts[2].log
        assert shop.shipped <= {(op.arg1, op.arg2) for op in accounts[0].log}
        assert programs.outputs() == {0: "", 1: "", 2: ""}


async def test_readers_of_a_dead_backup_end_and_others_go_on(tmp_path: Path) -> None:
    async with Programs(tmp_path, size=2) as programs:
        await run(programs.client(0, 4, 4, 1))
        readers = Crowd(ClientArguments(programs.address(1), 4, 10_000_000, 2), str)
        writers = Crowd(ClientArguments(programs.address(0), 2, 300, 1), str)
        reading, writing = asyncio.create_task(readers.run()), asyncio.create_task(writers.run())
        await until(lambda: min(readers.latencies.count, writers.latencies.count) > 50, "both are at it")
        programs.kill(1)
        await reading
        assert readers.trouble
        await writing
        assert not writers.trouble
        assert writers.latencies.count == 600
        assert await programs.where(0) == (0, 616, 616)


async def test_hundreds_of_customers_come_from_one_program(tmp_path: Path) -> None:
    async with Programs(tmp_path, size=1) as programs:
        code, output, complaints = await run(programs.client(0, 400, 3, 1))
        assert (code, output.count("\n"), complaints) == (0, 1, "")
        assert await programs.where(0) == (0, 1_200, 1_200)
        assert await scans(programs, 1_000) == [scan(dict.fromkeys(range(400), 2))]


async def test_a_server_starts_and_serves_when_a_peer_cannot_be_reached(tmp_path: Path) -> None:
    async with Programs(tmp_path, size=3) as programs:
        programs.kill(2)
        code, _, complaints = await run(programs.client(0, 1, 5, 1))
        assert (code, complaints) == (0, "")
        assert await programs.where(1) == (0, 5, 4)
        assert programs.servers[NodeId(0)].terminate() == 0
        assert programs.servers[NodeId(1)].terminate() == 0
        assert programs.outputs() == {0: "", 1: "", 2: ""}


@pytest.mark.usefixtures("interruptible")
async def test_an_interrupted_client_tells_how_far_it_came(tmp_path: Path) -> None:
    async with Programs(tmp_path, size=1) as programs:
        arguments = programs.client(0, 3, 1_000_000, 1)
        client = await asyncio.create_subprocess_exec(
            *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
        )
        await until_record(programs, 0, 2, last_order=1)  # so the order before has been answered
        client.send_signal(signal.SIGINT)
        output, complaints = await client.communicate()
        assert (client.returncode, complaints) == (130, b"")
        assert parse_summary(output.decode())["throughput"] > 0


async def test_a_client_ends_quietly_when_nobody_reads_its_output(tmp_path: Path) -> None:
    async with Programs(tmp_path, size=1) as programs:
        await run(programs.client(0, 2_000, 1, 1))
        pipe = f"{shlex.join(programs.client(0, 1, 2_000, 3))} | head -1"
        assert await run(["sh", "-c", pipe]) == (0, "0\t0\n", "")


async def test_each_program_says_in_one_line_what_is_wrong_with_its_arguments(tmp_path: Path) -> None:
    for program in ("server", "client", "audit"):
        link = tmp_path / program
        link.symlink_to(LAUNCHERS / program)
        code, output, complaints = await run([str(link), "1"])
        assert (code, output) == (2, "")
        assert complaints.startswith(f"{program}: ")
        assert complaints.count("\n") == 1


async def test_each_program_says_in_one_line_that_the_port_is_not_to_be_had() -> None:
    (port,) = free_ports(1)
    for arguments in (["client", LOOPBACK, str(port), "3", "1", "1"], ["audit", LOOPBACK, str(port)]):
        code, output, complaints = await run([str(LAUNCHERS / arguments[0]), *arguments[1:]])
        assert (code, output) == (1, "")
        assert "cannot" in complaints
        assert complaints.count("\n") == 1
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        holder.listen()
        code, output, complaints = await run(
            [str(LAUNCHERS / "server"), str(holder.getsockname()[1]), "0", "0"]
        )
        assert (code, output, complaints.count("\n")) == (1, "", 1)
        assert "cannot listen" in complaints
