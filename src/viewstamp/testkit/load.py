"""Clients that write under disasters, and the ledger by which they are audited afterwards.

Every write is the creation of a key of its own by an unconditional `set`, so the store tells its fate: an
acknowledged key is there with version 1; a key that was executed twice has version 2; a call that ended in
`NotExecuted` left no key; one that ended in `OutcomeUnknown` may have left one, once.
"""

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final, Self

from viewstamp.core.errors import NotExecuted, OutcomeUnknown
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.operator import Account, cluster_status
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.processes import ServerGroup

_PAGE: Final = 5_000
_POLL_S: Final = 0.02


class TooLate(AssertionError):
    """A condition did not come true in time."""


class Acknowledgements:
    """What the clients were told."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, int] = {}
        """Key: the version that the service answered."""
        self.unknown: dict[str, str] = {}
        """Key: why nobody can tell."""
        self.refused: dict[str, str] = {}
        """Key: why it was certainly not executed."""
        self.last_acknowledged_s = monotonic()
        self.longest_pause_s = 0.0
        """Longest time in which nothing was acknowledged, since `begin_pause`."""

    def acknowledge(self, key: str, version: int) -> None:
        """Note a success."""
        self.acknowledged[key] = version
        now = monotonic()
        self.longest_pause_s = max(self.longest_pause_s, now - self.last_acknowledged_s)
        self.last_acknowledged_s = now

    def begin_pause(self) -> None:
        """Measure the longest pause from now on."""
        self.last_acknowledged_s = monotonic()
        self.longest_pause_s = 0.0

    def audit(self, found: Mapping[str, tuple[bytes, int]]) -> list[str]:
        """Compare with what the store holds; return each contradiction as a line."""
        problems = [f"{key} was acknowledged and is lost" for key in self.acknowledged if key not in found]
        problems += [f"{key} was answered with version {v}" for key, v in self.acknowledged.items() if v != 1]
        problems += [f"{key} was refused and is there" for key in self.refused if key in found]
        for key, (value, version) in found.items():
            if version != 1:
                problems.append(f"{key} was executed {version} times")
            if value != key.encode():
                problems.append(f"{key} holds {value!r}")
            if key not in self.acknowledged and key not in self.unknown and key not in self.refused:
                problems.append(f"{key} was never written")
        return problems


class Load:
    """Concurrent writers on a cluster of processes. Use as an async context manager."""

    def __init__(self, group: ServerGroup, *, writers: int = 16, timeout_s: float = 20.0) -> None:
        self.ledger = Acknowledgements()
        self._group = group
        self._writers = writers
        self._timeout_s = timeout_s
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._connecting = connect(self._group.cluster, KeyValueStore, timeout_s=self._timeout_s)
        store = await self._connecting.__aenter__()
        self._tasks = [asyncio.create_task(self._write(store, number)) for number in range(self._writers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Let each writer end the call that it is in, then close the client."""
        self._stopping = True
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await self._connecting.__aexit__(None, None, None)

    async def _write(self, store: type[KeyValueStore], writer: int) -> None:
        number = 0
        while not self._stopping:
            number += 1
            key = f"w{writer:03d}-{number:08d}"
            try:
                version = await store.set(key, key.encode())
            except NotExecuted as error:
                self.ledger.refused[key] = str(error)
            except OutcomeUnknown as error:
                self.ledger.unknown[key] = str(error)
            else:
                self.ledger.acknowledge(key, version)

    async def more(self, count: int, within_s: float = 30.0) -> None:
        """Return once this number of further writes is acknowledged; `TooLate` if they are not."""
        goal = len(self.ledger.acknowledged) + count
        await wait_until(lambda: len(self.ledger.acknowledged) >= goal, within_s, f"{count} more writes")


async def read_all(group: ServerGroup, timeout_s: float = 20.0) -> dict[str, tuple[bytes, int]]:
    """Return everything in the store, by a client of its own and linearizable reads."""
    found: dict[str, tuple[bytes, int]] = {}
    async with connect(group.cluster, KeyValueStore, timeout_s=timeout_s) as store:
        after, more = "", True
        while more:
            page = await store.range("", after, _PAGE)
            found.update((item.key, (item.value, item.version)) for item in page.items)
            after = page.items[-1].key if page.items else after
            more = page.more
    return found


async def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    """Return once the condition holds; look repeatedly, within a bound."""
    deadline = monotonic() + within_s
    while not condition():
        if monotonic() > deadline:
            raise TooLate(f"{what}: not within {within_s:g} s")
        await asyncio.sleep(_POLL_S)


async def accounts(group: ServerGroup, timeout_s: float = 1.0) -> dict[NodeId, Account]:
    """Ask every node for its status."""
    return await asyncio.to_thread(cluster_status, group.cluster, timeout_s=timeout_s)


async def wait_for_leader(group: ServerGroup, within_s: float = 30.0, *, members_min: int = 1) -> Status:
    """Return the status of the node that leads the highest view, once it says so itself and still runs.

    With `members_min` only once that many are members: where members change by themselves, a server that was
    restarted is admitted a moment later.
    """
    deadline = monotonic() + within_s
    while monotonic() < deadline:
        found = [status for status in (await accounts(group)).values() if isinstance(status, Status)]
        leading = [status for status in found if status.leader == status.node]
        newest = max(leading, key=lambda status: status.view, default=None)
        if newest is not None and len(newest.members) >= members_min:
            return newest
        await asyncio.sleep(_POLL_S)
    raise TooLate(f"no leader of {members_min} or more within {within_s:g} s")


async def wait_for_level(group: ServerGroup, within_s: float = 30.0) -> None:
    """Return once all nodes have applied the same last entry, which takes that nobody writes meanwhile."""
    deadline = monotonic() + within_s
    while True:
        found = list((await accounts(group)).values())
        level = {(status.last, status.applied) if isinstance(status, Status) else None for status in found}
        if len(level) == 1 and None not in level:
            return
        if monotonic() > deadline:
            raise TooLate(f"the nodes did not come level within {within_s:g} s: {found}")
        await asyncio.sleep(_POLL_S)


async def wait_for_account(
    group: ServerGroup, node: NodeId, condition: Callable[[Status], bool], within_s: float = 30.0
) -> None:
    """Return once this node gives an account of itself that meets the condition."""
    deadline = monotonic() + within_s
    while True:
        account = (await accounts(group))[node]
        if isinstance(account, Status) and condition(account):
            return
        if monotonic() > deadline:
            raise TooLate(f"node {node} did not come so far within {within_s:g} s: {account}")
        await asyncio.sleep(_POLL_S)
