"""The table of docs/fuzz-ledger.md: how many inputs each target was run on, ever."""

import re
from pathlib import Path
from typing import Final

_ROW: Final = re.compile(r"^\| `(\w+)` \| ([\d,]+) \| (\d+) \|$", re.MULTILINE)
_HEAD: Final = """# Fuzzing: what was run

Coverage-guided fuzzing with atheris (`make fuzz`), added up over all runs.
A target is a decoder, or `step` of a protocol that hostile members talk to (`fuzz/targets.py`).
A finding is an input that raised what the target does not allow; the code was corrected after each.
`tests/fuzz/test_corpus.py` runs every target on the corpus in `fuzz/corpus`.

| target | inputs | findings |
|---|---:|---:|
"""


class Ledger:
    """A file that is read and written again by each run."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self) -> dict[str, tuple[int, int]]:
        """Return (inputs, findings) by target."""
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        return {
            name: (int(inputs.replace(",", "")), int(found)) for name, inputs, found in _ROW.findall(text)
        }

    def add(self, name: str, inputs: int, findings: int) -> None:
        """Add a run of one target."""
        rows = self.rows()
        before = rows.get(name, (0, 0))
        rows[name] = (before[0] + inputs, before[1] + findings)
        lines = [f"| `{key}` | {count:,} | {found} |" for key, (count, found) in sorted(rows.items())]
        total = f"In total {sum(count for count, _ in rows.values()):,} inputs."
        self._path.write_text(_HEAD + "\n".join([*lines, "", total, ""]), encoding="utf-8")
