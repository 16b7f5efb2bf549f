"""One member of a PySyncObj cluster; whichever leads loads itself, in its own process.

    python -m benchmarks.loads.pysyncobj_node {batched|unbatched} OWN_HOST:PORT OTHER...

Nothing is synced to a disk, and there is no hop from a client to the leader: both favour PySyncObj. Answers
`null` to a plan where it does not lead.
"""

import os
import sys
import threading
from functools import partial
from time import perf_counter
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated

from benchmarks.loads.lines import KEYS, Plan, answer, figures, plans

READY_WITHIN_S = 30.0


class Store(SyncObj):  # type: ignore[misc]
    """A dict, replicated."""

    def __init__(self, own: str, others: list[str], *, batched: bool) -> None:
        self._values: dict[str, str] = {}
        settings = SyncObjConf(
            appendEntriesUseBatch=batched, dynamicMembershipChange=False, commandsQueueSize=1_000_000
        )
        super().__init__(own, others, settings)

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: str, value: str) -> int:
        self._values[key] = value
        return len(self._values)


class Run:
    """One load: a window of calls, each of which is followed by another."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store = store
        self._plan = plan
        self._window = threading.Semaphore(plan.clients)
        self._latencies: list[float] = []
        self._counted = perf_counter() + plan.warm_s
        self._failed = 0

    def figures(self) -> dict[str, Any]:
        value = "x" * self._plan.value_bytes
        end = self._counted + self._plan.seconds
        place = 0
        while True:
            self._window.acquire()
            if (began := perf_counter()) >= end:
                break
            self._store.put(f"key{place % KEYS}", value, callback=partial(self._done, began))
            place += 1
        for _ in range(self._plan.clients - 1):
            self._window.acquire()
        assert not self._failed, f"{self._failed} calls failed"
        return figures(self._latencies, perf_counter() - self._counted)

    def _done(self, began: float, _: object, error: int) -> None:
        self._failed += error != 0
        if began >= self._counted:
            self._latencies.append(perf_counter() - began)
        self._window.release()


def main() -> None:
    setting, own, *others = sys.argv[1:]
    store = Store(own, others, batched=setting == "batched")
    ready = threading.Event()
    began = perf_counter()
    while store._getLeader() is None or not store.isReady():  # noqa: SLF001  there is no public name
        assert perf_counter() - began < READY_WITHIN_S, "no leader"
        ready.wait(0.05)
    ready.wait(1.0)  # until the leader has told everybody
    for plan in plans():
        leads = str(store._getLeader()) == own  # noqa: SLF001
        if leads:
            answer(Run(store, plan).figures())
        else:
            print("null", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
