"""What the clients of a run do, and by which model the result is judged.

A workload is the hook for any machine: it names the machine's class, plans calls, and says which sequential
model their history must fit. `catalogue.WORKLOADS` lists those that seeds draw from.
"""

from collections import Counter
from random import Random
from typing import Final, Protocol

import msgspec

from viewstamp.checker.models import CounterModel, Model
from viewstamp.checker.register_model import Register
from viewstamp.checker.store_model import NEW, VersionedStore
from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.replica.authorization import Grant
from viewstamp.services.kv import KeyValueStore
from viewstamp.sim.workloads.clients import CallKind, Plan, SimClient
from viewstamp.sim.world.options import LoadOptions, SwarmOptions


class Registers(StateMachine):
    """Registers with compare-and-set, as `register_model.Register` describes them; null until written."""

    values: dict[str, str] = {}  # noqa: RUF012  StateMachine copies the default for each instance

    @command
    def write(self, key: str, value: str) -> None:
        """Set the register."""
        self.values[key] = value

    @command
    def cas(self, key: str, expected: str | None, value: str) -> bool:
        """Set the register if it holds what is expected; return whether it did."""
        if self.values.get(key) != expected:
            return False
        self.values[key] = value
        return True

    @query
    def read(self, key: str) -> str | None:
        """Return what the register holds."""
        return self.values.get(key)


class Tally(StateMachine):
    """Counters, as `models.CounterModel` describes them: a command executed twice shows in later results."""

    totals: dict[str, int] = {}  # noqa: RUF012  StateMachine copies the default for each instance

    @command
    def add(self, key: str, amount: int) -> int:
        """Add, and return the new value."""
        self.totals[key] = self.totals.get(key, 0) + amount
        return self.totals[key]

    @query
    def read(self, key: str) -> int:
        """Return the value."""
        return self.totals.get(key, 0)


UNKNOWN_PER_KEY_MAX: Final = 6
HOSTILE_FRAMES_PER_S: Final = 60.0


class Workload(Protocol):
    """What clients do to one machine. One object serves all clients of a run."""

    machine: type[StateMachine]
    model: Model
    needs_sessions: bool
    """Whether clients without exactly-once sessions are refused."""
    grants: tuple[Grant, ...]
    """Which clients may make which calls; none: every call may be made."""
    client_kind: type[SimClient] | None
    """What stands between the plans and the client's core; None: a call is a call of the machine."""

    def fit(self, options: SwarmOptions) -> SwarmOptions:
        """Return the drawn options without what this machine does not promise to survive."""
        ...

    def plan(self, rng: Random) -> Plan:
        """Return the next call of some client."""
        ...

    def note_result(self, plan: Plan, result: object) -> None:
        """Record that this call returned this, so that later plans can build on it."""
        ...

    def note_unknown(self, plan: Plan) -> None:
        """Record that it is unknown whether this call was executed."""
        ...

    def final_plans(self) -> list[Plan]:
        """Return calls, a write and a read for each key, whose success shows that the service lives."""
        ...


class JudgesState:
    """A workload that looks at the state in which everything that was committed has been executed."""

    def judge_state(self, machine: StateMachine) -> None:
        """Raise `InvariantViolated` for a state that contradicts what clients were told."""


class Keyed:
    """What workloads share: few keys, so that clients meet; unique values, so nothing hides."""

    needs_sessions = False
    grants: tuple[Grant, ...] = ()
    client_kind: type[SimClient] | None = None

    def __init__(self, load: LoadOptions) -> None:
        self.load = load
        self.keys = [f"k{number}" for number in range(load.keys)]
        self._values = 0
        self._unknown: Counter[str] = Counter()

    def fit(self, options: SwarmOptions) -> SwarmOptions:
        """Leave the options as they are."""
        return options

    def note_unknown(self, plan: Plan) -> None:
        """Give a key up when too much about it is unknown: each such call doubles the work of the checker."""
        if plan.kind == "command" and plan.key in self.keys:
            self._unknown[plan.key] += 1
            if self._unknown[plan.key] >= UNKNOWN_PER_KEY_MAX:
                self.keys[self.keys.index(plan.key)] = f"k{len(self._unknown) + len(self.keys)}"

    def _read_kind(self, rng: Random) -> CallKind | None:
        """Return the kind of read if the next call is to be one."""
        if rng.random() >= self.load.reads:
            return None
        return "stale" if rng.random() < self.load.stale_reads else "linearizable"

    def _unique(self) -> str:
        self._values += 1
        return f"v{self._values}"


