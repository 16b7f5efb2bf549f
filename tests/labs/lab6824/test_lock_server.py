"""The lock server and the lock tester in one process: as with real ones, and more of it can be seen."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.runtime.fakes import until
from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.addresses import free_ports
from viewstamp_labs.lab6824 import __main__ as programs
from viewstamp_labs.lab6824 import lock_server, lock_tester
from viewstamp_labs.lab6824.exclusion import HistoryWriter, breaches, holds_of, read_history
from viewstamp_labs.lab6824.lock_server import LockServer, bind, make_server, report
from viewstamp_labs.lab6824.paxos_log import read_log


class Servers:
    """Lock servers of this process, by their ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[int, LockServer] = {}

    async def serve(self, master: int, node: int) -> LockServer:
        made = make_server(master, node, self.log(node), self.folder / f"paxos-{node}.d", bind(node))
        await made.start()
        self.running[node] = made
        return made

    async def kill(self, node: int) -> None:
        await self.running.pop(node).kill()

    def log(self, node: int) -> Path:
        return self.folder / f"paxos-{node}.log"

    def views(self, node: int) -> list[tuple[int, ...]]:
        return [view.members for view in read_log(self.log(node)).views]


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Servers]:
    servers = Servers(folder)
    try:
        yield servers
    finally:
        for node in list(servers.running):
            await servers.kill(node)


@pytest.fixture
def no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runner has the alarm for itself."""
    monkeypatch.setattr(lock_server.signal, "alarm", lambda seconds: 0)  # type: ignore[attr-defined]
    monkeypatch.setattr(lock_server.signal, "signal", lambda *_: None)  # type: ignore[attr-defined]


async def test_servers_log_every_view_when_one_joins_leaves_and_comes_back(tmp_path: Path) -> None:
    one, two, three = sorted(free_ports(3))
    async with serving(tmp_path) as servers:
        await servers.serve(one, one)
        await until(lambda: servers.views(one) == [(one,)])
        await servers.serve(one, two)
        await until(lambda: servers.views(two) == [(one,), (one, two)])
        await servers.serve(two, three)
        await until(lambda: servers.views(three)[2:] == [(one, two, three)])
        await servers.kill(three)
        await until(lambda: servers.views(one)[3:] == [(one, two)], timeout_s=20)
        await servers.serve(one, three)
        await until(lambda: servers.views(three)[3:] == [(one, two), (one, two, three)], timeout_s=20)
        await until(lambda: servers.views(one) == servers.views(two) == servers.views(three))


async def test_lock_tester_passes_when_a_server_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], no_alarm: None
) -> None:
    monkeypatch.setattr(lock_tester, "HOLD_S", 0.02)
    monkeypatch.setenv("LOCK_HISTORY", str(tmp_path / "history"))
    monkeypatch.setenv("LAB_PROGRAM", "./lock_tester")
    (port,) = free_ports(1)
    async with serving(tmp_path) as servers:
        await servers.serve(port, port)
        assert await asyncio.to_thread(lock_tester.main, [str(port)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "./lock_tester: passed all tests successfully"
    holds = holds_of(read_history(tmp_path / "history"))
    assert len(holds) == 4 + 6 + 60 + 20 + 60
    assert list(breaches(holds)) == []


async def test_server_says_what_it_waits_for_when_half_of_two_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = sorted(free_ports(2))
    with caplog.at_level(logging.INFO, "viewstamp_labs"):
        async with serving(tmp_path) as servers:
            reporter = asyncio.create_task(report(await servers.serve(one, one)))
            await servers.serve(one, two)
            await until(lambda: len(servers.views(two)) == 2)
            await servers.kill(two)
            await until(lambda: "waiting for a majority of view 2" in caplog.text, timeout_s=20)
            reporter.cancel()


async def test_cut_off_primary_is_out_and_in_again_when_the_cut_heals(tmp_path: Path) -> None:
    one, two, three = sorted(free_ports(3))
    async with serving(tmp_path) as servers:
        first = await servers.serve(one, one)
        for node in (two, three):
            await servers.serve(one, node)
            await until(lambda: len(servers.views(node)) == (2 if node == two else 3))  # noqa: B023
        first.silence(silenced=True)
        await until(lambda: servers.views(two)[3:] == [(two, three)], timeout_s=30)
        assert len(servers.views(one)) == 3
        first.breakpoints.heal()
        await until(lambda: servers.views(one)[3:] == [(two, three), (two, three, one)], timeout_s=30)


def test_port_is_refused_when_somebody_listens_there() -> None:
    (port,) = free_ports(1)
    with bind(port) as holder:
        holder.listen()
        with pytest.raises(ConfigurationError, match="Address already in use; end who has it"):
            bind(port)


@pytest.mark.parametrize("arguments", [["70000", "70000"], ["1", "x"]])
def test_server_is_refused_in_one_line_when_a_port_is_none(
    arguments: list[str], capsys: pytest.CaptureFixture[str], no_alarm: None
) -> None:
    assert lock_server.main(arguments) == 78
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("program", ["lock_server", "lock_tester", "rsm_tester"])
def test_usage_is_shown_when_a_program_is_started_without_arguments(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert programs.main([program]) == 1
    assert capsys.readouterr().err.startswith("usage: ")


def test_usage_is_shown_when_there_is_no_such_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert programs.main(["other"]) == 1
    assert programs.main(["rsm_tests", "x"]) == 1
    assert capsys.readouterr().err.count("usage: ") == 2


def test_history_is_closed_when_a_tester_is_done(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "history")
    writer.close()
    assert read_history(tmp_path / "history") == []
