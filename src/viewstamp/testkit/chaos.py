"""Disasters for real servers: kills, pauses, cuts, slow disks, clocks that jump; and the judgement.

The servers are those of a cluster file that says `chaos = true`, each started here, on this machine. Rules of
this file: what was done is undone, whatever happens, and in bounded time; an order to a server ends by itself
even if this program is killed; no fault takes more than a minority at a time.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final, Literal, Self, get_args

from viewstamp.checker.history import Operation, Recorder
from viewstamp.checker.linearizable import Verdict, check
from viewstamp.checker.store_model import VersionedStore
from viewstamp.core.errors import CommandFailed, ConfigurationError, NotExecuted, OutcomeUnknown
from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import LOOPBACK
from viewstamp.runtime.chaos_orders import Orders, write_orders
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.system import monotonic_us
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.processes import SETTINGS, ServerProcess

Fault = Literal["kill", "pause", "partition", "slow-disk", "clock"]
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
_CALM_S: Final = (0.5, 2.0)
_FAULT_S: Final = (0.5, 4.0)
_CLIENTS: Final = 4
_KEYS: Final = 3
_CALL_S: Final = 10.0
_UNKNOWN_MAX: Final = 200
"""After this number of unknown outcomes clients only read: each one makes the judgement harder."""
_THINK_S: Final = 0.02
_HEALED_S: Final = 60.0
"""Within this the cluster must answer after the last fault."""


class NotHealed(AssertionError):
    """The cluster did not answer although every fault had ended."""


class Chaos:
    """The servers of one cluster, and what is done to them. Leave the `with` block, and all have ended."""

    def __init__(
        self,
        cluster_file: Path,
        cluster: ClusterConfig,
        folder: Path,
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        """Prepare; nothing is started.

        Raises:
            ConfigurationError: the cluster does not allow chaos, or is not on this machine.
        """
        if not cluster.chaos:
            raise ConfigurationError(f"{cluster_file} does not say `chaos = true`; nothing was started")
        strangers = [member.id for member in cluster.members if member.host != LOOPBACK]
        if strangers:
            raise ConfigurationError(f"member {strangers[0]} is not on {LOOPBACK}; nothing was started")
        (folder / "settings.toml").write_text(SETTINGS, encoding="utf-8")
        self._config = cluster
        self._folder = folder
        self._rng = Random(seed)  # noqa: S311  which faults, not which secrets
        self._say = say
        self._number = 0
        self.counts: Counter[str] = Counter()
        """How often each fault was done."""
        self.recorder = Recorder()
        self._unknown = 0
        self._stopping = False
        place = ("--cluster", str(cluster_file))
        settings = ("--settings", str(folder / "settings.toml"))
        self._servers = {
            node: ServerProcess(folder, node, (*settings, "--chaos", str(self._orders_of(node))), place=place)
            for node in cluster.node_ids
        }

    def _orders_of(self, node: NodeId) -> Path:
        return self._folder / f"orders{node}.json"

    async def __aenter__(self) -> Self:
        try:
            for server in self._servers.values():
                server.start()
            for server in self._servers.values():
                await asyncio.to_thread(server.wait_ready)
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        for server in self._servers.values():
            server.signal(signal.SIGCONT)
            server.close()

    # The play

    async def play(self, seconds: float, faults: Sequence[Fault]) -> list[Operation]:
        """Disturb the cluster for these seconds under load, heal it, and return what clients were told.

        Raises:
            NotHealed: it did not answer within a minute after the last fault.
        """
        ends = monotonic() + seconds
        load = [asyncio.create_task(self._client(number)) for number in range(_CLIENTS)]
        try:
            while monotonic() < ends:
                await asyncio.sleep(self._rng.uniform(*_CALM_S))
                await self._disturb(self._rng.choice(list(faults)), max(0.1, ends - monotonic()))
        finally:
            self._stopping = True
            await asyncio.shield(self._heal())
            _, late = await asyncio.wait(load, timeout=2 * _CALL_S)
            for task in late:
                task.cancel()
        await self._require_answer()
        return self.recorder.operations()

    async def _disturb(self, fault: Fault, left_s: float) -> None:
        node = self._rng.choice(list(self._servers))
        lasts_s = min(self._rng.uniform(*_FAULT_S), left_s)
        server = self._servers[node]
        self.counts[fault] += 1
        self._say(f"{fault} node {node}, {lasts_s:.1f} s")
        match fault:
            case "kill":
                await asyncio.to_thread(server.kill)
            case "pause":
                server.signal(signal.SIGSTOP)
            case "partition":
                self._partition(node, lasts_s)
            case "slow-disk":
                self._order(node, lasts_s, disk_s=self._rng.uniform(0.05, 0.5))
            case "clock":
                self._order(node, lasts_s, ahead_us=self._rng.randrange(100_000, 5_000_000))
        await asyncio.sleep(lasts_s)
        await self._heal()

    def _partition(self, node: NodeId, lasts_s: float) -> None:
        """Cut one node off: what it sends, and what is sent to it."""
        others = tuple(other for other in self._servers if other != node)
        self._order(node, lasts_s, cut=others)
        for other in others:
            self._order(other, lasts_s, cut=(node,))

    def _order(self, node: NodeId, lasts_s: float, **what: Any) -> None:
        self._number += 1
        write_orders(self._orders_of(node), Orders(self._number, lasts_s, **what))

    async def _heal(self) -> None:
        """Undo everything: all run, reach each other, and have the disk that they have."""
        for node, server in self._servers.items():
            server.signal(signal.SIGCONT)
            self._order(node, 0.0)
            if not server.running:
                server.start()
                await asyncio.to_thread(server.wait_ready)

    async def _require_answer(self) -> None:
        try:
            async with (
                asyncio.timeout(_HEALED_S),
                connect(self._config, KeyValueStore, timeout_s=_HEALED_S) as store,
            ):
                await store.set("healed", b"")
        except (TimeoutError, NotExecuted, OutcomeUnknown) as error:
            raise NotHealed(f"no answer within {_HEALED_S:g} s after the last fault: {error}") from error

    # Clients

    async def _client(self, number: int) -> None:
        rng = Random(self._rng.random())  # noqa: S311
        async with connect(self._config, KeyValueStore, timeout_s=_CALL_S) as store:
            while not self._stopping:
                key = f"chaos{rng.randrange(_KEYS)}"
                is_read = rng.random() < 0.5 or self._unknown >= _UNKNOWN_MAX
                value = f"{number}-{rng.randrange(1 << 30)}"
                await self._recorded(number, store, key, None if is_read else value)
                await asyncio.sleep(_THINK_S)

    async def _recorded(self, number: int, store: Any, key: str, value: str | None) -> None:
        op, args = ("get", ()) if value is None else ("set", (value,))
        handle = self.recorder.begin(number, op, key, args, now=monotonic_us())
        outcome: Any = "ok"
        result: Any = None
        try:
            result = await (store.get(key) if value is None else store.set(key, value.encode()))
            if value is None:
                result = [result[0].decode(), result[1]]
        except NotExecuted:
            outcome = "failed"
        except OutcomeUnknown:
            outcome = "unknown"
            self._unknown += value is not None
        except CommandFailed as error:
            outcome, result = "raised", error.kind
        except Exception as error:  # noqa: BLE001  what the store raises is its result
            outcome, result = "raised", type(error).__name__
        self.recorder.end(handle, outcome, result, now=monotonic_us())


def judge(history: Sequence[Operation]) -> Verdict:
    """Judge what clients were told by the model of the stock store."""
    return check(history, VersionedStore())
