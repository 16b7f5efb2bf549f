"""The three programs as processes of their own, started by their launchers."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.labs.cs6650.factories import WITHIN_S, address_book, eventually
from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import LOOPBACK, Address
from viewstamp_labs.cs6650.audit import read_account
from viewstamp_labs.cs6650.auditor import Account
from viewstamp_labs.cs6650.server import HOST_VARIABLE

LAUNCHERS = Path(__file__).parents[3] / "labs" / "cs6650"
ENVIRONMENT = {**os.environ, HOST_VARIABLE: LOOPBACK, "VIEWSTAMP_PYTHON": sys.executable}


class ServerProgram:
    """A factory as a process. What it prints, over all its lives, is in `output`."""

    def __init__(self, arguments: list[str], output: Path) -> None:
        self._arguments = [str(LAUNCHERS / "server"), *arguments]
        self.output = output
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self._arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=ENVIRONMENT
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(WITHIN_S)
            self.process = None

    def terminate(self) -> int:
        """Ask it to end, and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(WITHIN_S)
        self.process = None
        return code


class Programs:
    """The server programs of some factories, with the assignment's command lines."""

    def __init__(self, folder: Path, size: int = 3) -> None:
        self.book = address_book(size)
        self.servers = {
            node: ServerProgram(self._arguments(node), folder / f"server{node}.txt") for node in self.book
        }

    def _arguments(self, node: NodeId) -> list[str]:
        peers = [
            word
            for peer, (host, port) in self.book.items()
            if peer != node
            for word in (str(peer), host, str(port))
        ]
        return [str(self.book[node][1]), str(node), str(len(self.book) - 1), *peers]

    async def __aenter__(self) -> Self:
        for server in self.servers.values():
            server.start()
        try:
            for node in self.book:
                await self.ready(node)
        except BaseException:
            self.kill_all()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill_all()

    def kill_all(self) -> None:
        for server in self.servers.values():
            server.kill()

    def address(self, node: int) -> Address:
        return self.book[NodeId(node)]

    def kill(self, node: int) -> None:
        self.servers[NodeId(node)].kill()

    async def restart(self, node: int) -> None:
        """Start a killed server with the same command line, and wait until it listens."""
        self.servers[NodeId(node)].start()
        await self.ready(node)

    async def ready(self, node: int) -> None:
        """Wait until the server listens."""

        async def listens() -> bool:
            try:
                await read_account(self.address(node))
            except OSError:
                return False
            return True

        await eventually(listens)

    async def account(self, node: int) -> Account:
        return await read_account(self.address(node))

    async def where(self, node: int) -> tuple[int, int, int]:
        """Return (primary_id, last_index, committed_index)."""
        positions = (await self.account(node)).positions
        return positions.primary_id, positions.last_index, positions.committed_index

    async def reaches(self, node: int, where: tuple[int, int, int]) -> None:
        """Wait until the server is there."""

        async def is_there() -> bool:
            return await self.where(node) == where

        await eventually(is_there)

    def client(self, node: int, customers: int, orders: int, request_type: int) -> list[str]:
        """Return the command line of a client program."""
        host, port = self.address(node)
        return [str(LAUNCHERS / "client"), host, str(port), str(customers), str(orders), str(request_type)]

    def outputs(self) -> dict[int, str]:
        """Return what each server has printed in all its lives."""
        return {node: server.output.read_text() for node, server in self.servers.items()}


async def run(arguments: list[str]) -> tuple[int, str, str]:
    """Run a program to its end and return (exit code, standard output, standard error)."""
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    try:
        async with asyncio.timeout(2 * WITHIN_S):
            output, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(), complaints.decode()
