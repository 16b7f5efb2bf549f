"""Migrations run in other processes, each with other hashes: what a clock or a set's order does, differs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import msgspec

from viewstamp.cli.output import printable
from viewstamp.cli.serve import load_machine
from viewstamp.core.errors import ConfigurationError
from viewstamp.replica.migration_check import Elsewhere, Unmigrated, migrated_digest

HASH_SEEDS: Final = ("1", "2", "3")
"""One process for each: two elements of a set have the same order in every second one."""
TIMEOUT_S: Final = 600
_COMPLAINT_CHARACTERS_MAX: Final = 300
_RUN: Final = (
    "import sys; sys.path[:] = sys.argv[2:]; from viewstamp.cli.migrated_elsewhere import answer; "
    "sys.stdout.buffer.write(answer(sys.argv[1], sys.stdin.buffer.read()))"
)


def answer(machine: str, question: bytes) -> bytes:
    """Migrate a state with the class at MODULE:CLASS; return the digest. This runs in the other process."""
    before = msgspec.msgpack.decode(question, type=Unmigrated)
    return msgspec.msgpack.encode(migrated_digest(load_machine(machine), before))


def elsewhere(machine: str) -> Elsewhere:
    """Return what migrates a state with the class at MODULE:CLASS in other processes.

    It raises `ConfigurationError` where one of them comes to no end: nothing is known then.
    """

    def run(before: Unmigrated) -> Iterator[int]:
        question = msgspec.msgpack.encode(before)
        for seed in HASH_SEEDS:
            yield msgspec.msgpack.decode(_ask(machine, question, seed), type=int)

    return run


def _ask(machine: str, question: bytes, hash_seed: str) -> bytes:
    # -P: else it begins in the current directory
    command = [sys.executable, "-P", "-c", _RUN, machine, *sys.path]
    try:
        done = subprocess.run(  # noqa: S603  this interpreter
            command,
            input=question,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"the migrations cannot be run in another process: {error}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it ended without a word"]
        why = printable(lines[-1][:_COMPLAINT_CHARACTERS_MAX])
        raise ConfigurationError(f"the migrations fail in another process, and not in this one: {why}")
    return done.stdout
