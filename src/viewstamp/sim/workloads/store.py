"""The coordination store under the simulator: watches, leases and transactions beside reads and writes.

What clients write and read by the methods of `services.kv` is a history for the checker. Beside it each
client watches ranges by the production code (`services.store.watching`), has leases, and runs transactions of
two keys; `judge.invariants.store` compares all of it with what the replicas executed. What transactions,
leases and reads told of the keys that are not of the first history is another one, for the store's own model.
"""

from collections.abc import Callable
from random import Random
from typing import Any, ClassVar, Final

import msgspec

from viewstamp.checker.coordination_model import CoordinationModel
from viewstamp.checker.history import Recorder
from viewstamp.checker.linearizable import check
from viewstamp.checker.models import Model
from viewstamp.checker.store_model import VersionedStore
from viewstamp.core.ids import MICROSECONDS_PER_MS, Instant, NodeId
from viewstamp.core.judge import InvariantViolated
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.events import CallId, Complete, Invoked, Operated, Outcome, Raised, Returned
from viewstamp.services.store.history import STEP_BYTES
from viewstamp.services.store.leases import Lease
from viewstamp.services.store.stock_store import StockStore
from viewstamp.services.store.types import (
    Compare,
    Found,
    Get,
    KeyValue,
    Put,
    PutDone,
    StoreLimits,
    Txn,
    TxnDone,
    span,
)
from viewstamp.services.store.watching import ANSWER_S, Watching
from viewstamp.sim.judge.invariants.store import NAME, PAIR, StoreOracle, WatchJudge
from viewstamp.sim.workloads.clients import CallKind, Plan, SimClient
from viewstamp.sim.workloads.workload import JudgesState, StoreWorkload
from viewstamp.sim.world.options import LoadOptions, SwarmOptions

RANGES: Final = ((b"\0", b"\0"), (b"k", b"l"), (b"k0", b""), (b"l/", b"l0"), (b"t/", b"t0"))
OWN_RANGES: Final = ((b"l/", b"l0"), (b"t/", b"t0"))
"""Of leases and transactions: no call of the first history touches a key there."""
_MODELLED: Final = frozenset(("kv_put", "kv_txn", "lease_grant", "lease_keep_alive", "lease_revoke"))
HOLD_S: Final = 1.0
CERTAIN_SHARE: Final = 0.9
"""Of a lease's time, from when the question was sent: as `clients.lease_clock`."""
_STEPS_MAX: Final = 10_000
"""Of the search for an order: a second or two. A history that takes more is counted, and not judged."""
_CALL_US: Final = 5_000_000
_PAUSE_US: Final = 400_000
_BEGIN_AGAIN: Final = 0.05
"""The share of answers after which a watch begins again from a revision of its past, at any server."""
_COMPACTS: Final = 0.03
_CHUNK_BYTES_MIN: Final = 512
_TTL_MS: Final = (300, 3_000)
CAUGHT_UP_US: Final = 20_000_000
"""After the heal a watch has heard of everything before it within this time."""
Reaction = Callable[[Outcome, int], None]
"""What to do with an outcome, and the moment at which the call was sent."""


class WatchedStore(StockStore):
    """The store, with a window of a few steps, which tells an oracle what it executes."""

    limits: ClassVar[StoreLimits] = StoreLimits(history_bytes_max=60 * STEP_BYTES)
    oracle: ClassVar[StoreOracle] = StoreOracle()
    """Of the run: one runs at a time."""

    def _finish(self, revision: int) -> None:
        table = self._table
        if table.revision == revision:
            steps, first = table.history.after(revision - 1)
            facts = [(step.key, None if step.after is None else step.after.value) for step in steps[first:]]
            self.oracle.executed(revision, facts)
        super()._finish(revision)

    def _end(self, lease: Lease) -> None:
        super()._end(lease)
        self.oracle.ended(lease.lease)


