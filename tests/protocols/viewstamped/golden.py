"""Transcripts as prose: what happened, line by line, compared with a file that a person has read.

`VIEWSTAMP_REWRITE_TRANSCRIPTS=1` in the environment writes the files anew: commit the difference only if you
can explain it.
"""

import os
from pathlib import Path

from tests.protocols.viewstamped.harness import Cluster

FOLDER = Path(__file__).parent / "transcripts"


def check_transcript(name: str, cluster: Cluster) -> None:
    """Compare what a cluster has told with the file of this name."""
    path = FOLDER / f"{name}.txt"
    told = "\n".join(cluster.transcript) + "\n"
    if os.environ.get("VIEWSTAMP_REWRITE_TRANSCRIPTS"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(told, encoding="utf-8")
    assert told == path.read_text(encoding="utf-8"), f"{name}: set VIEWSTAMP_REWRITE_TRANSCRIPTS=1 to rewrite"
