"""`rsm_tests [-s SEED] [-n ROUNDS] [-k] [numbers]`: tests 0 to 16, stricter, with real processes.

Each test has a temporary folder and its own ports. What a seed decides is drawn for each test by itself, so
one number of a run can be run again alone. Each round has the seed after that of the round before. With -k
the folder of a test that failed is kept. Numbers above 16 are tests of our own.
"""

import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from viewstamp.core.errors import ViewstampError
from viewstamp_labs.lab6824.arguments import EXIT_USAGE
from viewstamp_labs.lab6824.group import Group, draw_ports
from viewstamp_labs.lab6824.scenarios import COURSE, TESTS
from viewstamp_labs.lab6824.waiting import Failed

EXIT_FAILED: Final = 1
_SEED_BITS: Final = 31
_USAGE: Final = "usage: rsm_tests [-s SEED] [-n ROUNDS] [-k] [numbers of tests]\n"


def main(arguments: list[str]) -> int:
    """Run the tests and return the exit code."""
    wanted = parse(arguments)
    if wanted is None:
        sys.stderr.write(_USAGE)
        return EXIT_USAGE
    # Ending this program ends its servers too: the exception leaves every `with` block.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_FAILED))
    for seed in range(wanted.seed, wanted.seed + wanted.rounds):
        print(f"seed {seed}", flush=True)
        for number in wanted.numbers:
            if run_test(number, seed, keep=wanted.keep) is not None:
                print(f"again with: rsm_tests -s {seed} {number}", flush=True)
                return EXIT_FAILED
    print("tests done OK")
    return 0


class Wanted(NamedTuple):
    """What a command line asks for."""

    seed: int
    rounds: int
    keep: bool
    """Keep the folder of a test that failed."""
    numbers: list[int]


def parse(arguments: list[str]) -> Wanted | None:
    """Return what is asked for; None: that is not a command line."""
    values = {"-s": secrets.randbits(_SEED_BITS), "-n": 1}
    keep, numbers = False, []
    rest = iter(arguments)
    for argument in rest:
        if argument in values:
            text = next(rest, "")
            if not text.isdecimal():
                return None
            values[argument] = int(text)
        elif argument == "-k":
            keep = True
        elif argument.isdecimal() and int(argument) in TESTS:
            numbers.append(int(argument))
        else:
            return None
    if not values["-n"]:
        return None  # zero rounds is a failure
    return Wanted(values["-s"], values["-n"], keep, numbers or list(COURSE))


def run_test(number: int, seed: int, *, keep: bool = False) -> str | None:
    """Run one test, say how it ended, and return why it failed or None."""
    rng = Random(f"{seed} {number}")  # noqa: S311  it must be the same again
    scenario = TESTS[number]
    folder = Path(tempfile.mkdtemp(prefix=f"rsm-tests-{number}-"))
    begun = time.monotonic()
    failure = None
    try:
        with Group(folder / "group", draw_ports(rng)) as group:
            scenario(group, rng)
            group.finish()
    except (Failed, ViewstampError, AssertionError) as error:
        failure = str(error)
    how = "passed" if failure is None else f"FAILED: {failure}"
    print(f"test{number}: {scenario.__doc__ or ''} ... {how} ({time.monotonic() - begun:.1f} s)", flush=True)
    if failure is not None and keep:
        print(f"its folder is {folder}", flush=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return failure
