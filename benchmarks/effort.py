"""Processor time: what a measurement used, and what others on the machine used meanwhile."""

import os
from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_IDLE_FIELDS: Final = (3, 4)
"""Of the first line of /proc/stat: idle, and waiting for input and output."""
_USED_FIELDS: Final = (11, 12)
"""Of a process's stat, behind its name: in user mode, and in the kernel."""
_FIELDS_UNTIL_GUEST: Final = 8


def processor_s(pids: Iterable[int]) -> float:
    """Return the seconds of processor time that these processes have used so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(fields[at]) for at in _USED_FIELDS)
    return ticks / _TICKS


def machine_busy_s() -> float:
    """Return the seconds that the cores of this machine were not idle, all together, since it started."""
    first = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    fields = [int(field) for field in first[:_FIELDS_UNTIL_GUEST]]
    return (sum(fields) - sum(fields[at] for at in _IDLE_FIELDS)) / _TICKS


class Used(msgspec.Struct, frozen=True):
    """Cores in use, on average over a measurement."""

    servers: float
    load: float
    others: float
    """By programs that have no part in the measurement. More than a few percent: read ratios only."""


class Meter:
    """Measures from when it is made until `read`."""

    def __init__(self, servers: list[int], load: list[int]) -> None:
        self._servers = servers
        self._load = load
        self._at = self._sample()

    def _sample(self) -> tuple[float, float, float, float]:
        return monotonic(), processor_s(self._servers), processor_s(self._load), machine_busy_s()

    def read(self) -> Used:
        """Return the averages so far."""
        elapsed, servers, load, busy = (
            now - then for now, then in zip(self._sample(), self._at, strict=True)
        )
        others = max(0.0, busy - servers - load)
        return Used(round(servers / elapsed, 3), round(load / elapsed, 3), round(others / elapsed, 3))
