"""The committed ledger of campaigns: a Markdown table to which every long campaign adds a line."""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Final

from viewstamp.core.errors import ConfigurationError
from viewstamp.sim.run.campaign import CampaignSummary
from viewstamp.storage.files import open_regular, read_named

_LEDGER_BYTES_MAX: Final = 16 << 20
HEADING: Final = """# Simulation ledger

What was simulated, a line for each long campaign (`make soak`). A campaign ends at its first violation; what
each was stands in [bugs](bugs.md), with its seed.

| version | protocol | seeds | run | simulated hours | events | operations | faults | violations |
|---|---|---|---|---|---|---|---|---|
"""


def ledger_line(protocol: str, seeds: str, summary: CampaignSummary) -> str:
    """Return a campaign as a line of the table."""
    operations = sum(summary.operations[outcome] for outcome in ("ok", "raised", "failed", "unknown"))
    cells = (
        version("viewstamp"),
        protocol,
        seeds,
        f"{summary.seeds:,}",
        f"{summary.virtual_hours:.1f}",
        f"{summary.events:,}",
        f"{operations:,}",
        f"{sum(summary.faults.values()):,}",
        str(len(summary.failed)),
    )
    return f"| {' | '.join(cells)} |\n"


def next_seed(path: Path, protocol: str) -> int:
    """Return the first seed above all that the ledger has of a protocol; 0 where there is no ledger yet.

    Raises:
        ConfigurationError: the file is not a ledger.
    """
    if not os.path.lexists(path):
        return 0
    try:
        text = read_named(path, bytes_max=_LEDGER_BYTES_MAX).decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not a ledger: it is not text") from None
    rows = [line.split(" | ") for line in text.splitlines()]
    ranges = [row[2] for row in rows if len(row) > 2 and row[1] == protocol]
    try:
        return max((int(seeds.partition("..")[2]) + 1 for seeds in ranges), default=0)
    except ValueError:
        raise ConfigurationError(
            f"{path} is not a ledger: its seeds are not written as FIRST..LAST"
        ) from None


def append_to_ledger(path: Path, protocol: str, seeds: str, summary: CampaignSummary) -> None:
    """Add a line to the file, and its heading where it is new. Raises `OSError`."""
    is_new = not os.path.lexists(path)
    descriptor = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with os.fdopen(descriptor, "a", encoding="utf-8") as ledger:
        if is_new:
            ledger.write(HEADING)
        ledger.write(ledger_line(protocol, seeds, summary))
