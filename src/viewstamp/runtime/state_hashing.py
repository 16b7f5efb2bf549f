"""Digests of the state at a bounded cost: at once where it is small, else in a forked copy of the process.

Rules of this file:

- one digest is made at a time; an agreed entry that comes meanwhile is left out;
- where digests take more than a hundredth of the time, only every second, fourth, ... agreed entry is hashed.
  The strides of all members are powers of two, so that they still meet at common entries.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Final

import xxhash

from viewstamp.replica.events import StateHashed
from viewstamp.runtime.config import SnapshotPlacement
from viewstamp.runtime.snapshotting import Fork, fork_and_stream
from viewstamp.runtime.system import Clock

LOG: Final = logging.getLogger("viewstamp.runtime")
SHARE: Final = 100
"""A digest may take one part in this of the time since the one before it."""
STRIDE_MAX: Final = 1 << 20
_WORD_BYTES: Final = 8


class RuntimeHasher:
    """Hashes the states of one replica (`divergence.StateHasher`). `start` it before its first digest."""

    def __init__(
        self,
        every: int,
        *,
        placement: SnapshotPlacement,
        inline_bytes_max: int,
        clock: Clock,
        fork: Fork = fork_and_stream,
    ) -> None:
        self._fork_process = fork
        self._every = every
        self._placement = placement
        self._inline_bytes_max = inline_bytes_max
        self._clock = clock
        self._feed: Callable[[StateHashed], None] | None = None
        self._executor: Executor | None = None
        self._running = False
        self._last_bytes: int | None = None
        """Of the state that was hashed last; None: not known yet."""
        self._began_us: int | None = None
        self._stride = 1

    def start(self, executor: Executor, feed: Callable[[StateHashed], None]) -> None:
        """Say where forked copies are waited for, and where digests go that come later."""
        self._executor, self._feed = executor, feed

    def due(self, seqno: int) -> bool:
        """Return whether the state is to be hashed at this agreed entry."""
        return not self._running and seqno // self._every % self._stride == 0

    def begin(self, seqno: int, pieces: Iterator[bytes]) -> int | None:
        """Return the digest of the pieces, or None: it comes later, or never."""
        if self._running:
            return None
        began = self._clock()
        try:
            if self._executor is not None and self._forks():
                self._fork(seqno, pieces)
                return None
            digest, self._last_bytes = _digest(pieces)
        except Exception as error:  # noqa: BLE001  the state holds what cannot be encoded
            LOG.warning(
                "the state at entry %d cannot be compared with that of other members: %s", seqno, error
            )
            return None
        finally:
            self._pace(began)
        return digest

    def _forks(self) -> bool:
        if self._placement == "inline" or not hasattr(os, "fork"):
            return False
        small = self._last_bytes is not None and self._last_bytes <= self._inline_bytes_max
        return self._placement == "fork" or not small

    def _fork(self, seqno: int, pieces: Iterator[bytes]) -> None:
        assert self._executor is not None
        parts = self._fork_process(_digest_piece(pieces), None)
        self._running = True
        future = asyncio.get_running_loop().run_in_executor(self._executor, lambda: b"".join(parts))
        future.add_done_callback(lambda done: self._on_digest(seqno, done))

    def _on_digest(self, seqno: int, done: "asyncio.Future[bytes]") -> None:
        self._running = False
        if done.cancelled() or self._feed is None:
            return
        error = done.exception()
        if error is not None:
            LOG.warning(
                "the state at entry %d cannot be compared with that of other members: %s", seqno, error
            )
            return
        answer = done.result()
        self._last_bytes = int.from_bytes(answer[_WORD_BYTES:], "big")
        self._feed(StateHashed(seqno, int.from_bytes(answer[:_WORD_BYTES], "big")))

    def _pace(self, began: int) -> None:
        """Choose the stride by what share of the time the last digest has held up the work."""
        took = self._clock() - began
        since = None if self._began_us is None else began - self._began_us
        self._began_us = began
        if since is None:
            return
        if took * SHARE > since:
            self._stride = min(self._stride * 2, STRIDE_MAX)
        elif took * SHARE * 4 < since:
            self._stride = max(self._stride // 2, 1)


def _digest(pieces: Iterator[bytes]) -> tuple[int, int]:
    """Return the digest of the pieces and their size."""
    digest, size = xxhash.xxh3_64(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return digest.intdigest(), size


def _digest_piece(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield digest and size as one piece: what a forked copy sends back."""
    for number in _digest(pieces):
        yield number.to_bytes(_WORD_BYTES, "big")
