"""What the 4B and 4C tests have in common: clerks that put to each other's keys while the world breaks
(docs/labs/6.5840.md#kv-tests), and the check of everything that they saw."""

from collections.abc import Iterable
from typing import Literal

from viewstamp.checker.history import Recorder
from viewstamp.checker.linearizable import check
from viewstamp.checker.store_model import NEW, VersionedStore
from viewstamp.clients.clerk import Clerk, Maybe, Pause
from viewstamp.core.errors import OutcomeUnknown
from viewstamp.core.ids import NodeId
from viewstamp.services.kv import KeyValueStore, NoKey, VersionMismatch
from viewstamp.sim.cluster.scenario import UNRELIABLE, Attempts, Scenario, Task, pauses
from viewstamp.sim.world.options import NetworkOptions

ATTEMPT_S = 0.5
CLERK_LOSS = 0.1
"""On an unreliable network a tenth of the requests of clerks is lost, and a tenth of the replies."""
CLERK_DELAY_S = 0.026
"""The longest delay of a request there."""
LAN = NetworkOptions(delay_min_us=500, delay_mean_us=1_500, encode=1.0)
"""Nothing is lost. Slow enough that a second holds about as many calls as in the kit's own runs."""


class KvTest:
    """A cluster with a versioned store, its clerks, and the history of what they saw."""

    def __init__(
        self,
        servers: int,
        *,
        seed: int,
        network: NetworkOptions = LAN,
        log_bytes_max: int | None = None,
    ) -> None:
        self.scenario = Scenario(
            KeyValueStore, servers, seed=seed, network=network, log_bytes_max=log_bytes_max
        )
        self.reliable = network is LAN
        self.log_bytes_max = log_bytes_max
        self.history = Recorder()
        self.succeeded = 0
        """Puts to "k" that were acknowledged."""
        self.perhaps = 0
        """Puts to "k" that ended in maybe."""
        self.maybes = 0
        """Puts to any key that did."""
        self.lost_requests = 0
        self.lost_replies = 0
        self.scenario.leader()

    def clerk(self, name: int, servers: Iterable[NodeId] | None = None) -> "RecordedClerk":
        """Return a clerk that reaches all servers, or these only."""
        return RecordedClerk(name, self, servers)

    def generic(
        self, clerks: int, *, crash: bool = False, partitions: bool = False, random_keys: bool = False
    ) -> None:
        """Run the kit's GenericTest: three rounds of clerks, partitions and crashes, each checked."""
        scenario = self.scenario
        for turn in range(3):
            until_s = scenario.now_s + 1
            tasks = [
                Task(self._put_until(self.clerk(number), until_s, turn, random_keys=random_keys))
                for number in range(clerks)
            ]
            if partitions:
                scenario.run(1)
                self._partition_while(tasks)
                scenario.heal()
                scenario.run(1)
            self.finish(tasks)
            if crash:
                scenario.crash(*scenario.members)
                scenario.run(1)
                scenario.restart(*scenario.members)
            self.check_history()
            if not random_keys:
                self._check_count(exact=self.reliable and not crash and not partitions)
            self.check_sizes()

    def finish(self, tasks: Iterable[Task[None]], seconds: float = 60) -> None:
        """Let time pass until all tasks have ended."""
        waiting = list(tasks)
        assert self.scenario.wait(lambda: all(task.done for task in waiting), seconds), "a clerk hangs"

    def check_losses(self) -> None:
        """Assert that an unreliable network lost something of clerks, and that some put ended in doubt."""
        lost = self.lost_requests, self.lost_replies, self.maybes
        assert all(lost) if not self.reliable else not any(lost[:2]), lost

    def check_history(self) -> None:
        """Judge all that the clerks saw. A verdict that is unknown is a failure."""
        verdict = check(self.history.operations(), VersionedStore(initial=NEW))
        assert verdict.outcome == "ok", str(verdict)

    def check_sizes(self) -> None:
        """Assert the kit's limits: 8 times maxraftstate of log; no snapshot where there is no limit."""
        for node in self.scenario.cluster.running:
            if self.log_bytes_max is None:
                assert self.scenario.snapshot_bytes(node) == 0
            else:
                assert self.scenario.log_bytes(node) <= 8 * self.log_bytes_max

    def _partition_while(self, tasks: list[Task[None]]) -> None:
        """Deal the servers to two sides every 1 to 1.2 s, four times or until the clerks are done.

        Every other time what one side sends still arrives, which the kit never tries.
        """
        rng = self.scenario.rng
        for turn in range(4):
            left = {node for node in self.scenario.members if rng.random() < 0.5}
            self.scenario.partition(left, set(self.scenario.members) - left, one_way=turn % 2 == 1)
            self.scenario.run(1 + rng.random() * 0.2)
            if all(task.done for task in tasks):
                return

    def _check_count(self, *, exact: bool) -> None:
        task = Task(self.clerk(1_000).get("k"))
        assert self.scenario.wait(lambda: task.done, 60)
        assert task.result is not None
        version = task.result[1]
        if exact:
            assert version == self.succeeded
        assert self.succeeded <= version <= self.succeeded + self.perhaps

    async def _put_until(
        self, clerk: "RecordedClerk", until_s: float, turn: int, *, random_keys: bool
    ) -> None:
        scenario, version, number = self.scenario, 0, 0
        while scenario.now_s < until_s:
            key = f"k{scenario.rng.randrange(100)}" if random_keys else "k"
            number += 1
            version = await self._one_put(clerk, key, f"{clerk.name}.{turn}.{number}".encode(), version)

    async def _one_put(self, clerk: "RecordedClerk", key: str, value: bytes, version: int) -> int:
        """Put with the version given, then with what was read, until it is there or may be."""
        while True:
            ended = await clerk.put(key, value, version)
            found = await clerk.get(key)
            if ended == "ok":
                if found is not None and found[1] == version + 1:
                    assert found[0] == value
                return found[1] if found else 0
            if ended == "maybe":
                return found[1] if found else 0
            version = found[1] if found else 0


