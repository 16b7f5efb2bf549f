"""`viewstamp backup`: a running cluster as one stream; `backup list` and `backup verify`: what is kept."""

import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Final

from cyclopts import Parameter

from viewstamp.backup.collecting import Compacted
from viewstamp.backup.execution import Execution, verify
from viewstamp.cli.failures import DONE
from viewstamp.cli.output import printable, show_json
from viewstamp.cli.serve import load_machine
from viewstamp.cli.status import ask_all
from viewstamp.cli.stream_files import (
    SUFFIX,
    GrowingFile,
    header_of,
    nothing_executed,
    records_of,
    write_whole,
)
from viewstamp.cli.target import CLUSTER_FILE, check_member, check_timeout, load_cluster
from viewstamp.core.errors import ConfigurationError, NotExecuted, ViewstampError
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.runtime.cluster_health import leader_of
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.log_reading import LogReader, wait_for_more, wall_time_ms
from viewstamp.stream.encoder import StreamEncoder
from viewstamp.stream.records import Chunk, End, Header, LogEntry, Mark, StreamDamaged

_MARK_EVERY_MS: Final = 1_000
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]")


def backup(
    target: Annotated[Path, Parameter(help="A file; a directory, in which it gets a name; - for a pipe.")],
    /,
    *,
    cluster: Annotated[Path, Parameter(help="Cluster file.")] = Path(CLUSTER_FILE),
    node: Annotated[
        int | None, Parameter(name="--from", help="The member to read from; otherwise a follower.")
    ] = None,
    log: Annotated[
        bool, Parameter(negative="", help="Go on with each entry that is committed, until interrupted.")
    ] = False,
    every: Annotated[str | None, Parameter(help="Take one each 30m, 1h, 1d, ... until interrupted.")] = None,
    keep: Annotated[str | None, Parameter(help="With --every: remove those older than 7d, ...")] = None,
    timeout: Annotated[float, Parameter(help="Seconds until a question to a node is given up.")] = 60.0,
) -> int:
    """Back up a running cluster: all that was acknowledged before, at one position of the log.

    Nothing stops. The stream comes from a follower, which takes a snapshot beside its work.
    """
    config = load_cluster(cluster)
    chosen = None if node is None else check_member(config, node)
    check_timeout(timeout)
    if log:
        if every is not None or keep is not None or str(target) == "-":
            raise ConfigurationError("--log goes on by itself in a file: leave out --every and --keep")
        return _grow(config, chosen, _file_in(target, config.cluster_id), timeout)
    if str(target) == "-":
        if every is not None or keep is not None:
            raise ConfigurationError("one backup fits into a pipe: leave out --every and --keep")
        return _to_output(config, chosen, timeout)
    pause_s, age_s = _seconds("--every", every), _seconds("--keep", keep)
    if age_s is not None and pause_s is None:
        raise ConfigurationError("--keep needs --every: a single backup removes nothing")
    while True:
        _take(config, chosen, target, timeout)
        if pause_s is None:
            return DONE
        if age_s is not None:
            _remove_old(target, age_s)
        Event().wait(pause_s)


def list_backups(
    target: Annotated[Path, Parameter(help="A directory with backups, or one file.")],
    /,
    *,
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
) -> int:
    """Show the backups in a directory, oldest first: of which cluster, when, up to where, and how large."""
    paths = sorted(target.glob(f"*{SUFFIX}")) if target.is_dir() else [target]
    for path in paths:
        try:
            header = header_of(path)
        except StreamDamaged as error:
            print(printable(str(error)))
            continue
        line = {"file": str(path), **_about(header), "bytes": path.stat().st_size}
        if json:
            show_json(line)
        else:
            print(printable("  ".join(f"{key} {value}" for key, value in line.items())))
    return DONE


def verify_backup(
    file: Annotated[Path, Parameter(help="The backup.")],
    machine: Annotated[str | None, Parameter(help="The state machine, as MODULE:CLASS.")] = None,
    /,
    *,
    growing: Annotated[
        bool, Parameter(negative="", help="It is still being written: its end may be missing.")
    ] = False,
) -> int:
    """Read all of a backup; with the class restore it in memory and execute its entries again.

    Proves that the bytes are those that were written and, with the class, that today's code comes to the
    same results. Changes nothing.
    """
    header = header_of(file)
    counts = {Chunk: 0, LogEntry: 0, Mark: 0, End: 0, Header: 0}
    last = header.viewstamp
    for record in records_of(file, growing=growing):
        counts[type(record)] += 1
        if isinstance(record, LogEntry):
            last = record.viewstamp
    whole = "whole" if counts[End] else f"NOT WHOLE, it ends after {last}"
    print(printable(f"{file}: {whole}, {counts[LogEntry]} entries after {header.viewstamp} up to {last}"))
    if machine is not None:
        execution = Execution(load_machine(machine), header.limits)
        entries = verify(records_of(file, growing=growing), execution)
        state = execution.state
        if entries:
            done = f"{machine} comes to the same results: {entries} entries"
        else:
            print(nothing_executed(header))
            done = f"{machine} restores the snapshot"
        print(
            printable(
                f"{done}, digest {state.chain.digest:016x} at {state.applied}, {len(state.sessions)} sessions"
            )
        )
    return DONE


# One backup