class RegisterWorkload(Keyed):
    """Reads, writes and compare-and-sets of a few registers."""

    machine: type[StateMachine] = Registers
    model: Model = Register()

    def __init__(self, load: LoadOptions) -> None:
        super().__init__(load)
        self._known: dict[str, object] = {}
        """For each key a value that it had once: a good guess for the next compare-and-set."""

    def plan(self, rng: Random) -> Plan:
        """Return the next call of some client."""
        key = rng.choice(self.keys)
        read = self._read_kind(rng)
        if read is not None:
            return Plan(read, "read", key)
        if rng.random() < 0.5:
            return Plan("command", "cas", key, (self._known.get(key), self._unique()))
        return Plan("command", "write", key, (self._unique(),))

    def note_result(self, plan: Plan, result: object) -> None:
        """Remember the latest value seen."""
        if plan.method == "read":
            self._known[plan.key] = result
        elif plan.method == "write" or result is True:
            self._known[plan.key] = plan.arguments[-1]

    def final_plans(self) -> list[Plan]:
        """Write and read every key."""
        writes = [Plan("command", "write", key, (self._unique(),)) for key in self.keys]
        return [*writes, *(Plan("linearizable", "read", key) for key in self.keys)]


class TallyWorkload(Keyed):
    """Additions to a few counters: a command executed twice, or not at all, shows in every later result."""

    machine: type[StateMachine] = Tally
    model: Model = CounterModel()

    def plan(self, rng: Random) -> Plan:
        """Return the next call of some client."""
        key = rng.choice(self.keys)
        read = self._read_kind(rng)
        if read is not None:
            return Plan(read, "read", key)
        return Plan("command", "add", key, (1,))

    def note_result(self, plan: Plan, result: object) -> None:
        """Nothing to learn."""

    def final_plans(self) -> list[Plan]:
        """Add to and read every key."""
        adds = [Plan("command", "add", key, (1,)) for key in self.keys]
        return [*adds, *(Plan("linearizable", "read", key) for key in self.keys)]


class StoreWorkload(Keyed):
    """The versioned key/value store of 6.5840: puts, sets, deletes and gets."""

    model: Model = VersionedStore(initial=NEW)

    def __init__(self, load: LoadOptions) -> None:
        super().__init__(load)
        self.machine: type[StateMachine] = KeyValueStore
        self._versions: dict[str, int] = {}
        """For each key a version that it had once: a good guess for the next conditional put."""

    def plan(self, rng: Random) -> Plan:
        """Return the next call of some client."""
        key = rng.choice(self.keys)
        read = self._read_kind(rng)
        if read is not None:
            return Plan(read, "get", key)
        value = self._unique().encode()
        draw = rng.random()
        if draw < 0.1:
            return Plan("command", "delete", key)
        if draw < 0.3:
            return Plan("command", "set", key, (value,))
        return Plan("command", "put", key, (value, self._versions.get(key, 0)))

    def note_result(self, plan: Plan, result: object) -> None:
        """Remember the latest version seen."""
        if plan.method == "get" and isinstance(result, tuple | list):
            self._versions[plan.key] = result[1]
        elif isinstance(result, int) and not isinstance(result, bool):
            self._versions[plan.key] = result

    def final_plans(self) -> list[Plan]:
        """Write and read every key."""
        writes = [Plan("command", "set", key, (self._unique().encode(),)) for key in self.keys]
        return [*writes, *(Plan("linearizable", "get", key) for key in self.keys)]


class HostileStoreWorkload(StoreWorkload):
    """The store, and a client that means harm beside its honest ones (`cluster.hostile`)."""

    def fit(self, options: SwarmOptions) -> SwarmOptions:
        """Let the hostile client come, and leave room beside its sessions: the others must be served."""
        load = msgspec.structs.replace(options.load, hostile_rate=HOSTILE_FRAMES_PER_S)
        tuning = msgspec.structs.replace(options.tuning, sessions_max=1_000)
        return msgspec.structs.replace(options, load=load, tuning=tuning)
