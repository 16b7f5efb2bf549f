"""Snapshots beside the work: saved without holding up heartbeats, received without blocking the loop.

`Save` gives a view of the machine as it is now, to be drained before the next event or in a forked copy of
the process. Rules of this file:

- A state that is known to be small is encoded on the loop's thread; that is done in a few milliseconds.
- Any other is encoded by a forked child, which has the machine as it was and sends its pieces through a pipe;
  a thread of the parent writes them to the disk. The parent goes on at once; the copy costs memory only for
  the pages that either side changes meanwhile.
- Where there is no fork, everything is encoded on the loop's thread (and heartbeats wait).
- A thread writes, renames and syncs; one snapshot is saved and one is received at a time, each in order.
"""

import asyncio
import gc
import logging
import os
import signal
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from threading import Lock
from typing import Final, TypeAlias

from viewstamp.core.effects import Stage
from viewstamp.core.events import Captured, Staged
from viewstamp.core.snapshots import Snapshot
from viewstamp.replica.events import Save
from viewstamp.runtime.config import SnapshotPlacement
from viewstamp.runtime.metrics import Metrics
from viewstamp.storage.snapshots import SnapshotNotSaved, SnapshotStore

LOG: Final = logging.getLogger("viewstamp.runtime")

_LENGTH: Final = struct.Struct("<q")
_END: Final = -1
_FAILED: Final = -2
"""Instead of a length: the machine's state cannot be encoded; the rest of the stream says why."""
_REASON_CHARACTERS_MAX: Final = 1_000
_PIPE_READ_BYTES: Final = 1 << 20
_CHILD_FAILED: Final = 1
_CHILD_NICENESS: Final = 5
"""A snapshot gives way to the work where they share a core, but is not starved."""
_ENDED_EARLY: Final = "the forked copy that encodes the snapshot ended early"
_DESCRIPTORS_MAX: Final = 1 << 20


class Snapshotter:
    """Carries out `Save` and `Stage`. Results are fed back on the loop's thread, also after failures."""

    def __init__(
        self,
        store: SnapshotStore,
        *,
        placement: SnapshotPlacement,
        inline_bytes_max: int,
        executor: Executor,
        metrics: Metrics,
        feed: Callable[[Captured | Staged], None],
        failed: Callable[[BaseException], None],
        fork: "Fork | None" = None,
    ) -> None:
        self._store = store
        self._placement = placement
        self._inline_bytes_max = inline_bytes_max
        self._executor = executor
        """Of one thread: what is given to it happens in order."""
        self._metrics = metrics
        self._feed = feed
        self._failed = failed
        newest = store.newest
        self._last_bytes: int | None = None if newest is None else newest.meta.size_bytes
        """Size of the last snapshot, the best guess at the size of the next."""
        self._child = Child()
        self._fork = fork or fork_and_stream

    def save(self, save: Save) -> None:
        """Begin to save a snapshot. When this returns, the machine may change."""
        parts: Iterable[bytes]
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        if self._forks():
            self._metrics.snapshots_forked += 1
            parts = self._fork(save.parts, self._child)
        else:
            try:
                parts = list(save.parts)
            except Exception as error:  # noqa: BLE001  the machine's code may raise anything; see `_drain_in_child`
                self._not_encoded(save, _reason(error))
                return
        future = loop.run_in_executor(self._executor, self._save, save, parts)
        future.add_done_callback(lambda done: self._on_saved(save, loop.time() - began_s, done))

    def abandon(self) -> None:
        """Give up a snapshot that is being encoded: the node stops."""
        self._child.kill()

    def stage(self, stage: Stage) -> None:
        """Begin to write a piece of a snapshot that is being received."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, self._stage, stage)
        future.add_done_callback(self._on_staged)

    def _forks(self) -> bool:
        if self._placement == "inline" or not hasattr(os, "fork"):
            return False
        small = self._last_bytes is not None and self._last_bytes <= self._inline_bytes_max
        return self._placement == "fork" or not small

    def _save(self, save: Save, parts: Iterable[bytes]) -> Snapshot | None:
        try:
            return self._store.save(save.viewstamp, save.header, parts, save.versions)
        except SnapshotNotSaved as error:
            LOG.error("no snapshot at %s, the log is kept instead: %s", save.viewstamp, error)  # noqa: TRY400  one line
            return None

    def _not_encoded(self, save: Save, reason: str) -> None:
        """Do without this snapshot: the log is kept, and nothing is lost."""
        LOG.error("no snapshot at %s, the log is kept instead: %s", save.viewstamp, reason)
        self._metrics.snapshots_failed += 1
        asyncio.get_running_loop().call_soon(self._feed, Captured(save.token, None))

    def _on_saved(self, save: Save, took_s: float, done: "asyncio.Future[Snapshot | None]") -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._failed(error)
            return
        snapshot = done.result()
        if snapshot is None:
            self._metrics.snapshots_failed += 1
        else:
            self._metrics.snapshots += 1
            self._metrics.snapshot_time.observe(int(took_s * 1e6))
            self._last_bytes = snapshot.meta.size_bytes
        self._feed(Captured(save.token, snapshot))

    def _stage(self, stage: Stage) -> Staged | None:
        try:
            return self._store.stage(stage.token, stage.meta, stage.offset, stage.data)
        except SnapshotNotSaved as error:
            LOG.error("the snapshot at %s was not received: %s", stage.meta.viewstamp, error)  # noqa: TRY400  one line
            return Staged(stage.token, None)

    def _on_staged(self, done: "asyncio.Future[Staged | None]") -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._failed(error)
        elif (staged := done.result()) is not None:
            self._feed(staged)


Fork: TypeAlias = Callable[[Iterator[bytes], "Child | None"], Iterator[bytes]]
"""As `fork_and_stream`."""


class Child:
    """The forked copy that encodes now, if there is one, so that it can be ended before its time."""

    __slots__ = ("_lock", "_pid")

    def __init__(self) -> None:
        self._lock = Lock()
        self._pid: int | None = None

    def started(self, pid: int | None) -> None:
        """Record the child; None: it is about to be waited for, and its number may become another's."""
        with self._lock:
            self._pid = pid

    def kill(self) -> None:
        """End the child; what reads from it finds that it ended early."""
        with self._lock:
            if self._pid is not None:
                os.kill(self._pid, signal.SIGKILL)


