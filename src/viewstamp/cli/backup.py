"""`viewstamp backup`: a running cluster as one stream; `backup list` and `backup verify`: what is kept."""

import re
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Final

from cyclopts import Parameter

from viewstamp.backup.collecting import Collector, Compacted
from viewstamp.backup.execution import Execution, verify
from viewstamp.cli.encryption import encrypted
from viewstamp.cli.failures import DONE
from viewstamp.cli.object_stores import is_object_url
from viewstamp.cli.output import printable, show_json
from viewstamp.cli.serve import load_machine
from viewstamp.cli.status import ask_all
from viewstamp.cli.stream_files import GrowingFile, nothing_executed
from viewstamp.cli.stream_places import (
    SUFFIXES,
    KeyFile,
    Source,
    header_of,
    is_folder,
    make_folder,
    records_of,
    remove,
    streams_in,
    within,
)
from viewstamp.cli.stream_places import keep as keep_stream
from viewstamp.cli.target import CLUSTER_FILE, check_member, check_timeout, load_cluster
from viewstamp.core.errors import ConfigurationError, NotExecuted
from viewstamp.core.ids import NodeId
from viewstamp.core.protocol import Status
from viewstamp.runtime.cluster_health import leader_of
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.log_reading import LogReader, wait_for_more, wall_time_ms
from viewstamp.stream.encoder import StreamEncoder
from viewstamp.stream.records import Chunk, End, Header, LogEntry, Mark, StreamDamaged

_MARK_EVERY_MS: Final = 1_000
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_MOMENT: Final = "%Y%m%dT%H%M%S"
_GROWS: Final = ".log.vss"
"""How a file that grows is called in a directory: `--keep` removes none of those."""
_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]")


def backup(
    target: Annotated[
        str, Parameter(help="A file or object (s3://...); a folder, in which it gets a name; - for a pipe.")
    ],
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
    recipient: Annotated[
        tuple[str, ...], Parameter(negative="", help="Encrypt for this public key of age; may be repeated.")
    ] = (),
    timeout: Annotated[float, Parameter(help="Seconds until a question to a node is given up.")] = 60.0,
) -> int:
    """Back up a running cluster: all that was acknowledged before, at one position of the log.

    Nothing stops. The stream comes from a follower, which takes a snapshot beside its work.
    """
    config = load_cluster(cluster)
    chosen = None if node is None else check_member(config, node)
    check_timeout(timeout)
    if log:
        if every is not None or keep is not None or target == "-":
            raise ConfigurationError("--log goes on by itself in a file: leave out --every and --keep")
        if recipient or is_object_url(target):
            raise ConfigurationError(
                "--log appends to a file, which neither an object store nor an encrypted stream allows: name "
                "a file, or take whole backups with --every"
            )
        return _grow(config, chosen, Path(_name_in(target, config.cluster_id, _GROWS)), timeout)
    if target == "-":
        if every is not None or keep is not None:
            raise ConfigurationError("one backup fits into a pipe: leave out --every and --keep")
        return _to_output(config, chosen, timeout, recipient)
    pause_s, age_s = _seconds("--every", every), _seconds("--keep", keep)
    if age_s is not None and pause_s is None:
        raise ConfigurationError("--keep needs --every: a single backup removes nothing")
    make_folder(target, several=pause_s is not None)
    while True:
        _take(config, chosen, target, timeout, recipient)
        if pause_s is None:
            return DONE
        if age_s is not None:
            _remove_old(target, config.cluster_id, age_s)
        Event().wait(pause_s)


def list_backups(
    target: Annotated[str, Parameter(help="A folder with backups, which for a URL ends with /, or one.")],
    /,
    *,
    identity: KeyFile = None,
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
) -> int:
    """Show the backups in a directory, oldest first: of which cluster, when, up to where, and how large."""
    for name, size in streams_in(target):
        try:
            header = header_of(Source(name, identity))
        except (StreamDamaged, ConfigurationError) as error:
            print(printable(str(error)))
            continue
        line = {"file": name, **_about(header), "bytes": size}
        if json:
            show_json(line)
        else:
            print(printable("  ".join(f"{key} {value}" for key, value in line.items())))
    return DONE


