"""Clients of the simulated world: `runtime.client.AsyncClient` in processes of their own."""

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec

from viewstamp.checker.history import OutcomeKind, Recorder
from viewstamp.core.errors import CommandFailed, NotExecuted, OutcomeUnknown
from viewstamp.core.events import TransferLeadership
from viewstamp.core.ids import NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.machine.definition import MachineDefinition
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.client import AsyncClient
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.tokens import TokenSource
from viewstamp.sim.workloads.clients import Plan
from viewstamp.sim.workloads.workload import Workload
from viewstamp.simruntime.host import Host
from viewstamp.simruntime.loop import make_loop
from viewstamp.simruntime.options import LoopOptions
from viewstamp.simruntime.sockets import Network

LATE_US: Final = 1_000_000
"""How long after its deadline a call may end."""
_OPERATOR_TIMEOUT_S: Final = 2.0
_LOOK_S: Final = 0.25


class Load(msgspec.Struct):
    """What all clients of a run share."""

    cluster: ClusterConfig
    workload: Workload
    network: Network
    loop: LoopOptions
    history: Recorder
    definition: MachineDefinition
    failed: Callable[[BaseException], None]
    outcomes: Counter[str]
    left: int
    """Calls that are still to be made."""
    loading: bool = True


class User(Host):
    """One client process."""

    def __init__(
        self,
        number: int,
        load: Load,
        rng: Random,
        *,
        options: ClientOptions | None = None,
        token: TokenSource | None = None,
    ) -> None:
        super().__init__(f"127.0.1.{number}", load.network.world, rng)
        self.number = number
        self.load = load
        self.options = options
        self.token = token
        self.open_calls = 0
        load.network.hosts[self.name] = self
        self.client: AsyncClient | None = None

    def start(
        self, work: Callable[["User"], Any], *, exactly_once: bool = True, operator: bool = False
    ) -> None:
        """Begin: connect, then do this work."""
        self.begin()
        loop = make_loop(self, self.load.network, self.load.loop, self.load.failed)
        loop.create_task(self._main(work, exactly_once=exactly_once, operator=operator))

    async def _main(self, work: Callable[["User"], Any], *, exactly_once: bool, operator: bool) -> None:
        self.client = AsyncClient(
            self.load.cluster,
            exactly_once=exactly_once or self.load.workload.needs_sessions,
            options=self.options,
            clock=self.read_clock,
            operator=operator,
            token=self.token,
        )
        await self.client.start()
        await work(self)
        await self.client.close()

    async def think_and_call(self, plan_rng: Random, mean_us: int, timeout_us: int) -> None:
        """Make calls one after the other, until there are enough."""
        load = self.load
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / mean_us) / 1e6)
            if not load.loading or load.left <= 0:
                return
            load.left -= 1
            await self.call(load.workload.plan(plan_rng), timeout_us)

    async def call(self, plan: Plan, timeout_us: int) -> tuple[OutcomeKind, Any]:
        """Make one call and record it."""
        load, client = self.load, self.client
        assert client is not None
        method = load.definition.methods[plan.method]
        key = () if plan.key is None else (plan.key,)
        payload = method.encode_call((*key, *plan.arguments), {})
        handle = None
        began_us = self.now_us()
        if plan.kind != "stale":
            handle = load.history.begin(self.number, plan.method, plan.key, plan.arguments, now=began_us)
        self.open_calls += 1
        kind, result = await _outcome(
            client.invoke(plan.kind, payload, timeout_s=timeout_us / 1e6, method=method)
        )
        self.open_calls -= 1
        if handle is not None:
            load.history.end(handle, kind, result, now=self.now_us())
        if self.now_us() > began_us + timeout_us + LATE_US:
            raise InvariantViolated(
                "I19 Liveness", f"{plan.method}({plan.key}) ended long after its deadline"
            )
        load.outcomes[f"{plan.kind} {kind}"] += 1
        if kind == "ok":
            load.workload.note_result(plan, result)
        elif kind == "unknown":
            load.workload.note_unknown(plan)
        return kind, result


async def _outcome(future: "asyncio.Future[Any]") -> tuple[OutcomeKind, Any]:
    try:
        return "ok", await future
    except CommandFailed as failure:
        return "raised", failure.kind
    except NotExecuted:
        return "failed", None
    except OutcomeUnknown:
        return "unknown", None


class Overseer:
    """Promotes a server when none has led for a while, where the protocol leaves that to people."""

    def __init__(self, user: User, leading: Callable[[], bool], running: Callable[[], list[NodeId]]) -> None:
        self._user = user
        self._leading = leading
        self._running = running
        self.promotions = 0
        user.start(self._work, operator=True)

    async def _work(self, user: User) -> None:
        without = 0
        patience = 2
        while True:
            await asyncio.sleep(_LOOK_S)
            without = 0 if self._leading() else without + 1
            running = self._running()
            if without > patience and running:
                without, patience = 0, user.rng.randrange(1, 6)
                await self._promote(user, user.rng.choice(running))

    async def _promote(self, user: User, node: NodeId) -> None:
        self.promotions += 1
        assert user.client is not None
        try:
            await user.client.operate(node, TransferLeadership(node), timeout_s=_OPERATOR_TIMEOUT_S)
        except (NotExecuted, OutcomeUnknown):
            return
