"""A mounted file system: requests of the kernel in, replies out, on one event loop.

Rules of this file:

- every request is answered once, unless the kernel wants no answer;
- the kernel is told to forget from a thread of its own: no handler of a request waits for that;
- a mount that ends flushes first, and unmounts in every case.
"""

import asyncio
import errno
import logging
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from viewstamp.filesystem import device, kernel, translation
from viewstamp.filesystem.driver import FileDriver
from viewstamp.filesystem.kernel import Request
from viewstamp.runtime.system import monotonic_us, wall_ns
from viewstamp.services.extents.model import ROOT, Entry
from viewstamp.services.extents.operations import (
    FileFailure,
    GetAttributes,
    ListNames,
    Operation,
    Result,
    Ticket,
)

LOG: Final = logging.getLogger("viewstamp.filesystem")

_REQUESTS_PER_TURN: Final = 16
_WATCH_S: Final = 5.0
_STUCK_US: Final = 10_000_000
"""A kernel that has not forgotten an inode after this time is named in the log."""


class Mount:
    """One mountpoint of a file system, served by a driver that was started."""

    def __init__(self, driver: FileDriver, mountpoint: Path, *, name: str, read_only: bool = False) -> None:
        self._driver = driver
        self._mountpoint = mountpoint
        self._name = name
        self._read_only = read_only
        self._descriptor = -1
        self._buffer = bytearray(kernel.BUFFER_BYTES)
        self._tickets: dict[int, Ticket] = {}
        """Of each request under way, by its number, the operation."""
        self._listings: dict[int, list[Entry]] = {}
        """What an open directory held when it was read from its beginning."""
        self._last_directory = 0
        self._ended = asyncio.Event()
        self._orders: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._since_us: int | None = None
        """Since when the thread has been at its present order."""
        self._watchdog: asyncio.TimerHandle | None = None
        self.requests = 0

    async def start(self) -> None:
        """Mount.

        Raises:
            ConfigurationError: it cannot be mounted.
            FileFailure: the cluster has no file system.
        """
        await self._driver.do(GetAttributes(ROOT), wall_ns())
        loop = asyncio.get_running_loop()
        self._descriptor = device.mount(self._mountpoint, name=self._name, read_only=self._read_only)
        self._driver.forget = lambda inode, number: self._orders.put((inode, number))
        threading.Thread(target=self._forget_all, args=(loop,), name="invalidate", daemon=True).start()
        loop.add_reader(self._descriptor, self._read)
        self._watch()

    async def wait(self) -> None:
        """Wait until it was unmounted by somebody."""
        await self._ended.wait()

    async def close(self) -> tuple[int, ...]:
        """Flush, give everything back, and unmount; return the inodes that may have lost something."""
        if self._descriptor < 0:
            return await self._driver.close()
        device.unmount(self._mountpoint)
        unflushed = await self._driver.close()
        self._orders.put(None)
        if self._watchdog is not None:
            self._watchdog.cancel()
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        return unflushed

    # Requests

    def _read(self) -> None:
        for _ in range(_REQUESTS_PER_TURN):
            try:
                count = os.readv(self._descriptor, [self._buffer])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in {errno.ENOENT, errno.EINTR}:
                    continue  # the request was taken back
                self._stop()
                return
            self._take(kernel.decode(bytes(memoryview(self._buffer)[:count])))

    def _stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._ended.set()

    def _take(self, request: Request) -> None:
        self.requests += 1
        match request.opcode:
            case kernel.INIT:
                self._write(kernel.welcome(request))
            case kernel.FORGET | kernel.BATCH_FORGET:
                return  # an inode number is all that there is to know
            case kernel.INTERRUPT:
                ticket = self._tickets.get(request.numbers()[0])
                if ticket is not None:
                    self._driver.cancel(ticket)
            case kernel.OPENDIR:
                self._last_directory += 1
                self._write(kernel.reply(request.unique, kernel.opened(self._last_directory)))
            case kernel.READDIR:
                self._read_directory(request)
            case kernel.RELEASEDIR:
                self._listings.pop(translation.released_handle(request), None)
                self._write(kernel.reply(request.unique))
            case kernel.FSYNCDIR:
                self._write(kernel.reply(request.unique))  # names are at the service at once
            case kernel.DESTROY:
                self._write(kernel.reply(request.unique))
            case _:
                self._operate(request)

    def _operate(self, request: Request) -> None:
        understood = translation.understood(request, wall_ns())
        if isinstance(understood, int):
            self._write(kernel.reply(request.unique, error=understood))
            return
        operation, encode = understood
        self._begin(request, operation, encode)

    def _begin(self, request: Request, operation: Operation, encode: Callable[[Result, int], bytes]) -> None:
        ended = False

        def tell(result: Result | FileFailure, valid_us: int) -> None:
            nonlocal ended
            ended = True
            self._tickets.pop(request.unique, None)
            if isinstance(result, FileFailure):
                self._write(kernel.reply(request.unique, error=result.errno))
            else:
                self._write(kernel.reply(request.unique, encode(result, valid_us)))

        ticket = self._driver.request(operation, wall_ns(), tell)
        if not ended:
            self._tickets[request.unique] = ticket

    def _read_directory(self, request: Request) -> None:
        handle, offset, size = request.numbers()[:3]
        known = self._listings.get(handle)
        if known is not None and offset:
            self._write(kernel.reply(request.unique, translation.listing(known, offset, size)))
            return

        def encode(result: Result, _: int) -> bytes:
            assert isinstance(result, list)
            self._listings[handle] = result
            return translation.listing(result, offset, size)

        self._begin(request, ListNames(request.node), encode)

    def _write(self, message: bytes) -> None:
        if self._descriptor < 0:
            return
        try:
            os.write(self._descriptor, message)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENODEV, errno.ENOTCONN}:
                raise
            # The caller is gone, or the file system was unmounted.

    # Letting the kernel forget

    def _forget_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Carry out orders, one after the other, in a thread."""
        while (order := self._orders.get()) is not None:
            inode, number = order
            self._since_us = monotonic_us()
            with suppress(OSError):  # the kernel does not know this inode, or nothing is mounted there now
                os.write(self._descriptor, kernel.forget_attributes(inode))
            self._since_us = None
            try:
                loop.call_soon_threadsafe(self._driver.forgotten, number)
            except RuntimeError:
                return  # the loop is closed

    def _watch(self) -> None:
        """Say so when the kernel does not forget: a lock of another client waits for it."""
        loop = asyncio.get_running_loop()
        self._watchdog = loop.call_later(_WATCH_S, self._watch)
        since = self._since_us
        if since is not None and monotonic_us() - since >= _STUCK_US:
            LOG.warning(
                "the kernel has not forgotten an inode for %d s", (monotonic_us() - since) // 1_000_000
            )
