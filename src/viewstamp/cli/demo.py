"""`viewstamp demo`: three servers, a load, the death of the leader, the death of all, and the proof."""

import asyncio
import tempfile
from pathlib import Path
from time import monotonic
from typing import Annotated, Final

from cyclopts import Parameter

from viewstamp.cli.failures import DONE, REFUSED
from viewstamp.core.ids import NodeId
from viewstamp.testkit.load import Load, read_all, wait_for_leader, wait_for_level
from viewstamp.testkit.processes import ServerGroup

SERVERS: Final = 3
WRITERS: Final = 32
_PROBLEMS_SHOWN: Final = 10


def demo(
    *, writes: Annotated[int, Parameter(help="Writes to wait for between two disasters.")] = 4_000
) -> int:
    """See three servers survive the death of their leader, and prove that nothing was lost.

    Takes about fifteen seconds, uses free ports of this machine and a temporary directory, and leaves nothing
    behind. Exit code 1: something acknowledged was lost or done twice.
    """
    with tempfile.TemporaryDirectory(prefix="viewstamp-demo-") as folder:
        return asyncio.run(_Demo(Path(folder), writes).play())


class _Demo:
    """The play, act by act."""

    def __init__(self, folder: Path, writes: int) -> None:
        self._folder = folder
        self._writes = writes
        self._began_s = monotonic()

    def say(self, text: str) -> None:
        print(f"[{monotonic() - self._began_s:5.1f} s] {text}", flush=True)

    async def play(self) -> int:
        with ServerGroup(self._folder, SERVERS) as group:
            await self._begin(group)
            async with Load(group, writers=WRITERS) as load:
                await self._kill_leader(group, load)
            await self._kill_all(group, load)
            return await self._prove(group, load)

    async def _begin(self, group: ServerGroup) -> None:
        self.say(f"starting {SERVERS} servers; every write is synced to disk below {self._folder}")
        group.start()
        for node, server in group.servers.items():
            host, port = group.cluster.addresses[node]
            self.say(f"  node {node}: process {server.pid}, {host}:{port}")
        leader = await wait_for_leader(group)
        self.say(f"node {leader.node} was elected leader in view {leader.view}")

    async def _kill_leader(self, group: ServerGroup, load: Load) -> None:
        self.say(f"{WRITERS} clients write, each one key after another")
        began = monotonic()
        await load.more(self._writes)
        rate = len(load.ledger.acknowledged) / (monotonic() - began)
        self.say(f"{len(load.ledger.acknowledged)} writes were acknowledged, about {rate:.0f} a second")
        victim = group.servers[NodeId((await wait_for_leader(group)).node)]
        load.ledger.begin_pause()
        self.say(f"SIGKILL to process {victim.pid}: the leader, node {victim.node}, is dead")
        await asyncio.to_thread(victim.kill)
        await load.more(self._writes)
        pause, leader = load.ledger.longest_pause_s, await wait_for_leader(group)
        self.say(
            f"node {leader.node} leads in view {leader.view}; no write was acknowledged for {pause:.2f} s"
        )
        self.say(f"{self._writes} more writes were acknowledged by the two that are left")
        victim.start()
        await asyncio.to_thread(victim.wait_ready)
        self.say(f"node {victim.node} is restarted on its data directory as process {victim.pid}")
        await load.more(self._writes)

    async def _kill_all(self, group: ServerGroup, load: Load) -> None:
        ledger = load.ledger
        self.say(f"the clients stop after {len(ledger.acknowledged)} acknowledged writes")
        if ledger.unknown or ledger.refused:
            self.say(f"  {len(ledger.unknown)} ended as unknown, {len(ledger.refused)} as not executed")
        await wait_for_level(group)
        self.say("all three have caught up with each other")
        group.kill_all()
        self.say("SIGKILL to all three at once; now nothing is left but the disks")
        group.start()
        leader = await wait_for_leader(group)
        self.say(f"all three are restarted; node {leader.node} leads in view {leader.view}")

    async def _prove(self, group: ServerGroup, load: Load) -> int:
        found = await read_all(group)
        problems = load.ledger.audit(found)
        self.say(f"read back {len(found)} keys and compared them with what the clients were told")
        for problem in problems[:_PROBLEMS_SHOWN]:
            self.say(f"  FAILED: {problem}")
        if problems:
            self.say(f"FAILED: {len(problems)} contradictions")
            return REFUSED
        self.say(
            f"PASSED: all {len(load.ledger.acknowledged)} acknowledged writes are there, none was done twice"
        )
        return DONE
