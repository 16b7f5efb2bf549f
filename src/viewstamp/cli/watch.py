"""`viewstamp kv watch`, `kv history`: what changes in the store, and what has."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from viewstamp.cli.failures import DONE, REFUSED, complain
from viewstamp.cli.kv import check_key, shown
from viewstamp.cli.output import quoted, show_json
from viewstamp.cli.target import CLUSTER_FILE, check_timeout, client_tls, client_token, locate
from viewstamp.clients.coordination_blocking import BlockingCoordination
from viewstamp.clients.watch_documents import document_of
from viewstamp.core.errors import ConfigurationError
from viewstamp.services.store import CoordinationStore
from viewstamp.services.store.types import Event
from viewstamp.services.store.watching import Changes, Progress, Resync, Told

ClusterFile = Annotated[Path, Parameter(help="Cluster file.")]
Servers = Annotated[str | None, Parameter(help="HOST:PORT,... of members, instead of a file.")]
Timeout = Annotated[float, Parameter(help="Seconds until a call is given up.")]
AsJson = Annotated[bool, Parameter(negative="", help="Print JSON, one object a line.")]


@contextmanager
def coordination_at(cluster: Path, servers: str | None, timeout: float) -> Iterator[BlockingCoordination]:
    """Connect, and give everything back at the end."""
    tls = None if servers is None else client_tls()
    with BlockingCoordination(
        locate(cluster, servers), timeout_s=check_timeout(timeout), token=client_token(), tls=tls
    ) as client:
        yield client


def watch(
    prefix: Annotated[str, Parameter(help="Keys that begin with this; all if empty.")] = "",
    /,
    *,
    after: Annotated[int | None, Parameter(help="From this revision on; else from now on.")] = None,
    events: Annotated[int | None, Parameter(help="End after this number of events.")] = None,
    json: AsJson = False,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Timeout = 10.0,
) -> None:
    """Print what changes, as long as it runs: each change once, in order, whichever servers fail.

    A line is a revision, what happened, and the key. Where the history no longer reaches back, all keys are
    printed as they are, and then what changes.
    """
    if prefix:
        check_key(prefix)
    if after is not None and after < 0:
        raise ConfigurationError(f"--after {after}: a revision is 0 or more")
    if events is not None and events < 1:
        raise ConfigurationError(f"--events {events}: give 1 or more")
    left = events
    with coordination_at(cluster, servers, timeout) as client:
        for told in client.kv.watch(prefix, after=after):
            if json:
                show_json(document_of(told))
            else:
                for line in lines_of(told):
                    print(line, flush=True)
            if left is not None and (left := left - _size(told)) <= 0:
                return


def history(
    key: Annotated[str, Parameter(help="The key.")],
    /,
    *,
    json: AsJson = False,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Timeout = 10.0,
) -> int:
    """Print the changes of a key that are kept, the oldest first. Exit code 1: there are none."""
    check_key(key)
    with coordination_at(cluster, servers, timeout) as client:
        try:
            changes = client.kv.history(key)
        except CoordinationStore.raises as error:
            complain(str(error))
            return REFUSED
    for change in changes:
        if json:
            show_json(document_of(change))
        else:
            print("\n".join(lines_of(change)))
    if not changes:
        complain(f"no change of {quoted(key)} is kept")
    return DONE if changes else REFUSED


def _size(told: Told) -> int:
    return len(told.events) if isinstance(told, Changes) else 0


def lines_of(told: Told) -> Iterator[str]:
    """Yield what a person reads."""
    match told:
        case Changes():
            for event in told.events:
                yield f"{told.revision}  {_line(event)}"
        case Resync():
            yield f"{told.revision}  resync: {len(told.items)} keys follow as they are"
            for item in told.items:
                yield f"{item.mod}  is  {shown(item.key)}  {shown(item.value)}"
        case Progress():
            return


def _line(event: Event) -> str:
    if event.item is None:
        return f"delete  {shown(event.key)}"
    return f"put  {shown(event.key)}  {shown(event.item.value)}"
