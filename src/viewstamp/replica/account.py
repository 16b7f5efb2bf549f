"""What a replica says of itself, to its driver, operators and tests. Nothing here changes it."""

from collections.abc import Iterator

import msgspec

from viewstamp.core.ids import Instant, NodeId, View, Viewstamp
from viewstamp.core.protocol import Core, Status
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.alarms import Alarms
from viewstamp.replica.batches import IN_FLIGHT_MAX, BatchBuffer, InFlightBatches
from viewstamp.replica.directives import Directives
from viewstamp.replica.disk_watch import DiskWatch
from viewstamp.replica.divergence import Divergence
from viewstamp.replica.events import Halt
from viewstamp.replica.exports import Exports
from viewstamp.replica.log_clock import LogClock
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.reads import Reads
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.replica.responses import Responses
from viewstamp.replica.waits import Waits


class Account:
    """The parts of a replica, and what can be asked of them. `replica.Replica` makes and changes them."""

    __slots__ = (
        "_alarms",
        "_buffer",
        "_clock",
        "_directives",
        "_disk",
        "_divergence",
        "_exports",
        "_halt",
        "_in_flight",
        "_now",
        "_responses",
        "_state",
        "core",
        "definition",
        "fingerprint",
        "node",
        "options",
        "reads",
        "waits",
        "warnings",
    )

    node: NodeId
    fingerprint: int
    """Of the class; 0: not known."""
    options: ReplicaOptions
    definition: MachineDefinition
    core: Core
    reads: Reads
    """The queries that wait. The driver, which has a clock, sets how many are evaluated at once."""
    waits: Waits
    """The queries that wait until they have something to tell."""
    warnings: tuple[str, ...]
    """What the driver wants to be said in each status."""
    _alarms: Alarms
    _buffer: BatchBuffer
    _clock: LogClock
    _directives: Directives
    _disk: DiskWatch
    _divergence: Divergence
    _exports: Exports
    _halt: Halt | None
    _in_flight: InFlightBatches
    _now: Instant
    _responses: Responses
    _state: ReplicatedState

    @property
    def deadline(self) -> Instant | None:
        """The next moment at which it has to be woken; in the past means at once. None: never."""
        if self._halt is not None:
            return None
        core = self.core
        if self._divergence.busy and self._divergence.withholds:
            return min(self._divergence.deadline, core.deadline or self._divergence.deadline)
        if (
            (self._buffer.messages and core.accepting)
            or self.reads.gathered
            or self.reads.ready
            or self.waits.ready
            or (self._responses.addresses.arrived and core.leader == self.node)
        ):
            return self._now
        deadline = core.deadline
        if self.waits.held or self._state.runner.has_alarms:  # seldom; this is asked several times an entry
            leads = core.leader == self.node and core.accepting
            alarm = self._alarms.moment(self._state) if leads else None
            moments = [each for each in (deadline, self.waits.due, alarm) if each is not None]
            deadline = min(moments, default=None)
        return deadline

    @property
    def leader(self) -> NodeId | None:
        """The member that clients should talk to, as far as this node knows."""
        return self.core.leader

    @property
    def view(self) -> View:
        """The current view of the protocol."""
        return self.core.view

    @property
    def machine(self) -> StateMachine:
        """The user's machine as of the last applied entry. Read-only for callers."""
        return self._state.runner.machine

    @property
    def state(self) -> ReplicatedState:
        """The replicated state, for invariants and tests."""
        return self._state

    @property
    def applied(self) -> Viewstamp:
        """The last entry that was applied."""
        return self._state.applied

    @property
    def has_waiting(self) -> bool:
        """Whether messages of clients wait to be proposed."""
        return bool(self._buffer.messages)

    @property
    def refused(self) -> int:
        """How many calls were refused since the start because too many, or too much, waited."""
        return self._responses.refused

    def commit_took_us(self, now: Instant) -> int | None:
        """Return how long ago the entry was proposed that was executed last; None: another node leads."""
        return self._clock.elapsed(now, self._state.log_time)

    @property
    def digest(self) -> int:
        """Digest of all results so far: equal at equal `applied` on all replicas."""
        return self._state.chain.digest

    @property
    def halted(self) -> str | None:
        """Why this replica has stopped permanently; None while it works."""
        return None if self._halt is None else self._halt.reason

    def status(self, now: Instant) -> Status:
        """Return this node's own account of itself."""
        status = self._disk.account(self.core.status(now), now)
        why = self._divergence.describe() if self._halt is None else self._halt.reason
        return msgspec.structs.replace(
            status,
            waiting_for=why or status.waiting_for,
            warnings=self.warnings,
            log_time=self._state.log_time,
            budgets=tuple(self.queues()),
            fingerprint=self.fingerprint,
            versions=self._state.versions_status(),
            digests=self._divergence.digests,
        )

    def warn(self, warnings: tuple[str, ...]) -> None:
        """From now on say these lines in each status."""
        self.warnings = warnings

    def queues(self) -> Iterator[tuple[str, int, int]]:
        """Yield what waits or is remembered here: (what, how much, how much at most)."""
        options, sessions = self.options, self._state.sessions
        yield "commands waiting", self._buffer.commands, options.gathered_commands_max
        yield "bytes waiting", self._buffer.size_bytes, options.gathered_bytes_max
        yield "queries waiting", len(self.reads), options.reads_max
        yield "watches", len(self.waits), options.waits_max
        yield from self._exports.usage()
        yield "directives in flight", len(self._directives), options.directives_max
        yield "clients known", len(self._responses.addresses), options.clients_max
        yield "own batches in flight", len(self._in_flight), IN_FLIGHT_MAX
        yield "sessions", len(sessions), sessions.limits.sessions_max
        yield "bytes of results", sessions.result_bytes, sessions.limits.result_bytes_max