def _to_output(config: ClusterConfig, chosen: NodeId | None, timeout: float) -> int:
    out = sys.stdout.buffer
    if out.isatty():
        raise ConfigurationError("a backup is not text: send it to a file or to another program")
    node = choose_node(config, chosen, timeout)
    with LogReader(config, node, timeout_s=timeout) as reader:
        collector = reader.collector()
        for piece in collector.snapshot(reader.position(), wall_time_ms()):
            out.write(piece)
        out.write(collector.encoder.end())
    out.flush()
    return DONE


def _take(config: ClusterConfig, chosen: NodeId | None, target: Path, timeout: float) -> None:
    node = choose_node(config, chosen, timeout)
    path = _file_in(target, config.cluster_id)
    began = time.monotonic()
    with LogReader(config, node, timeout_s=timeout) as reader:
        collector = reader.collector()

        def stream() -> Iterator[bytes]:
            position = reader.position()
            yield from collector.snapshot(position, wall_time_ms())
            yield collector.encoder.end()

        size = write_whole(path, stream())
    last, seconds = collector.encoder.progress.last, time.monotonic() - began
    print(printable(f"{path}: {size} bytes, everything up to {last}, from node {node} in {seconds:.1f} s"))


def _grow(config: ClusterConfig, chosen: NodeId | None, path: Path, timeout: float) -> int:
    node = choose_node(config, chosen, timeout)
    grown = GrowingFile(path)
    try:
        with LogReader(config, node, timeout_s=timeout) as reader:
            encoder = StreamEncoder() if grown.is_new else StreamEncoder(grown.decoder.progress)
            collector = reader.collector(encoder)
            if grown.is_new:
                grown.append(collector.snapshot(reader.position(), wall_time_ms()))
            _require_same(grown, config)
            last = encoder.progress.last
            print(printable(f"{path}: follows node {node} from {last} on, until interrupted"), flush=True)
            marked_ms = 0
            while True:
                size, now = grown.append(collector.entries()), wall_time_ms()
                if now - marked_ms >= _MARK_EVERY_MS:
                    grown.append([collector.mark(now)])
                    marked_ms = now
                if not size:
                    wait_for_more()
    except Compacted as error:
        raise NotExecuted(
            f"{error}; {path} stays as it is and can be restored: begin another one under another name"
        ) from None
    finally:
        grown.close()


def _require_same(grown: GrowingFile, config: ClusterConfig) -> None:
    header = grown.decoder.progress.header
    if header is not None and header.cluster_id != config.cluster_id:
        raise ConfigurationError(
            f"{grown.path} is of cluster {header.cluster_id!r}, not of {config.cluster_id!r}: nothing was "
            "written; choose another name"
        )


def choose_node(config: ClusterConfig, chosen: NodeId | None, timeout: float) -> NodeId:
    """Return the member to read from: a follower that is far, where none was chosen.

    Raises:
        NotExecuted: no member answers.
    """
    if chosen is not None:
        return chosen
    answers = ask_all(config, min(timeout, 2.0))
    alive = {one: answer for one, answer in answers.items() if isinstance(answer, Status)}
    if not alive:
        silent = "; ".join(f"node {one}: {answer}" for one, answer in answers.items())
        raise NotExecuted(f"no member answered, so nothing was read: {silent}")
    leader = leader_of(answers)
    followers = {one: status for one, status in alive.items() if one != leader} or alive
    return max(followers, key=lambda one: followers[one].applied)


# Names and times


def _file_in(target: Path, cluster_id: str) -> Path:
    if not target.is_dir():
        return target
    when = datetime.fromtimestamp(wall_time_ms() / 1000, UTC)
    return (
        target / f"{_NAME.sub('_', cluster_id)}-{when:%Y%m%dT%H%M%S}.{when.microsecond // 1000:03d}Z{SUFFIX}"
    )


def _about(header: Header) -> dict[str, Any]:
    return {
        "cluster": header.cluster_id,
        "protocol": header.protocol,
        "class": header.machine or "-",
        "taken": told_time(header.wall_time_ms),
        "from" if header.snapshot is None else "state": str(header.viewstamp),
    }


def told_time(wall_ms: int) -> str:
    """Return a date as people write it, in UTC."""
    return datetime.fromtimestamp(wall_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _seconds(flag: str, text: str | None) -> float | None:
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS_S or not (number.isascii() and number.isdigit() and 0 < len(number) < 7):
        raise ConfigurationError(f"{flag} {text}: give a number with a unit, such as 30m, 1h or 7d")
    if int(number) == 0:
        raise ConfigurationError(f"{flag} {text}: more than 0")
    return float(int(number) * _UNITS_S[unit])


def _remove_old(target: Path, age_s: float) -> None:
    """Remove the backups in a directory that are older, but never the newest one."""
    if not target.is_dir():
        raise ConfigurationError(f"--keep: {target} is not a directory")
    aged = []
    for path in target.glob(f"*{SUFFIX}"):
        try:
            aged.append((header_of(path).wall_time_ms, path))
        except ViewstampError:
            continue  # it is not ours to remove
    oldest_ms = wall_time_ms() - age_s * 1000
    for wall_ms, path in sorted(aged)[:-1]:
        if wall_ms < oldest_ms:
            path.unlink()
            print(printable(f"{path}: removed, it is older than {age_s:g} s"))
