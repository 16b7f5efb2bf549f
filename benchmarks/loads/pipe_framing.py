"""Frames of the bare pipe: a length of four bytes, then the bytes."""

import asyncio
from abc import ABC, abstractmethod
from typing import cast

_LENGTH_BYTES = 4


def framed(data: bytes) -> bytes:
    """Return data as a frame."""
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


class Framed(asyncio.Protocol, ABC):
    """Hands over the whole frames of a turn together. A subclass says what is done with them."""

    def __init__(self) -> None:
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        frames, at = [], 0
        while len(data) - at >= _LENGTH_BYTES:
            end = at + _LENGTH_BYTES + int.from_bytes(data[at : at + _LENGTH_BYTES], "little")
            if end > len(data):
                break
            frames.append(data[at + _LENGTH_BYTES : end])
            at = end
        self._rest = data[at:]
        if frames:
            self.frames(frames)

    def send(self, data: bytes) -> None:
        """Send one frame."""
        assert self._transport is not None
        self._transport.write(framed(data))

    @abstractmethod
    def frames(self, frames: list[bytes]) -> None:
        """Take the frames that came in one turn: at least one."""
