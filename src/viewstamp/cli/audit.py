"""`viewstamp audit`: who did what at which viewstamp, out of the log itself.

The log is that of a data directory, of which a server may be using the files meanwhile, or a stream of the
committed log (docs/reference/stream-format.md) in a file or on standard input.
"""

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import msgspec
from cyclopts import Parameter

from viewstamp.cli.failures import DONE, REFUSED, complain
from viewstamp.cli.journal_skip import parse_viewstamp
from viewstamp.cli.output import printable, quoted, show_json
from viewstamp.cli.serve import load_machine
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import PersistSeq, Seqno
from viewstamp.core.protocol import Recovered
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.interface import own_interface
from viewstamp.protocols.registry import journal_of
from viewstamp.protocols.replication.stored_log import StoredLog
from viewstamp.replica.audit import AuditedCall, Auditor, Filter
from viewstamp.services.stock import StockService
from viewstamp.storage.directory import SNAPSHOTS_NAME
from viewstamp.storage.files import OsFileSystem
from viewstamp.storage.inspect import FrameSeen, ProblemSeen, inspect_identity, inspect_journal
from viewstamp.storage.snapshots import FileSnapshotStore
from viewstamp.stream.decoder import READ_BYTES, StreamDecoder
from viewstamp.stream.records import Header, LogEntry, Record, StreamDamaged

STDIN: Final = "-"
_STOCK: Final = "viewstamp.services.stock:StockService"
_FILES: Final = OsFileSystem()


def audit(
    source: Annotated[
        Path,
        Parameter(help="A data directory, a stream of the log, or - (stdin).", allow_leading_hyphen=True),
    ],
    /,
    *,
    principal: Annotated[str, Parameter(help="Only calls of these, such as client/*.")] = "*",
    method: Annotated[str, Parameter(help="Only these methods, such as locks.*.")] = "*",
    since: Annotated[str | None, Parameter(help="From this viewstamp on, VIEW.SEQNO.")] = None,
    values: Annotated[bool, Parameter(negative="", help="Print the arguments themselves.")] = False,
    app: Annotated[str | None, Parameter(help="The class, MODULE:CLASS, which says what keys are.")] = None,
    json: Annotated[bool, Parameter(negative="", help="Print JSON, one line for each call.")] = False,
) -> int:
    """Print who called what at which viewstamp. Nothing is changed.

    Exit code 1 if the log shows that something is missing or was changed, or if it begins after --since.
    Of arguments only types and sizes are printed unless --values is given, keys where the class is known.
    """
    wanted = Filter(principal, method, None if since is None else parse_viewstamp(since), values)
    show = partial(_show, as_json=json, values=values)
    if str(source) == STDIN:
        auditor = _audit_stream(sys.stdin.buffer, _class(app, ""), wanted, show)
    elif source.is_dir():
        auditor = _audit_directory(str(source), app, wanted, show)
    else:
        try:
            with source.open("rb") as file:
                auditor = _audit_stream(file, _class(app, ""), wanted, show)
        except OSError as error:
            raise ConfigurationError(f"cannot read {source}: {error.strerror or error}") from error
    for finding in auditor.findings:
        complain(finding)
    if auditor.left_out:
        complain(f"{auditor.left_out} more findings like these")
    return REFUSED if auditor.findings else DONE


def _class(app: str | None, name: str) -> MachineDefinition | None:
    if app is not None:
        return MachineDefinition.of(load_machine(app))
    return MachineDefinition.of(StockService) if name == StockService.__name__ else None


def _recognize(interface: Mapping[str, str]) -> MachineDefinition | None:
    """Return the stock service where the log says that it is what runs."""
    return MachineDefinition.of(StockService) if interface == own_interface(StockService) else None


def column(text: str) -> str:
    """Return a text as one column: in quotes where it holds a space, or looks like something else."""
    if text and " " not in text and '"' not in text and text[0] not in "<(":
        return quoted(text)
    escaped = quoted(text).replace('"', '\\"')
    return f'"{escaped}"'