class _Watcher:
    """One watch of a client."""

    def __init__(self, client: "WatchingClient", number: int, rng: Random) -> None:
        self.client = client
        self.name = f"watch {number} of client {client.name}"
        self.key, self.end = RANGES[number % len(RANGES)]
        self._rng = rng
        self.watching = self._from(0)
        self.judge = WatchJudge(self.name, client.oracle, self._covers, 0)

    def _from(self, after: int) -> Watching:
        return Watching(self.key, self.end, after=after, prev=False, rng=self._rng, hold_s=HOLD_S)

    def _covers(self, key: bytes) -> bool:
        first, end = span(self.key, self.end)
        return key >= first and (not end or key < end)

    def ask(self) -> None:
        """Ask the next server."""
        client = self.client
        node = self.watching.choose(client.connected)
        if node is None:
            client.later(self.watching.failed(), self.ask)
        else:
            client.ask_node(node, self.watching, self._answered)

    def _answered(self, outcome: Outcome, _sent: int) -> None:
        answer = self.watching.answered(outcome.payload) if isinstance(outcome, Returned) else None
        if answer is None or answer.refused:
            self.client.later(self.watching.failed(refused=answer is not None), self.ask)
            return
        if answer.failure is not None:
            raise InvariantViolated(NAME, f"{self.name}: {answer.failure}")
        if answer.must_list:
            self._list(b"", 0, [])
            return
        for told in answer.told:
            self.judge.told(told)
        if self._rng.random() < _BEGIN_AGAIN:
            after = self._rng.choice(self.judge.marks)
            self.client.oracle.counts["watch begun again"] += 1
            self.watching = self._from(after)
            self.judge = WatchJudge(self.name, self.client.oracle, self._covers, after)
        self.ask()

    def _list(self, after: bytes, revision: int, items: list[KeyValue]) -> None:
        get = Get(after + b"\0" if after else self.key, self.end, 3, revision)
        if after and not self.end:
            self._listed(revision, items)
            return

        def found(outcome: Outcome, _sent: int) -> None:
            if not isinstance(outcome, Returned):
                self.client.later(0.05, lambda: self._list(b"", 0, []))
                return
            page = self.client.result("kv_range", outcome)
            assert isinstance(page, Found)
            whole, at = [*items, *page.items], revision or page.revision
            if page.more:
                self._list(page.items[-1].key, at, whole)
            else:
                self._listed(at, whole)

        self.client.call("kv_range", (get,), found)

    def _listed(self, revision: int, items: list[KeyValue]) -> None:
        self.judge.told(self.watching.listed(revision, items))
        self.ask()


