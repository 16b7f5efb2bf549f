"""`viewstamp restore`: a new cluster out of a backup."""

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from viewstamp.backup.execution import Execution, NotReproduced, entries_of
from viewstamp.backup.seeding import (
    LIFE_MAX,
    NewCluster,
    begin_new_life,
    check_new,
    draw_life,
    leap,
    require_empty,
    write_directory,
)
from viewstamp.cli.backup import told_time
from viewstamp.cli.failures import DONE
from viewstamp.cli.journal_skip import parse_viewstamp
from viewstamp.cli.output import printable
from viewstamp.cli.serve import STOCK_MACHINE, load_machine
from viewstamp.cli.stream_places import KeyFile, Source, header_of, records_of
from viewstamp.cli.target import check_member, load_cluster
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId, Viewstamp
from viewstamp.protocols.registry import protocol_definition
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.log_reading import wall_time_ms
from viewstamp.runtime.system import fresh_number
from viewstamp.storage.files import OsFileSystem
from viewstamp.storage.identity import IDENTITY_NAME
from viewstamp.stream.records import Header, LogEntry, Mark

_VIEWSTAMP: Final = re.compile(r"\d+\.\d+")


def restore(
    file: Annotated[str, Parameter(help="The backup: a file or the URL of an object.")],
    machine: Annotated[str, Parameter(help="The state machine, as MODULE:CLASS.")] = STOCK_MACHINE,
    /,
    *,
    cluster: Annotated[Path, Parameter(help="Cluster file of the new cluster.")],
    data: Annotated[Path, Parameter(help="Directory to make; without --node the folder for all.")],
    node: Annotated[int | None, Parameter(help="The member whose directory it is; otherwise all.")] = None,
    life: Annotated[int | None, Parameter(help="As printed when the first member was restored.")] = None,
    at: Annotated[str | None, Parameter(help="Stop at this entry, VIEW.SEQNO, or time, ISO 8601.")] = None,
    advance: Annotated[
        int | None, Parameter(help="How many positions to leave out; otherwise by the time since the backup.")
    ] = None,
    growing: Annotated[bool, Parameter(negative="", help="Accept a backup without an end: --log.")] = False,
    identity: KeyFile = None,
) -> int:
    """Make the data directories of a new cluster that goes on from a backup. Nothing is overwritten.

    The members are those of the cluster file: fewer or more than before, and of another protocol if you
    like. Every position moves ahead, so that no fencing token is used twice, and all sessions end.
    """
    config = load_cluster(cluster)
    config.check()
    source = Source(file, identity)
    header = header_of(source)
    new = NewCluster(config.cluster_id, config.protocol, config.node_ids, _life(life))
    check_new(new, header.cluster_id)
    left_out = leap(new.life, header.wall_time_ms // 1000) if advance is None else advance
    members = config.node_ids if node is None else (check_member(config, node),)
    folders = {member: data if node is not None else data / f"node-{member}" for member in members}
    _require_free(data, folders.values())
    stop = _stop(source, at, growing=growing)
    execution = Execution(load_machine(machine), header.limits)
    count = 0
    for entry in entries_of(records_of(source, growing=growing), execution):
        if entry.seqno > stop.seqno:
            break
        execution.execute(entry)
        count += 1
        if execution.state.chain.digest != entry.digest:
            raise NotReproduced(
                f"{machine} comes to other results at entry {entry.viewstamp}, so nothing was written: "
                "restore with the class that wrote the log, and see `viewstamp replay`"
            )
    reached = execution.state.applied
    viewstamp = begin_new_life(execution, advance=left_out)
    for member, folder in folders.items():
        if node is None:
            data.mkdir(parents=True, exist_ok=True)
        write_directory(OsFileSystem(), str(folder), new, member, execution)
        print(printable(f"{folder}: node {member} of {config.cluster_id}, goes on after {viewstamp}"))
    print(f"the state is that of entry {reached}, after {count} entries that were executed again")
    _advise(config, members, new, file)
    return DONE


def _require_free(data: Path, folders: Collection[Path]) -> None:
    """Raise `ConfigurationError` before anything is written, where one of the directories cannot be made."""
    if data not in folders and (data / IDENTITY_NAME).exists():
        raise ConfigurationError(
            f"{data} is the data directory of a node: nothing was written; name a directory that does not "
            "exist yet"
        )
    for folder in folders:
        require_empty(OsFileSystem(), str(folder))


def _life(given: int | None) -> int:
    if given is None:
        return draw_life(fresh_number(), wall_time_ms() // 1000)
    if not 0 < given <= LIFE_MAX:
        raise ConfigurationError(
            f"--life {given}: give the number that was printed for the first member, from 1 to {LIFE_MAX}"
        )
    return given


def _stop(file: Source, at: str | None, *, growing: bool) -> Viewstamp:
    """Read the whole stream, which proves that it is whole, and return the last entry to execute.

    Raises:
        ConfigurationError: the stream does not hold that moment.
    """
    limit_ms = None if at is None or _VIEWSTAMP.fullmatch(at) else _time_ms(at)
    first = last = reached = None
    known_ms = 0
    for record in records_of(file, growing=growing):
        if isinstance(record, Header):
            first = last = record.viewstamp
        elif isinstance(record, LogEntry):
            last = record.viewstamp
        if isinstance(record, Header | Mark):
            known_ms = record.wall_time_ms
            if limit_ms is not None and known_ms <= limit_ms:
                reached = last
    assert first is not None
    assert last is not None
    if at is None:
        return last
    if limit_ms is not None and limit_ms > known_ms:
        known = told_time(known_ms)
        print(printable(f"caution: {file} knows of nothing after {known}: its last state is taken"))
    wanted = reached if limit_ms is not None else parse_viewstamp(at)
    if wanted is None or not first.seqno <= wanted.seqno <= last.seqno:
        raise ConfigurationError(
            f"--at {at}: {file} holds the states from {first} to {last}; nothing was written"
        )
    return wanted


def _time_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"--at {text[:80]}: write an entry as VIEW.SEQNO, or a time such as 2026-11-30T12:00:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def _advise(config: ClusterConfig, members: Sequence[NodeId], cluster: NewCluster, file: str) -> None:
    """Say what is left to do."""
    others = [node for node in config.node_ids if node not in members]
    if others:
        print(
            f"restore the other members from the same file with --life {cluster.life}, each of them once: "
            f"viewstamp restore {file} ... --node {others[0]} --life {cluster.life}"
        )
    if protocol_definition(config.protocol).decided_by == "operator":
        print("start all members, then let one lead: viewstamp transfer --to ID")
    else:
        print("start all members of the new cluster")
    print(
        "a member whose directory is lost later starts with an empty one; never restore it again, because "
        "it would have forgotten what it promised"
    )
