"""What a run is asked to do and what it reports, as data that travels between processes."""

from typing import Final

import msgspec

EVENTS_MAX: Final = 40_000
"""A safety phase ends after this many events, even if little time has passed."""
OPERATIONS_MAX: Final = 600


class RunPlan(msgspec.Struct, frozen=True):
    """What to run. Everything else follows from it."""

    protocol: str
    seed: int
    nodes: int | None = None
    """None: drawn."""
    duration_us: int | None = None
    without: tuple[str, ...] = ()
    """Options that are set to their harmless default, as `group.field` or `group`; shrinking makes these."""
    workload: str | None = None
    """A name in `WORKLOADS`, or MODULE:CLASS as `own_machine` takes it; None: drawn."""
    events_max: int = EVENTS_MAX
    operations_max: int = OPERATIONS_MAX
    runtime: bool = False
    """Whether the servers and clients of the runtime run, over simulated sockets and files, and not only the
    cores inside them (`viewstamp.simruntime`)."""
    tokens: bool = False
    """Whether the clients of the runtime prove their names by tokens that soon end."""

    @property
    def is_of_own_machine(self) -> bool:
        """Whether the machine is not one of the library's."""
        return self.workload is not None and ":" in self.workload

    @property
    def replay(self) -> str:
        """The command that repeats this run."""
        parts = [f"viewstamp sim --protocol {self.protocol} --seed {self.seed}"]
        if self.runtime:
            parts.append("--runtime")
        if self.tokens:
            parts.append("--tokens")
        if self.nodes is not None:
            parts.append(f"--nodes {self.nodes}")
        if self.duration_us is not None:
            parts.append(f"--duration-ms {self.duration_us // 1_000}")
        if self.workload is not None:
            parts.append(f"--workload {self.workload}")
        parts += [f"--without {name}" for name in self.without]
        return " ".join(parts)


class Violation(msgspec.Struct, frozen=True):
    """Why a run failed."""

    name: str
    """The invariant's stable name, or `Assertion` or `Crash` where none was named."""
    explanation: str
    at_us: int
    details: str = ""
    """More lines for people: a traceback, a counter-example."""


class RunReport(msgspec.Struct, frozen=True):
    """One run. Two runs of one seed and one version give equal reports."""

    plan: RunPlan
    options: str
    """Everything that differs from the defaults, in one line."""
    violation: Violation | None
    trace_hash: str
    events: int
    virtual_us: int
    operations: dict[str, int]
    """Calls by outcome: ok, raised, failed, unknown."""
    faults: dict[str, int]
    """How often each kind of fault had an effect."""
    rare: dict[str, int]
    """How often each rare state was reached."""
    committed: int
    """Entries in the one history."""

    @property
    def seed(self) -> int:
        """The seed of the plan."""
        return self.plan.seed

    @property
    def replay(self) -> str:
        """The command that repeats it."""
        return self.plan.replay

    @property
    def ok(self) -> bool:
        """Whether every invariant held and the service lived."""
        return self.violation is None