class WatchingClient(SimClient):
    """A client that also watches, has leases and runs transactions."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        workload = self.host.workload
        assert isinstance(workload, CoordinationWorkload)
        self.coordination = workload
        self.oracle = workload.oracle
        workload.clients.append(self)
        self._reactions: dict[CallId, tuple[Reaction, int]] = {}
        self._values = 0
        self.heal_revision: int | None = None
        """Of the last change before the heal."""
        self.watchers = [_Watcher(self, number, self._rng) for number in self._rng.sample(range(5), 2)]
        for watcher in self.watchers:
            self.later(self._rng.random(), watcher.ask)
        self.later(self._rng.random(), self._lease)
        self.later(self._rng.random(), self._transact)

    @property
    def connected(self) -> list[NodeId]:
        """The servers that it is connected to."""
        return sorted(self._connections)

    def healed(self, reachable: frozenset[NodeId]) -> None:
        """Remember what every watch has to hear of."""
        super().healed(reachable)
        self.heal_revision = self.oracle.revision

    # Calls beside the history

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after a while, unless the client is closed by then."""
        self.host.world.after(int(seconds * 1e6) + 1, lambda: None if self.closed else action())

    def call(self, method: str, arguments: tuple[Any, ...], react: Reaction) -> None:
        """Make a call; linearizable where it is a query."""
        definition = self.host.machine.methods[method]
        kind: CallKind = "command" if definition.kind == "command" else "linearizable"
        call, now = self._expect(self._recording(kind, method, arguments, react)), self.host.world.now_us
        payload = definition.encode_call(arguments, {})
        self._step(Invoked(call, kind, payload, Instant(now + _CALL_US)))

    def _recording(
        self, kind: CallKind, method: str, arguments: tuple[Any, ...], react: Reaction
    ) -> Reaction:
        """Return what also records the call, if the model of the store is to judge it."""
        if method not in _MODELLED and not (method == "kv_range" and _is_own(arguments[0])):
            return react
        world, seen = self.host.world, self.coordination.seen
        handle = seen.begin(self.name, method, None, arguments, now=world.now_us)

        def record(outcome: Outcome, sent_us: int) -> None:
            ended, result = self._judged(Plan(kind, method, None, arguments), outcome)
            seen.end(handle, ended, result, now=world.now_us)
            react(outcome, sent_us)

        return record

    def ask_node(self, node: NodeId, watching: Watching, react: Reaction) -> None:
        """Ask one server what it has for a watch."""
        call, now = self._expect(react), self.host.world.now_us
        within_us = int((watching.hold_s + ANSWER_S) * 1e6)
        self._step(Operated(call, node, watching.question(), Instant(now + within_us)))

    def result(self, method: str, outcome: Returned) -> Any:
        """Return a decoded result."""
        return self.host.machine.methods[method].decode_result(outcome.payload)

    def _expect(self, react: Reaction) -> CallId:
        call = CallId(self._rng.getrandbits(62))
        self._reactions[call] = react, self.host.world.now_us
        return call

    def _complete(self, effect: Complete) -> None:
        reaction = self._reactions.pop(effect.call, None)
        if reaction is None:
            super()._complete(effect)
        elif not self.closed:
            react, sent_us = reaction
            react(effect.outcome, sent_us)

    def _value(self) -> bytes:
        self._values += 1
        return b"c%d/%d" % (-self.name, self._values)

    # Leases

    def _lease(self) -> None:
        """Have a lease with a key for a while; then revoke it, or let it end."""
        ttl_ms = self._rng.randint(*_TTL_MS)

        def granted(outcome: Outcome, sent_us: int) -> None:
            if not isinstance(outcome, Returned):
                self.later(1, self._lease)
                return
            lease = self.result("lease_grant", outcome)
            held = _Held(self, lease, ttl_ms, sent_us)
            self.oracle.granted(lease, held.is_certain)
            held.go_on(self._rng.randrange(4))

        self.call("lease_grant", (ttl_ms,), granted)

    def lease_over(self) -> None:
        """Begin with another."""
        self.later(self._rng.random() * 2, self._lease)

    # Transactions

    def _transact(self) -> None:
        """Read one key of the pair, and write both if it has not changed."""
        key = self._rng.choice(PAIR)

        def read(outcome: Outcome, _sent: int) -> None:
            if not isinstance(outcome, Returned):
                self._again()
                return
            found = self.result("kv_range", outcome)
            mod = found.items[0].mod if found.items else 0
            value = self._value()
            puts = [Put(each, value) for each in PAIR]
            self.call("kv_txn", (Txn([Compare(key, "mod", "=", mod)], [*puts]),), written(mod, value))

        def written(mod: int, value: bytes) -> Reaction:
            def judge(outcome: Outcome, _sent: int) -> None:
                if isinstance(outcome, Returned):
                    self._judge_txn(key, mod, value, self.result("kv_txn", outcome))
                self._again()

            return judge

        self.call("kv_range", (Get(key),), read)

    def _judge_txn(self, key: bytes, mod: int, value: bytes, done: TxnDone) -> None:
        if not done.succeeded:
            self.oracle.counts["transaction refused"] += 1
            return
        self.oracle.counts["transaction executed"] += 1
        truth = self.oracle.truth.get(done.revision)
        if truth is None or {fact[1] for fact in truth} != {value}:
            raise InvariantViolated(NAME, f"a transaction ended at {done.revision}, where {truth} happened")
        between = self.oracle.between(mod, done.revision - 1, key.__eq__)
        if between:
            raise InvariantViolated(NAME, f"{key!a} had changed since {mod} at {done.revision}: {between}")

    def _again(self) -> None:
        if self._rng.random() < _COMPACTS and self.oracle.revision:
            at = self._rng.choice(list(self.oracle.truth)[-5:])
            self.call("kv_compact", (at,), lambda _outcome, _sent: None)
        self.later(self._rng.random() * _PAUSE_US / 1e6, self._transact)


