"""Events a second of the simulator on one core with every invariant on, judged histories included.

Run: python -m benchmarks.simulator [first_seed] [seeds] [protocol]   (about half a minute)
"""

import statistics
import sys
from time import process_time

from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import execute

WANTED = 20_000
ROUNDS = 3


def measure(protocol: str, first: int, seeds: int) -> tuple[int, int, float]:
    """Return events, simulated microseconds and seconds of processor time of these seeds."""
    events = virtual_us = 0
    started = process_time()
    for seed in range(first, first + seeds):
        report = execute(RunPlan(protocol, seed))
        assert report.ok, report.replay
        events += report.events
        virtual_us += report.virtual_us
    return events, virtual_us, process_time() - started


def main() -> None:
    first, seeds = (int(argument) for argument in (sys.argv[1:3] if len(sys.argv) > 2 else ("0", "60")))
    protocol = sys.argv[3] if len(sys.argv) > 3 else "raft"
    rates = []
    for _ in range(ROUNDS):
        events, virtual_us, seconds = measure(protocol, first, seeds)
        rates.append(events / seconds)
        print(
            f"{protocol}: {seeds} seeds, {events:,} events, {seconds:.1f} s of one core: "
            f"{events / seconds:,.0f} a second, {virtual_us / 1e6 / seconds:,.0f} times real time"
        )
    rate = statistics.median(rates)
    print(f"median {rate:,.0f} events a second; wanted: {WANTED:,}")
    sys.exit(0 if rate >= WANTED else 1)


if __name__ == "__main__":
    main()