class LossyAttempts:
    """Attempts over labrpc's unreliable network: the caller learns of a loss at once, not of which part."""

    def __init__(self, attempts: Attempts, test: KvTest, pause: Pause) -> None:
        self._attempts = attempts
        self._test = test
        self._pause = pause

    async def attempt(self, kind: Literal["command", "linearizable"], payload: bytes) -> bytes:
        """Make one attempt; `OutcomeUnknown` where request or reply is lost."""
        test, rng = self._test, self._test.scenario.rng
        await self._pause(rng.random() * CLERK_DELAY_S)
        if rng.random() < CLERK_LOSS:
            test.lost_requests += 1
            raise OutcomeUnknown("no reply")
        try:
            return await self._attempts.attempt(kind, payload)
        finally:  # a reply that says no is lost as well
            if rng.random() < CLERK_LOSS:
                test.lost_replies += 1
                raise OutcomeUnknown("no reply")


class RecordedClerk:
    """A clerk whose calls are recorded."""

    def __init__(self, name: int, test: KvTest, servers: Iterable[NodeId] | None) -> None:
        self.name = name
        self._test = test
        self._client = test.scenario.client(servers)
        pause = pauses(test.scenario)
        attempts = Attempts(self._client, ATTEMPT_S)
        attempt = attempts.attempt if test.reliable else LossyAttempts(attempts, test, pause).attempt
        self._clerk = Clerk(attempt, pause=pause)

    def reach_all(self) -> None:
        """Let it reach every server from now on."""
        self._client.reachable = frozenset(self._test.scenario.members)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        """Return value and version; None: there is no such key."""
        test = self._test
        handle = test.history.begin(self.name, "get", key, now=test.scenario.world.now_us)
        try:
            found = await self._clerk.get(key)
        except NoKey:
            test.history.end(handle, "raised", "NoKey", now=test.scenario.world.now_us)
            return None
        test.history.end(handle, "ok", found, now=test.scenario.world.now_us)
        return found

    async def put(self, key: str, value: bytes, version: int) -> str:
        """Put and return how it ended: ok, mismatch, no key or maybe."""
        test = self._test
        handle = test.history.begin(self.name, "put", key, (value, version), now=test.scenario.world.now_us)
        try:
            await self._clerk.put(key, value, version)
        except (NoKey, VersionMismatch, Maybe) as error:
            name = type(error).__name__
            test.history.end(handle, "raised", name, now=test.scenario.world.now_us)
            test.maybes += name == "Maybe"
            test.perhaps += key == "k" and name == "Maybe"
            return {"NoKey": "no key", "VersionMismatch": "mismatch", "Maybe": "maybe"}[name]
        test.history.end(handle, "ok", version + 1, now=test.scenario.world.now_us)
        test.succeeded += key == "k"
        return "ok"


__all__ = ["LAN", "UNRELIABLE", "KvTest", "RecordedClerk"]