class _Held:
    """A lease of a client."""

    def __init__(self, client: WatchingClient, lease: int, ttl_ms: int, sent_us: int) -> None:
        self._client = client
        self._lease = lease
        self._ttl_us = ttl_ms * MICROSECONDS_PER_MS
        self._certain_until_us = 0
        self._given_up = False
        self._confirmed(sent_us)
        put = Put(b"l/%d" % lease, client._value(), lease)  # noqa: SLF001  both are the client's
        client.call("kv_put", (put,), self._was_put)

    def is_certain(self) -> bool:
        """Return whether the client counts on it."""
        return not self._given_up and self._client.host.world.now_us < self._certain_until_us

    def go_on(self, times: int) -> None:
        """Keep it alive some times; then revoke it, or leave it to its end."""
        client = self._client
        if times:
            client.later(self._ttl_us / 3e6, lambda: self._keep(times - 1))
        elif client._rng.random() < 0.5:  # noqa: SLF001
            self._given_up = True
            client.call("lease_revoke", (self._lease,), lambda _outcome, _sent: client.lease_over())
        else:
            client.lease_over()

    def _keep(self, times: int) -> None:
        def kept(outcome: Outcome, sent_us: int) -> None:
            if isinstance(outcome, Raised):
                if self.is_certain():
                    raise InvariantViolated(NAME, f"lease {self._lease} is lost: {outcome}")
                self._client.lease_over()
                return
            if isinstance(outcome, Returned):
                self._confirmed(sent_us)
            self.go_on(times)

        self._client.call("lease_keep_alive", (self._lease,), kept)

    def _was_put(self, outcome: Outcome, _sent: int) -> None:
        if isinstance(outcome, Returned):
            done = self._client.result("kv_put", outcome)
            assert isinstance(done, PutDone)

    def _confirmed(self, sent_us: int) -> None:
        until_us = sent_us + int(CERTAIN_SHARE * self._ttl_us)
        self._certain_until_us = max(self._certain_until_us, until_us)


def _is_own(get: Get) -> bool:
    """Return whether a read is of keys that only transactions and leases touch."""
    first, end = span(get.key, get.end)
    return any(low <= first and end and end <= high for low, high in OWN_RANGES)


class CoordinationWorkload(StoreWorkload, JudgesState):
    """Reads and writes as of the versioned store, by clients that do more than that."""

    model: Model = VersionedStore()
    """Keys of leases are deleted as well, so that others may begin with any version."""

    def __init__(self, load: LoadOptions) -> None:
        super().__init__(load)
        self.oracle = WatchedStore.oracle = StoreOracle()
        self.machine: type[StateMachine] = WatchedStore
        self.client_kind = WatchingClient
        self.clients: list[WatchingClient] = []
        self.seen = Recorder()
        """What clients saw of the keys of `OWN_RANGES`, for the store's model."""

    def fit(self, options: SwarmOptions) -> SwarmOptions:
        """Leave out clocks that jump, for a lease rests on clocks that count time, and the smallest pieces.

        A history of sixty steps in pieces of 16 bytes would take longer than a cluster may take to serve.
        """
        chunk_bytes = max(options.tuning.chunk_bytes, _CHUNK_BYTES_MIN)
        tuning = msgspec.structs.replace(options.tuning, sessions_max=1_000, chunk_bytes=chunk_bytes)
        processes = msgspec.structs.replace(options.processes, jump_rate=0.0)
        return msgspec.structs.replace(options, tuning=tuning, processes=processes)

    def judge_state(self, machine: StateMachine) -> None:
        """Every watch has heard of what happened before the heal; no lease is overdue; keys have theirs."""
        assert isinstance(machine, WatchedStore)
        table = machine._table  # noqa: SLF001  a judge looks inside
        state = {key: record.value for key, record in table.records.items()}
        if state != self.oracle.state_at(self.oracle.revision):
            raise InvariantViolated(NAME, "the state is not what the changes make of nothing")
        for key, record in table.records.items():
            if record.lease and record.lease not in table.leases:
                raise InvariantViolated(NAME, f"{key!a} outlives its lease {record.lease}")
        for client in self.clients:
            self._judge_watches(client)
        self._judge_calls()

    def _judge_calls(self) -> None:
        """What clients saw of transactions and leases has an order that explains it."""
        verdict = check(self.seen.operations(), CoordinationModel(), steps_max=_STEPS_MAX)
        if verdict.outcome == "violation":
            raise InvariantViolated("I17 Linearizable", str(verdict))
        kind = (
            "call judged by the model" if verdict.outcome == "ok" else "call that the model could not judge"
        )
        self.oracle.counts[kind] += verdict.operations

    def _judge_watches(self, client: WatchingClient) -> None:
        healed_us, wanted = client.healed_us, client.heal_revision
        if healed_us is None or wanted is None or client.closed:
            return
        if client.host.world.now_us - healed_us < CAUGHT_UP_US:
            return
        for watcher in client.watchers:
            self.oracle.counts["watch judged at the end"] += 1
            if watcher.watching.after < wanted:
                raise InvariantViolated(
                    NAME, f"{watcher.name} heard of {watcher.watching.after}, and of nothing up to {wanted}"
                )
