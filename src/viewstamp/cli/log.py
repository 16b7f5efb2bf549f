"""`viewstamp log export` and `log follow`: the committed entries of a running cluster on standard output."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from viewstamp.cli.backup import choose_node
from viewstamp.cli.failures import DONE
from viewstamp.cli.journal_skip import parse_viewstamp
from viewstamp.cli.target import CLUSTER_FILE, check_member, check_timeout, load_cluster
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import ORIGIN, Viewstamp
from viewstamp.runtime.log_reading import LogReader, wait_for_more, wall_time_ms


def export(
    *,
    after: Annotated[str | None, Parameter(help="Only entries after this one, VIEW.SEQNO.")] = None,
    cluster: Annotated[Path, Parameter(help="Cluster file.")] = Path(CLUSTER_FILE),
    node: Annotated[
        int | None, Parameter(name="--from", help="The member to read from; otherwise a follower.")
    ] = None,
    timeout: Annotated[float, Parameter(help="Seconds until a question to a node is given up.")] = 60.0,
) -> int:
    """Write the committed entries, up to now, as a stream to standard output."""
    return _write(after, cluster, node, timeout, follow=False)


def follow(
    *,
    after: Annotated[str | None, Parameter(help="Only entries after this one, VIEW.SEQNO.")] = None,
    cluster: Annotated[Path, Parameter(help="Cluster file.")] = Path(CLUSTER_FILE),
    node: Annotated[
        int | None, Parameter(name="--from", help="The member to read from; otherwise a follower.")
    ] = None,
    timeout: Annotated[float, Parameter(help="Seconds until a question to a node is given up.")] = 60.0,
) -> int:
    """Write the committed entries as a stream to standard output, and go on with each new one.

    There is no gap between two runs: give the last viewstamp that was read to --after. Where the member has
    forgotten the entries after it, the command says so and ends with code 1.
    """
    return _write(after, cluster, node, timeout, follow=True)


def _write(after: str | None, cluster: Path, node: int | None, timeout: float, *, follow: bool) -> int:
    config = load_cluster(cluster)
    begin = _position(after)
    chosen = None if node is None else check_member(config, node)
    out = sys.stdout.buffer
    if out.isatty():
        raise ConfigurationError("a stream is not text: send it to a file or to another program")
    source = choose_node(config, chosen, check_timeout(timeout))
    with LogReader(config, source, timeout_s=timeout) as reader:
        upto = None if follow else reader.position().seqno
        collector = reader.collector()
        for piece in collector.log(begin, wall_time_ms()):
            out.write(piece)
        while True:
            for piece in collector.entries(upto=upto):
                out.write(piece)
            out.flush()
            if upto is not None and collector.encoder.progress.last.seqno >= upto:
                break
            wait_for_more()
        out.write(collector.encoder.end())
    out.flush()
    return DONE


def _position(after: str | None) -> Viewstamp:
    return ORIGIN if after is None else parse_viewstamp(after)
