"""Put the figures of benchmarks/results into docs/benchmarks.md, and draw its pictures. By hand: nothing.

    python -m benchmarks.document

What stands between `<!-- NAME -->` and `<!-- end -->` is replaced; the rest of the page is prose.
"""

import json
import re
import sys
from collections.abc import Callable
from statistics import median
from typing import Any, Final

from benchmarks import micro, service, tables
from benchmarks.limits import limits_table
from benchmarks.peers import PEERS
from benchmarks.peers.base import ROOT
from benchmarks.ratios import SMALL, Row

PAGE: Final = ROOT / "docs" / "benchmarks.md"
PICTURES: Final = ROOT / "docs" / "images"
RESULTS: Final = ROOT / "benchmarks" / "results"
QUIET_CORES: Final = 0.05
"""Less than this used by others on average: the machine was idle."""


def load(name: str) -> Any:
    """Return the figures of one program; None: it was never run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def circumstances(compared: dict[str, Any]) -> str:
    """Say on what, with what and beside what the comparison was measured."""
    machine, rows = compared["machine"], compared["rows"]
    others = median(row["cores"]["others"] for row in rows)
    idle = "the machine was idle otherwise" if others < QUIET_CORES else "**the machine was not idle**"
    rounds = max(row["round"] for row in rows)
    seconds = sorted({row["seconds"] for row in rows})
    versions = {name.partition("-")[0]: version for name, version in compared["versions"].items()}
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if version != "-")
    return (
        f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"Python {machine['python']}; {named}. {rounds} rounds, {seconds[0]:g} s for each measurement; "
        f"{idle} (other programs used {others:.2f} cores, median)."
    )


def comparison_blocks(compared: dict[str, Any]) -> dict[str, str]:
    rows: list[Row] = compared["rows"]
    blocks = {"circumstances": circumstances(compared), "ratios": tables.ratio_table(rows)}
    blocks["connections"] = tables.connections([row for row in rows if PEERS[row["peer"]].connects])
    for workload in ("writes", "reads"):
        blocks[f"effort-{workload}"] = tables.effort(rows, workload, SMALL)
    for workload, value_bytes in tables.kinds(rows):
        blocks[f"{workload}-{value_bytes}"] = tables.figures(rows, workload, value_bytes)
    return blocks


def blocks() -> dict[str, str]:
    """Return the content of every block of which there are figures."""
    found: dict[str, str] = {}
    sources: dict[str, Callable[[Any], dict[str, str]]] = {
        "compare": comparison_blocks,
        "wait": lambda waited: {"waiting": limits_table(waited)},
        "service": lambda rows: {"service": service.table(rows)},
        "micro": lambda rows: {"micro": micro.table(rows)},
    }
    for name, make in sources.items():
        content = load(name)
        if content is not None:
            found.update(make(content))
    return found


def replaced(page: str, contents: dict[str, str]) -> str:
    """Return the page with these blocks.

    Raises:
        KeyError: the page lacks one of them.
    """
    for name, content in contents.items():
        pattern = re.compile(rf"<!-- {re.escape(name)} -->\n.*?<!-- end -->", re.DOTALL)
        if not pattern.search(page):
            raise KeyError(f"{PAGE.name} has no block <!-- {name} -->")
        block = f"<!-- {name} -->\n{content}\n<!-- end -->"
        page = pattern.sub(lambda _, block=block: block, page)  # type: ignore[misc]
    return page


def main() -> int:
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), blocks()), encoding="utf-8")
    compared = load("compare")
    if compared is not None:
        from benchmarks import plots  # only here matplotlib is needed

        plots.all_of(compared["rows"], PICTURES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
