"""The process of a simulated node, as the runtime asks for it (`runtime.process.Process`)."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any

from viewstamp.runtime.snapshotting import Child
from viewstamp.simruntime.calls import Disk, SimCalls
from viewstamp.simruntime.executors import SimExecutor
from viewstamp.simruntime.host import Host
from viewstamp.storage.files import FileSystem, OsFileSystem

_ENDED_EARLY = "the forked copy that encodes the snapshot ended early"


class SimProcess:
    """One life of a host."""

    def __init__(self, host: Host, disk: Disk, ended: Callable[[int], None]) -> None:
        """`ended` is called with the exit code when the process ends itself."""
        self._host = host
        self._disk = disk
        self._ended = ended
        self.files: FileSystem = OsFileSystem(SimCalls(host, disk))

    def executor(self, name: str) -> Executor:  # noqa: ARG002  as in `Process`
        """Return a thread of this life."""
        return SimExecutor(self._host, 1)

    def sample(self, name: str, every_s: float, look: Callable[[float], None]) -> Callable[[], None]:  # noqa: ARG002
        """Let the world call it again and again; return what ends that."""
        sampler = _Sampler(self._host, every_s, look)
        sampler.plan()
        return sampler.stop

    def fork(self, parts: Iterator[bytes], record: Child | None = None) -> Iterator[bytes]:  # noqa: ARG002
        """Encode the parts as they are now; a thread receives them one by one, perhaps not to the end."""
        host, disk = self._host, self._disk
        share = disk.calls.fork_failure
        fails = bool(share) and disk.rng.random() < share
        try:
            pieces: list[bytes] | Exception = list(parts)
        except Exception as error:  # noqa: BLE001  the machine's code may raise anything
            pieces = error
        if fails:
            disk.counts["forked copy ended early"] += 1
        return _received(host, disk, pieces, fails=fails)

    def end(self, code: int) -> Any:
        """End the process."""
        self._ended(code)


def _received(host: Host, disk: Disk, pieces: list[bytes] | Exception, *, fails: bool) -> Iterator[bytes]:
    """Yield the pieces to the thread that reads the pipe."""
    if isinstance(pieces, Exception):
        raise OSError(f"the machine's state cannot be encoded: {type(pieces).__name__}: {pieces}")
    last = disk.rng.randrange(len(pieces) + 1) if fails else None
    for number, piece in enumerate(pieces):
        if number == last:
            break
        host.wait(disk.rng.randint(1, disk.calls.call_max_us))
        yield piece
    if fails:
        raise OSError(_ENDED_EARLY)


class _Sampler:
    """A thread that looks again and again."""

    def __init__(self, host: Host, every_s: float, look: Callable[[float], None]) -> None:
        self._host = host
        self._life = host.life
        self._every_s = every_s
        self._look = look
        self._stopped = False

    def plan(self) -> None:
        """Look in a while."""
        self._host.world.after(int(self._every_s * 1e6), self._sample)

    def stop(self) -> None:
        """Look no longer."""
        self._stopped = True

    def _sample(self) -> None:
        if self._stopped or self._life != self._host.life:
            return
        if self._host.paused_until_us <= self._host.world.now_us:
            self._look(self._every_s)
        if self._life == self._host.life:
            self.plan()
