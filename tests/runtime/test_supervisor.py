"""What a supervisor is told (`runtime.supervisor`)."""

import asyncio
import socket
from pathlib import Path

import pytest

from viewstamp.runtime.supervisor import interval_s, notify, supervised


async def test_a_supervisor_hears_of_the_start_the_signs_and_the_stop(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        listening.setblocking(False)
        loop = asyncio.get_running_loop()
        heard: list[bytes] = []
        async with asyncio.timeout(30), supervised({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3000"}):
            while heard.count(b"WATCHDOG=1") < 2:
                heard.append(await loop.sock_recv(listening, 100))
        while True:
            try:
                heard.append(listening.recv(100))
            except BlockingIOError:
                break
    assert heard[0] == b"READY=1"
    assert heard[-1] == b"STOPPING=1"


async def test_nothing_happens_without_a_supervisor_or_when_it_does_not_listen(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "missing")}):
        async with supervised(environment):
            pass
    notify("@no such abstract socket", "READY=1")


@pytest.mark.parametrize(("text", "seconds"), [("3000000", 1.0), ("0", None), ("", None), ("x", None)])
def test_signs_come_three_times_as_often_as_the_limit(text: str, seconds: float | None) -> None:
    assert interval_s({"WATCHDOG_USEC": text}) == seconds