def fork_and_stream(parts: Iterator[bytes], record: Child | None = None) -> Iterator[bytes]:
    """Fork; the child drains the parts, and the returned iterator yields them in this process.

    The iterator blocks: consume it in a thread. It raises `OSError` where the child did not come to its end.
    `record` is told of the child while it may be killed.
    """
    receiver, sender = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of any fork beside threads. The child below takes no lock and ends with _exit.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _drain_in_child(parts, sender)
    os.close(sender)
    record = record or Child()
    record.started(child)
    return _received_parts(receiver, child, record)


def _drain_in_child(parts: Iterator[bytes], sender: int) -> None:
    """Send all parts and exit. Runs in the child, on a copy of everything; nothing is ever cleaned up."""
    code = _CHILD_FAILED
    try:
        gc.disable()
        os.nice(_CHILD_NICENESS)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        # Without this the child would hold the port, the clients' connections and the directory's lock.
        os.closerange(3, sender)
        os.closerange(sender + 1, _open_descriptors_end())
        for part in parts:
            _send_all(sender, _LENGTH.pack(len(part)))
            _send_all(sender, part)
        _send_all(sender, _LENGTH.pack(_END))
        code = 0
    except Exception as error:  # noqa: BLE001  the machine's code may raise anything
        _send_all(sender, _LENGTH.pack(_FAILED) + _reason(error).encode(errors="replace"))
    finally:
        os._exit(code)


def _reason(error: Exception) -> str:
    text = f"the machine's state cannot be encoded: {type(error).__name__}: {error}"
    return text[:_REASON_CHARACTERS_MAX]


def _open_descriptors_end() -> int:
    return min(os.sysconf("SC_OPEN_MAX"), _DESCRIPTORS_MAX)


def _send_all(sender: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sender, view) :]


def _received_parts(receiver: int, child: int, record: Child) -> Iterator[bytes]:
    try:
        with open(receiver, "rb", buffering=_PIPE_READ_BYTES) as pipe:
            while True:
                head = pipe.read(_LENGTH.size)
                if len(head) < _LENGTH.size:
                    raise OSError(_ENDED_EARLY)
                length = _LENGTH.unpack(head)[0]
                if length == _END:
                    return
                if length == _FAILED:
                    raise OSError(pipe.read(4 * _REASON_CHARACTERS_MAX).decode(errors="replace"))
                part = pipe.read(length)
                if len(part) < length:
                    raise OSError(_ENDED_EARLY)
                yield part
    finally:
        record.started(None)
        os.waitpid(child, 0)
