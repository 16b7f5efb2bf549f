"""What a run is asked to be, as data that travels between processes."""

from typing import Final

import msgspec

EVENTS_MAX: Final = 40_000
"""A safety phase ends after so many events, however little time has passed."""
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

    @property
    def is_of_own_machine(self) -> bool:
        """Whether the machine is not one of the library's."""
        return self.workload is not None and ":" in self.workload

    @property
    def replay(self) -> str:
        """The command that repeats this run."""
        parts = [f"viewstamp sim --protocol {self.protocol} --seed {self.seed}"]
        if self.nodes is not None:
            parts.append(f"--nodes {self.nodes}")
        if self.duration_us is not None:
            parts.append(f"--duration-ms {self.duration_us // 1_000}")
        if self.workload is not None:
            parts.append(f"--workload {self.workload}")
        parts += [f"--without {name}" for name in self.without]
        return " ".join(parts)
