import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest

from viewstamp.protocols.viewstamped.state import Point
from viewstamp_labs.lab6824 import rsm_tester
from viewstamp_labs.lab6824.breakpoints import Breakpoints
from viewstamp_labs.lab6824.control_port import LINE_BYTES_MAX, ArmingPort


def never(number: int) -> NoReturn:
    raise AssertionError(number)


@asynccontextmanager
async def serving(silences: list[bool] | None = None) -> AsyncIterator[tuple[int, Breakpoints]]:
    breakpoints = Breakpoints((silences if silences is not None else []).append, never)
    port = ArmingPort(breakpoints)
    server = await asyncio.start_server(port.serve, "127.0.0.1", 0, limit=LINE_BYTES_MAX)
    async with server:
        yield server.sockets[0].getsockname()[1], breakpoints


async def run(*arguments: str) -> int:
    return await asyncio.to_thread(rsm_tester.main, list(arguments))


async def test_breakpoint_is_armed_when_the_program_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as (port, breakpoints):
        assert await run(str(port), "breakpoint", "3") == 0
        assert breakpoints.armed(Point.PREPARED)
    assert capsys.readouterr().out == "breakpoint 3 returned 0\n"


async def test_answer_is_an_error_when_there_is_no_such_breakpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with serving() as (port, _):
        assert await run(f"127.0.0.1:{port}", "breakpoint", "9") == 0
    assert capsys.readouterr().out == "breakpoint 9 returned 1\n"


async def test_partition_is_armed_and_healed_when_the_program_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    silences: list[bool] = []
    async with serving(silences) as (port, breakpoints):
        assert await run(str(port), "partition", "0") == 0
        assert breakpoints.armed(Point.FIRST_BACKUP_HAS_IT)
        assert await run(str(port), "partition", "1") == 0
    assert silences == [False]
    assert capsys.readouterr().out == "net_repair returned 0\n" * 2


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"breakpoint\n",
        b"breakpoint x\n",
        b"breakpoint \xb2\n",
        b"partition 2\n",
        b"\xff\xfe\n",
        b"a b c\n",
    ],
)
def test_request_is_answered_with_an_error_when_it_is_none(line: bytes) -> None:
    silences: list[bool] = []
    breakpoints = Breakpoints(silences.append, never)
    assert ArmingPort(breakpoints).answer(line) == 1
    assert not any(breakpoints.armed(point) for point in Point)


async def test_connection_is_closed_when_a_line_does_not_end() -> None:
    async with serving() as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 10 * LINE_BYTES_MAX)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("1",),
        ("1", "breakpoint"),
        ("1", "breakpoint", "1", "2"),
        ("1", "other", "1"),
        ("x", "breakpoint", "1"),
    ],
)
def test_usage_is_shown_when_the_arguments_are_wrong(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert rsm_tester.main(list(arguments)) == 1
    assert capsys.readouterr().err.startswith("usage: rsm_tester")


async def test_program_says_so_in_one_line_when_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as (port, _):
        pass
    assert await run(str(port), "breakpoint", "1") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "nothing was armed" in said
