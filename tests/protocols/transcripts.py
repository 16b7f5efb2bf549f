"""Transcripts as prose: what happened, line by line, compared with a file that a person has read.

`VIEWSTAMP_REWRITE_TRANSCRIPTS=1` in the environment writes the files again: commit the difference only if you
can explain it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

_REWRITE = "VIEWSTAMP_REWRITE_TRANSCRIPTS"


def check_transcript(folder: Path, name: str, lines: Sequence[str]) -> None:
    """Compare what was told with the transcript of this name beside a protocol's tests, or rewrite it.

    Raises:
        AssertionError: they differ; the message says how to look at it.
    """
    path = folder / "transcripts" / f"{name}.txt"
    told = "\n".join(lines).strip() + "\n"
    if os.environ.get(_REWRITE):
        path.parent.mkdir(exist_ok=True)
        path.write_text(told, encoding="utf-8")
    expected = path.read_text(encoding="utf-8")
    assert told == expected, f"{path.name} tells another story: rewrite it with {_REWRITE}=1"
