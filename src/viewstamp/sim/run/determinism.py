"""The same run in another process, whose strings have other hashes: I22, for machines of users.

Code that iterates over a set of strings, or reads anything of its host, gives another run there.
"""

import os
import subprocess
import sys
from typing import Final

import msgspec

from viewstamp.sim.run.plan import RunPlan, RunReport, Violation

NAME: Final = "I22 Deterministic"
_RUN: Final = (
    "import sys; from viewstamp.sim.run.campaign import run_chunk; "
    "sys.stdout.buffer.write(run_chunk(sys.stdin.buffer.read()))"
)


def checked_elsewhere(report: RunReport) -> RunReport:
    """Run the plan of this report again in another process; return the report, or that the runs differ."""
    if not report.ok:
        return report
    second = run_elsewhere(report.plan)
    if second is not None and second.trace_hash == report.trace_hash:
        return report
    how = "ended differently" if second is None or not second.ok else f"has the trace {second.trace_hash}"
    explanation = (
        f"the same run {how} in a process with another PYTHONHASHSEED: does the machine depend on the order "
        "of a set, on a clock, or on anything else that is not its state?"
    )
    return msgspec.structs.replace(report, violation=Violation(NAME, explanation, report.virtual_us))


def run_elsewhere(plan: RunPlan) -> RunReport | None:
    """Return the report of a fresh process with other hashes; None: it ended without one."""
    hashes = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    done = subprocess.run(  # noqa: S603  this interpreter, and nothing that comes from outside
        [sys.executable, "-c", _RUN],
        input=msgspec.json.encode([plan]),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": hashes},
        check=False,
    )
    return msgspec.json.decode(done.stdout, type=list[RunReport])[0] if done.returncode == 0 else None
