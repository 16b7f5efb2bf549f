"""What the fixtures lend: a machine with a context, and a real cluster in this process."""

from types import TracebackType
from typing import Any, Generic, TypeVar

from viewstamp.core.ids import Instant
from viewstamp.machine.state_machine import StateMachine, running_at
from viewstamp.runtime.connecting import BlockingConnection
from viewstamp.runtime.local import BlockingLocalCluster, local_cluster
from viewstamp.runtime.system import monotonic_us

M = TypeVar("M", bound=StateMachine)
_CLIENT = 7


class LentMachine(Generic[M]):
    """A machine as an ordinary object, with a context whose time and place a test sets.

    `with lent.command(now=5): lent.machine.order("apple")` runs as a command; each takes the next place in
    the log, unless `seqno` says otherwise.
    """

    def __init__(self, machine: type[M]) -> None:
        self.machine = machine()
        self._seqno = 0
        self.now = 0
        """Log time in microseconds of the next command."""

    def command(self, *, now: int | None = None, client: int = _CLIENT, seqno: int | None = None) -> Any:
        """Lend the context of a command, in a `with` block."""
        self._seqno = self._seqno + 1 if seqno is None else seqno
        self.now = self.now if now is None else now
        return running_at(self.machine, seqno=self._seqno, now=self.now, client=client, session=client)

    def query(self) -> Any:
        """Lend the context of a query, in a `with` block."""
        return running_at(self.machine, seqno=self._seqno, now=self.now, reading=True)

    def restored(self) -> M:
        """Return what a snapshot makes of the machine: another instance with the same state."""
        fresh = type(self.machine)()
        taken = self.machine.snapshot()
        fresh.restore(taken if isinstance(taken, bytes) else b"".join(taken))
        return fresh


class _Shifted:
    """The monotonic clock, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def __call__(self) -> Instant:
        return Instant(monotonic_us() + self.ahead_us)


class RealCluster(Generic[M]):
    """Replicas over TCP on loopback, with what a test does to them; your class runs under the guard."""

    def __init__(self, machine: type[M], *, replicas: int = 3, guard: bool = True, **options: Any) -> None:
        """`options` are those of `viewstamp.local_cluster`."""
        self._clock = _Shifted()
        self._maker = local_cluster(machine, replicas, guard=guard, clock=self._clock, **options)
        self._cluster: BlockingLocalCluster[M] | None = None
        self._connections: list[BlockingConnection[M]] = []

    def __enter__(self) -> "RealCluster[M]":
        self._cluster = self._maker.__enter__()
        self._cluster.leader()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.__exit__(None, None, None)
        self._maker.__exit__(kind, error, trace)

    def __getattr__(self, name: str) -> Any:
        """Everything that a local cluster offers: kill, restart, partition, delay, heal, snapshot, leader."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._cluster, name)

    def client(self, **options: Any) -> M:
        """Return a client that is closed at the end of the test; its methods are those of the class."""
        assert self._cluster is not None
        connection = self._cluster.connect(**options)
        self._connections.append(connection)
        client: Any = connection.__enter__()
        return client  # type: ignore[no-any-return]

    def advance(self, seconds: float) -> None:
        """Let time pass for all replicas at once: sessions expire, log time goes on."""
        self._clock.ahead_us += int(seconds * 1_000_000)
