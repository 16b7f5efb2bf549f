"""What came out of one run, as data that travels between processes."""

import msgspec

from viewstamp.sim.run.plan import RunPlan


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
