"""What a viewstamped cluster has told, as a transcript."""

from pathlib import Path

from tests.protocols import transcripts
from tests.protocols.viewstamped.harness import Cluster


def check_transcript(name: str, cluster: Cluster) -> None:
    """Compare what a cluster has told with the transcript of this name (`tests.protocols.transcripts`)."""
    transcripts.check_transcript(Path(__file__).parent, name, cluster.transcript)
