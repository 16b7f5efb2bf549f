"""Queues under the simulator: items are put, worked on under leases and sessions, done, failed, returned."""

from collections.abc import Callable
from random import Random
from typing import Final

import msgspec

from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.events import CallId, Failed, Outcome, Raised, Returned
from viewstamp.services.recipes.keeper_events import Request
from viewstamp.services.recipes.queues import QueueService
from viewstamp.sim.judge.invariants.claims import QueueOracle
from viewstamp.sim.workloads.claims import ClaimingClient, ClaimWorkload, Task
from viewstamp.sim.workloads.clients import Plan
from viewstamp.sim.workloads.workload import JudgesState
from viewstamp.sim.world.options import LoadOptions, SwarmOptions
from viewstamp.sim.world.world import log_uniform

_WORK_US: Final = (100, 300_000)
_LEASE_US: Final = (2_000, 400_000)
_CHUNK_BYTES_MIN: Final = 512


class QueueingClient(ClaimingClient):
    """A client that puts items, and works on them."""

    def invoke(self, plan: Plan, timeout_us: int, done: Callable[[Outcome], None] | None = None) -> CallId:
        """Put an item, or let a task work on one."""
        if plan.method == "put":
            return super(ClaimingClient, self).invoke(plan, timeout_us, done)
        return super().invoke(plan, timeout_us, done)


class QueueWorkload(ClaimWorkload, JudgesState):
    """Producers and workers at a few queues."""

    machine: type[StateMachine] = QueueService
    is_always_granted = False  # there may be no item

    def __init__(self, load: LoadOptions) -> None:
        super().__init__(load)
        self.items = QueueOracle()
        self.client_kind = QueueingClient

    def fit(self, options: SwarmOptions) -> SwarmOptions:
        """As of all claims; a state of many items does not travel in pieces of a few bytes."""
        options = super().fit(options)
        pieces = max(options.tuning.chunk_bytes, _CHUNK_BYTES_MIN)
        tuning = msgspec.structs.replace(options.tuning, chunk_bytes=pieces)
        return msgspec.structs.replace(options, tuning=tuning)

    def plan(self, rng: Random) -> Plan:
        """Put an item, or take one and say how it ends."""
        key = rng.choice(self.keys)
        if rng.random() < 0.5:
            delay_ms = rng.choice((0, 0, 0, 200))
            return Plan(
                "command", "put", key, (self._unique().encode(), "", rng.choice(("", "a", "b")), delay_ms)
            )
        lease_us = int(log_uniform(rng, *_LEASE_US)) if rng.random() < 0.5 else 0
        work_us = int(log_uniform(rng, *_WORK_US))
        return Plan(
            "command", "work", key, (work_us, lease_us, rng.choice(("ack", "ack", "ack", "fail", "leave")))
        )

    def request(self, plan: Plan) -> Request:
        """Take an item."""
        lease_us = plan.arguments[1]
        assert isinstance(lease_us, int)
        lease_ms = -(-lease_us // 1_000)
        return Request("queues", "take", "release", plan.key, (lease_ms,), lease_us=lease_ms * 1_000)

    def entered(self, task: Task) -> None:
        """A task was given an item."""
        assert task.inside is not None
        self.items.entered(task.name, task.answer.item.number, task.inside)

    def finish(self, client: ClaimingClient, task: Task) -> None:
        """A task is done with its item: acknowledge it, say that it failed, or leave it."""
        plan, one = task.record.plan, task.inside
        assert plan is not None
        assert one is not None
        if task.is_ending:
            return
        how, number = plan.arguments[2], task.answer.item.number
        if how == "leave" or task.is_lost:
            self.items.left(task.name, number, one)
            client.leave(task, Returned(b"", one.token))
            return
        if how == "ack":
            self.items.perhaps[task.name, number] += 1

        def ended(outcome: Outcome) -> None:
            if how == "ack" and isinstance(outcome, Returned):
                self.items.acknowledged(task.name, number, one)
            if how == "ack" and _had_no_effect(outcome):
                self.items.perhaps[task.name, number] -= 1
            if task.claim in client.tasks:
                if how == "ack":
                    self.items.left(task.name, number, one)
                client.leave(task, Returned(b"", one.token))

        task.is_ending = True
        if how == "fail":  # from now on it no longer counts on the item
            self.items.left(task.name, number, one)
        client.call(str(how), (task.name, int(task.claim), one.token), ended)

    def note_result(self, plan: Plan, result: object) -> None:
        """Remember what was put."""
        if plan.method == "put":
            self.items.put.add((plan.key, result.number))  # type: ignore[attr-defined]

    def judge_state(self, machine: StateMachine) -> None:
        """Say so where an item is neither done nor there."""
        assert isinstance(machine, QueueService)
        there = {(name, number) for name, queue in machine.queues.items() for number in queue.items}
        self.items.ended(there)

    def final_plans(self) -> list[Plan]:
        """Put an item into each queue, and work on one."""
        puts = [Plan("command", "put", key, (b"last", "", "", 0)) for key in self.keys]
        return [*puts, *(Plan("command", "work", key, (1_000, 0, "ack")) for key in self.keys)]


def _had_no_effect(outcome: Outcome) -> bool:
    if isinstance(outcome, Failed):
        return outcome.outcome in {"not_executed", "session_expired"}
    return isinstance(outcome, Raised)