def verify_backup(
    file: Annotated[str, Parameter(help="The backup: a file or the URL of an object.")],
    machine: Annotated[str | None, Parameter(help="The state machine, as MODULE:CLASS.")] = None,
    /,
    *,
    identity: KeyFile = None,
    growing: Annotated[
        bool, Parameter(negative="", help="It is still being written: its end may be missing.")
    ] = False,
) -> int:
    """Read all of a backup; with the class restore it in memory and execute its entries again.

    Proves that the bytes are those that were written and, with the class, that today's code comes to the
    same results. Changes nothing.
    """
    source = Source(file, identity)
    header = header_of(source)
    counts = {Chunk: 0, LogEntry: 0, Mark: 0, End: 0, Header: 0}
    last = header.viewstamp
    for record in records_of(source, growing=growing):
        counts[type(record)] += 1
        if isinstance(record, LogEntry):
            last = record.viewstamp
    whole = "whole" if counts[End] else f"NOT WHOLE, it ends after {last}"
    print(printable(f"{file}: {whole}, {counts[LogEntry]} entries after {header.viewstamp} up to {last}"))
    if machine is not None:
        execution = Execution(load_machine(machine), header.limits)
        entries = verify(records_of(source, growing=growing), execution)
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


def _to_output(
    config: ClusterConfig, chosen: NodeId | None, timeout: float, recipients: Sequence[str]
) -> int:
    out = sys.stdout.buffer
    if out.isatty():
        raise ConfigurationError("a backup is not text: send it to a file or to another program")
    node = choose_node(config, chosen, timeout)
    with LogReader(config, node, timeout_s=timeout) as reader:
        whole = _whole(reader, reader.collector())
        for piece in encrypted(whole, recipients) if recipients else whole:
            out.write(piece)
    out.flush()
    return DONE


def _take(
    config: ClusterConfig, chosen: NodeId | None, target: str, timeout: float, recipients: Sequence[str]
) -> None:
    node = choose_node(config, chosen, timeout)
    name = _name_in(target, config.cluster_id, SUFFIXES[bool(recipients)])
    began = time.monotonic()
    with LogReader(config, node, timeout_s=timeout) as reader:
        collector = reader.collector()
        size = keep_stream(name, _whole(reader, collector), recipients)
    last, seconds = collector.encoder.progress.last, time.monotonic() - began
    print(printable(f"{name}: {size} bytes, everything up to {last}, from node {node} in {seconds:.1f} s"))


def _whole(reader: LogReader, collector: Collector) -> Iterator[bytes]:
    """Yield a stream of everything that was acknowledged before, to its end."""
    yield from collector.snapshot(reader.position(), wall_time_ms())
    yield collector.encoder.end()


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


def _name_in(target: str, cluster_id: str, suffix: str) -> str:
    """Return the target; in a folder that with a name made of the cluster's and of the time."""
    if not is_folder(target):
        return target
    when = datetime.fromtimestamp(wall_time_ms() / 1000, UTC)
    moment = f"{when:{_MOMENT}}.{when.microsecond // 1000:03d}Z"
    return within(target, f"{_NAME.sub('_', cluster_id)}-{moment}{suffix}")


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


def _remove_old(target: str, cluster_id: str, age_s: float) -> None:
    """Remove the older ones of the backups that `_name_in` named for this cluster, but never the newest."""
    if not is_folder(target):
        raise ConfigurationError(f"--keep: {target} is not a folder")
    named = re.compile(re.escape(_NAME.sub("_", cluster_id)) + r"-(\d{8}T\d{6})\.\d{3}Z\.vss(\.age)?")
    aged = []
    for name, _ in streams_in(target):
        if found := named.fullmatch(name.rpartition("/")[2]):
            when = datetime.strptime(found[1], _MOMENT).replace(tzinfo=UTC)
            aged.append((int(when.timestamp() * 1000), name))
    oldest_ms = wall_time_ms() - age_s * 1000
    for wall_ms, name in sorted(aged)[:-1]:
        if wall_ms < oldest_ms:
            remove(name)
            print(printable(f"{name}: removed, it is older than {age_s:g} s"))
