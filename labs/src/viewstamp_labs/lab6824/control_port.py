"""The port beside a node's own on which the course's tests arm breakpoints and partitions: one line each way.

A request is `breakpoint N` or `partition N` (0 arms it, 1 heals); the answer is a number: 0 where it was
done, 1 where there is no such thing.
"""

import asyncio
from typing import Final

from viewstamp_labs.lab6824.breakpoints import Breakpoints

OK: Final = 0
ERR: Final = 1
LINE_BYTES_MAX: Final = 64
_PATIENCE_S: Final = 5.0


class ArmingPort:
    """Serves the test port of one node."""

    def __init__(self, breakpoints: Breakpoints) -> None:
        self._breakpoints = breakpoints

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request of one connection."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                line = await reader.readline()
                writer.write(f"{self.answer(line)}\n".encode())
                await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # the other side is gone, or speaks too long or too slowly
        finally:
            writer.close()

    def answer(self, line: bytes) -> int:
        """Carry out a request."""
        match line.decode("ascii", "replace").split():
            case ["breakpoint", number] if number.isdecimal() and self._breakpoints.break_at(int(number)):
                return OK
            case ["partition", "0"]:
                self._breakpoints.partition()
                return OK
            case ["partition", "1"]:
                self._breakpoints.heal()
                return OK
            case _:
                return ERR