def _show(call: AuditedCall, *, as_json: bool, values: bool) -> None:
    if as_json:
        show_json(msgspec.to_builtins(call))
        return
    keys = "" if call.keys is None else " ".join(map(column, call.keys))
    ours = not values or not call.sequence  # such as <str 5>, or what an operator did
    shown = quoted if ours else column
    arguments = " ".join(shown(_text(value)) for value in call.arguments)
    method = column(call.method) if call.sequence else call.method
    parts = (f"{call.viewstamp}/{call.place}", call.principal, method, keys, arguments)
    print(printable("  ".join(part for part in parts if part)))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, str) else repr(value)


def _audit_directory(path: str, app: str | None, wanted: Filter, show: Any) -> Auditor:
    content = inspect_identity(_FILES, path)
    service = content.service
    definition = _class(app, "" if service is None else service.machine)
    log, problems = _read_log(path)
    auditor = Auditor(definition, wanted, log.base.seqno, _recognize)
    for problem in problems:
        auditor.find(f"{problem.path} is damaged at byte {problem.offset}: {problem.reason}")
    if log.base.seqno and wanted.since is None:
        complain(f"the log begins after entry {log.base}: what was before is in a snapshot")
    pending: list[AuditedCall] = []
    for seqno in range(log.base.seqno + 1, log.last.seqno + 1):
        entry = log.entry(seqno)
        pending += auditor.read(entry.viewstamp, entry.data)
        pending = _shown_up_to(auditor.committed, pending, show)
    if log.last.seqno > auditor.committed:
        complain(
            f"entries after {auditor.committed} are not shown: nothing here says that they are committed"
        )
    return auditor


def _shown_up_to(committed: Seqno, pending: list[AuditedCall], show: Any) -> list[AuditedCall]:
    """Print the calls that were committed for certain; return the others."""
    place = 0
    for place, call in enumerate(pending):
        if parse_viewstamp(call.viewstamp).seqno > committed:
            return pending[place:]
        show(call)
    return []


def _read_log(path: str) -> tuple[StoredLog, list[ProblemSeen]]:
    """Read a log without a lock; a server may be writing to it."""
    content = inspect_identity(_FILES, path)
    identity = content.identity
    snapshots = FileSnapshotStore(_FILES, f"{path}/{SNAPSHOTS_NAME}", identity.seed)
    try:
        newest, _ = snapshots.newest_valid()
        seen = list(inspect_journal(_FILES, path, identity))
        writes: list[tuple[PersistSeq, tuple[bytes, ...]]] = []
        for frame in seen:
            if isinstance(frame, FrameSeen):
                first = frame.first_seq
                writes += [(PersistSeq(first + place), write) for place, write in enumerate(frame.writes)]
        written = writes[-1][0] if writes else PersistSeq(0)
        protocol = "raft" if content.service is None else content.service.protocol
        log: StoredLog = journal_of(protocol).read_stored_log(Recovered(writes, written, newest))
    finally:
        snapshots.close()
    return log, [one for one in seen if isinstance(one, ProblemSeen) and one.kind == "damaged"]


def _audit_stream(file: BinaryIO, definition: MachineDefinition | None, wanted: Filter, show: Any) -> Auditor:
    """Read a stream to its end; what is damaged, or not whole, is a finding."""
    auditor = Auditor(definition, wanted, Seqno(0), _recognize)
    try:
        for record in _records(file):
            if isinstance(record, Header):
                named = definition or _class(None, record.machine)
                if named is None and not record.machine and record.viewstamp.seqno:
                    complain(f"keys are not told unless --app names the class: {_STOCK} is the stock service")
                auditor = Auditor(named, wanted, record.viewstamp.seqno, _recognize)
            elif isinstance(record, LogEntry):
                for call in auditor.read(record.viewstamp, record.data, record.digest):
                    show(call)
    except StreamDamaged as error:
        auditor.find(str(error))
    return auditor


def _records(file: BinaryIO) -> Iterator[Record]:
    decoder = StreamDecoder()
    while data := file.read(READ_BYTES):
        yield from decoder.feed(data)
    decoder.finish()
