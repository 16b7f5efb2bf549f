"""The same sequences in another process: with other hashes, as on another host, or with another Python."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from viewstamp.machine.definition import MachineDefinition
from viewstamp.sim.workloads.catalogue import make_workload
from viewstamp.sim.workloads.own_machine import OwnMachine
from viewstamp.sim.world.options import LoadOptions
from viewstamp.testing.steps import Step, draw_of, draw_steps
from viewstamp.testing.twins import digests, outcomes

_ANSWER: Final = (
    "from viewstamp.testing.elsewhere import answer; sys.stdout.buffer.write(answer(sys.stdin.buffer.read()))"
)
_RUN: Final = f"import sys; sys.path[:] = sys.argv[1:]; {_ANSWER}"
_RUN_OTHER: Final = f"import sys; sys.path += sys.argv[1:]; {_ANSWER}"
"""Another Python has packages of its own; only the user's folders are added."""
_PREFIXES: Final = (sys.prefix, sys.base_prefix)
TIMEOUT_S: Final = 60
_OTHER_HOST: Final = {"TZ": "VST-05:45", "LC_ALL": "C", "LANG": "C", "LANGUAGE": "C"}
"""What another server may have otherwise: its time zone, which this one hardly has, and its language."""


class Question(msgspec.Struct, frozen=True):
    """Which sequences of which class."""

    workload: str
    """MODULE:CLASS."""
    sequences: tuple[tuple[int, int, tuple[int, ...] | None], ...]
    """(seed, number of steps drawn, the places of those that are kept; None: all)."""


def steps_of(workload: OwnMachine, seed: int, count: int, kept: Sequence[int] | None = None) -> list[Step]:
    """Return the steps of a seed, or those of them that are kept."""
    steps = draw_steps(MachineDefinition.of(workload.machine), draw_of(workload), seed, count)
    return steps if kept is None else [steps[place] for place in kept]


def answer(question: bytes) -> bytes:
    """Run the sequences that were asked for; return the digests of what each call left behind."""
    asked = msgspec.json.decode(question, type=Question)
    workload = make_workload(asked.workload, LoadOptions())
    assert isinstance(workload, OwnMachine)
    definition = MachineDefinition.of(workload.machine)
    found = [
        digests(outcomes(definition, steps_of(workload, seed, count, kept)))
        for seed, count, kept in asked.sequences
    ]
    return msgspec.json.encode(found)


def ask(question: Question, python: str = sys.executable, *, as_host: bool = False) -> list[list[int]] | None:
    """Return the digests of another process; None: it ended without an answer.

    Args:
        question: what is run there.
        python: the interpreter.
        as_host: let the process find the time zone and the language of another host, too.
    """
    is_same = python == sys.executable
    folders = sys.path if is_same else [path for path in sys.path if not path.startswith(_PREFIXES)]
    hashes = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    try:
        done = subprocess.run(  # noqa: S603  an interpreter that its user names
            [
                python,
                "-P",
                "-c",
                _RUN if is_same else _RUN_OTHER,
                *folders,
            ],  # -P: else it begins in the current directory
            input=msgspec.json.encode(question),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **(_OTHER_HOST if as_host else {}), "PYTHONHASHSEED": hashes},
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return msgspec.json.decode(done.stdout, type=list[list[int]]) if done.returncode == 0 else None
