"""`viewstamp journal show` and `journal skip`: an entry that no member can execute, seen and given up.

No server runs meanwhile: the directories are locked as by one. `skip` puts a mark in the place of the entry
(`replica.skip_mark`), the same on every member, in one atomic write to each journal, after the identity file
says what is about to be done. It may be repeated: what is done already is seen and left alone.
"""

import getpass
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import msgspec
from cyclopts import Parameter

from viewstamp.cli.failures import DONE, REFUSED
from viewstamp.cli.output import printable, show_json
from viewstamp.cli.target import CLUSTER_FILE, load_cluster
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.messages import UNREADABLE, Submit
from viewstamp.core.protocol import Recovered
from viewstamp.protocols.registry import PROTOCOL_NAMES, journal_of
from viewstamp.protocols.replication.stored_log import StoredEntry, StoredLog
from viewstamp.replica.batches import Batch
from viewstamp.replica.skip_mark import digest_of, make_skip_mark, read_skip_mark, without_check
from viewstamp.runtime.config import ClusterConfig
from viewstamp.storage.directory import DataDirectory, open_data_directory
from viewstamp.storage.files import OsFileSystem
from viewstamp.storage.framing import FRAME_PAYLOAD_BYTES_MAX
from viewstamp.storage.identity import IdentityFile, SkippedEntry, write_identity
from viewstamp.storage.inspect import inspect_identity

_TEXT_LENGTH_MAX: Final = 200
_FILES: Final = OsFileSystem()
_BATCH: Final[msgspec.msgpack.Decoder[Batch]] = msgspec.msgpack.Decoder(Batch)


class Copy(msgspec.Struct, frozen=True):
    """One member's copy of the log."""

    path: str
    node: NodeId
    content: IdentityFile
    directory: DataDirectory
    log: StoredLog
    entry: StoredEntry | None
    """The entry in question; None where this member does not hold it."""


def show(
    data: Annotated[Path, Parameter(help="The data directory of a member that does not run.")],
    /,
    *,
    at: Annotated[str, Parameter(help="The entry's viewstamp, VIEW.SEQNO.")],
    protocol: Annotated[str | None, Parameter(help="Whose log it is, not what the identity says.")] = None,
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
) -> int:
    """Print one entry of the log: its size, its digest, and the calls in it, as far as it can be read."""
    viewstamp = parse_viewstamp(at)
    path = str(data)
    content = inspect_identity(_FILES, path)
    name = protocol or (content.service.protocol if content.service is not None else "")
    with _opened(path, content) as directory:
        log = _read_log(_known(path, name), directory.recovered)
        entry = _find(path, content, directory.recovered, log, viewstamp)
        if entry is None:
            raise ConfigurationError(f"{path} does not hold entry {viewstamp}: its log ends with {log.last}")
        document = describe(entry)
    if json:
        show_json(document)
    else:
        for key, value in document.items():
            print(printable(f"{key}: {value}"))
    return DONE


def skip(
    *data: Annotated[Path, Parameter(help="The data directories of all members; none of them runs.")],
    at: Annotated[str, Parameter(help="The entry's viewstamp, VIEW.SEQNO, as the node's message names it.")],
    cluster: Annotated[Path, Parameter(help="Cluster file.")] = Path(CLUSTER_FILE),
    only: Annotated[
        bool, Parameter(negative="", help="The other members' directories are elsewhere.")
    ] = False,
    digest: Annotated[str | None, Parameter(help="Refuse unless the skip has this digest.")] = None,
    yes: Annotated[bool, Parameter(negative="", help="Do it; otherwise say what would be done.")] = False,
) -> int:
    """Give up an entry that no member can execute: every replica passes over it, and no other data is lost.

    All members must be stopped, and every one of them must get the same skip. Refuses where they differ,
    where one has executed the entry already, and where a server runs.
    """
    viewstamp = parse_viewstamp(at)
    config = load_cluster(cluster)
    config.check()
    with ExitStack() as stack:
        copies = [stack.enter_context(_copy(config, str(path), viewstamp)) for path in data]
        _require_members(config, [copy.node for copy in copies], only=only)
        mark, entry = _agreed(config, copies, viewstamp, only=only)
        skip_digest = digest_of(mark).hex()
        if digest not in {None, skip_digest}:
            raise ConfigurationError(
                f"the skip of entry {viewstamp} has digest {skip_digest} here, not {digest}: the members "
                "hold different entries; nothing was changed"
            )
        _say(viewstamp, entry, copies)
        again = f"viewstamp journal skip DIR --at {viewstamp} --only --digest {skip_digest} --yes"
        if not yes:
            print("nothing was changed: to do it, stop every member and add --yes")
            return REFUSED
        for copy in copies:
            _write(copy, viewstamp, mark, entry)
    print(f"entry {viewstamp} is skipped on {_nodes([copy.node for copy in copies])}")
    if only:
        print(f"WARNING: before any member starts, every other one must get the very same skip: {again}")
    else:
        print("start all members again")
    return DONE


def parse_viewstamp(text: str) -> Viewstamp:
    """Return the viewstamp that VIEW.SEQNO means; `ConfigurationError` where it means none."""
    view, dot, seqno = text.partition(".")
    numbers = [view, seqno]
    if not dot or not all(one.isascii() and one.isdigit() and len(one) <= 18 for one in numbers):
        raise ConfigurationError(f"--at {text[:80]}: write it as VIEW.SEQNO, such as 3.17")
    return Viewstamp(View(int(view)), Seqno(int(seqno)))


def describe(entry: StoredEntry) -> dict[str, Any]:
    """Return what an entry is, for people: the calls in it where it can be decoded."""
    data = entry.data
    document: dict[str, Any] = {
        "entry": str(entry.viewstamp),
        "bytes": len(data),
        "digest": digest_of(data).hex(),
    }
    mark = read_skip_mark(data)
    if mark is not None:
        return document | {"skipped": f"by an operator; it took the place of {mark.digest.hex()}"}
    if not data:
        return document | {"kind": "the protocol's own"}
    try:
        messages = _BATCH.decode(data).messages
    except UNREADABLE as error:
        return document | {"unreadable": str(error), "begins with": data[:32].hex()}
    calls = [
        _cut(f"client {message.client} call {sequence}: {_decoded(raw)}")
        for message in messages
        if isinstance(message, Submit)
        for sequence, raw in message.calls
    ]
    return document | {"messages": len(messages), "calls": calls}


def _decoded(raw: msgspec.Raw) -> str:
    try:
        return str(msgspec.msgpack.decode(raw))
    except (*UNREADABLE, ValueError, MemoryError) as error:
        return f"unreadable: {error}"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_LENGTH_MAX else f"{text[: _TEXT_LENGTH_MAX - 3]}..."


# The members' copies


@contextmanager
def _copy(config: ClusterConfig, path: str, viewstamp: Viewstamp) -> Iterator[Copy]:
    """Lock a member's directory and read its log."""
    content = inspect_identity(_FILES, path)
    identity = content.identity
    if identity.cluster_id != config.cluster_id:
        raise ConfigurationError(
            f"{path} belongs to cluster {identity.cluster_id!r}, the cluster file describes "
            f"{config.cluster_id!r}; nothing was changed"
        )
    if content.service is not None and content.service.protocol != config.protocol:
        raise ConfigurationError(
            f"{path} was written by the protocol {content.service.protocol}, the cluster file says "
            f"{config.protocol}; nothing was changed"
        )
    with _opened(path, content) as directory:
        log = _read_log(config.protocol, directory.recovered)
        entry = _find(path, content, directory.recovered, log, viewstamp)
        yield Copy(path, identity.node, content, directory, log, entry)


@contextmanager
def _opened(path: str, content: IdentityFile) -> Iterator[DataDirectory]:
    identity = content.identity
    directory = open_data_directory(
        _FILES, path, cluster_id=identity.cluster_id, node=identity.node, incarnation=Incarnation(0)
    )
    try:
        yield directory
    finally:
        directory.close()


def _known(path: str, protocol: str) -> str:
    if protocol not in PROTOCOL_NAMES:
        raise ConfigurationError(
            f"{path} does not say which protocol wrote it: give --protocol, one of "
            f"{', '.join(PROTOCOL_NAMES)}"
        )
    return protocol


def _read_log(protocol: str, recovered: Recovered) -> StoredLog:
    log: StoredLog = journal_of(protocol).read_stored_log(recovered)
    return log


def _find(
    path: str, content: IdentityFile, recovered: Recovered, log: StoredLog, viewstamp: Viewstamp
) -> StoredEntry | None:
    """Return the entry; None where this member's log has another one or none at its place."""
    covered = log.base if recovered.snapshot is None else max(log.base, recovered.snapshot.meta.viewstamp)
    if viewstamp.seqno <= covered.seqno:
        raise ConfigurationError(
            f"node {content.identity.node} has executed entry {viewstamp}: its snapshot at {covered} in "
            f"{path} contains the effect, so the entry can be executed, with the program and class of that "
            "node; nothing was changed"
        )
    found = log.find(viewstamp.seqno)
    return found if found is not None and found.viewstamp == viewstamp else None


def _require_members(config: ClusterConfig, nodes: Sequence[NodeId], *, only: bool) -> None:
    if not nodes:
        raise ConfigurationError("name the data directories of all members; nothing was changed")
    if len(set(nodes)) < len(nodes):
        raise ConfigurationError("two of the directories belong to the same node; nothing was changed")
    strangers = [node for node in nodes if node not in config.node_ids] if config.open_host is None else []
    if strangers:
        raise ConfigurationError(f"{_nodes(strangers)} not listed in the cluster file; nothing was changed")
    missing = [node for node in config.node_ids if node not in nodes]
    if missing and not only:
        raise ConfigurationError(
            f"the data directory of {_nodes(missing)} is missing: name those of all members, or, where they "
            "are on other machines, give --only and then the very same skip to every one of them; nothing "
            "was changed"
        )


def _agreed(
    config: ClusterConfig, copies: Sequence[Copy], viewstamp: Viewstamp, *, only: bool
) -> tuple[bytes, StoredEntry]:
    """Return the mark for the entry, and the entry (where all have a mark already, that), equal on all."""
    holders = [(copy, copy.entry) for copy in copies if copy.entry is not None]
    if not holders or (not only and 2 * len(holders) <= len(config.node_ids)):
        have = _nodes([copy.node for copy, _ in holders]) if holders else "none of these directories"
        ends = ", ".join(f"node {copy.node} ends with {copy.log.last}" for copy in copies)
        raise ConfigurationError(
            f"entry {viewstamp} is not one that a majority holds: {have} has it ({ends}); nothing was changed"
        )
    marks: dict[bytes, tuple[Copy, StoredEntry]] = {}
    for copy, entry in holders:
        if not entry.data:
            raise ConfigurationError(
                f"entry {viewstamp} is the protocol's own and holds no command; nothing was changed"
            )
        is_mark = read_skip_mark(entry.data) is not None
        mark = entry.data if is_mark else make_skip_mark(entry.data)
        if mark not in marks or not is_mark:
            marks[mark] = copy, entry
    if len(marks) > 1:
        _refuse_difference(viewstamp, [copy for copy, _ in marks.values()])
    ((mark, (_, entry)),) = marks.items()
    return mark, entry


def _refuse_difference(viewstamp: Viewstamp, copies: Sequence[Copy]) -> NoReturn:
    raise ConfigurationError(
        f"{_nodes([copy.node for copy in copies])} hold different entries {viewstamp}: keep all directories "
        "as they are and compare `viewstamp journal show` of each; nothing was changed"
    )


def _say(viewstamp: Viewstamp, entry: StoredEntry, copies: Sequence[Copy]) -> None:
    for key, value in describe(entry).items():
        print(printable(f"{key}: {value}"))
    for copy in copies:
        state = "holds it"
        if copy.entry is None:
            state = f"does not hold it (its log ends with {copy.log.last}) and gets the mark from the others"
        elif read_skip_mark(copy.entry.data) is not None:
            state = "has skipped it already"
        print(printable(f"node {copy.node} ({copy.path}): {state}"))
    print(
        f"No command in entry {viewstamp} takes effect. Its clients are told so when they ask again; a "
        "client that was told a result before the entry stopped a node keeps it, and the cluster does not."
    )


# Writing


def _write(copy: Copy, viewstamp: Viewstamp, mark: bytes, entry: StoredEntry) -> None:
    """Record the skip in the identity file, then put the mark into the log, both durably."""
    held = copy.entry
    was_marked = held is not None and read_skip_mark(held.data) is not None
    done = read_skip_mark(mark)
    assert done is not None
    _record(copy, viewstamp, done.digest.hex())
    if held is None or was_marked:
        return
    assert held == entry, (held.viewstamp, entry.viewstamp)
    records = copy.log.replaced(viewstamp.seqno, mark, without_check)
    size = sum(map(len, records))
    if size > FRAME_PAYLOAD_BYTES_MAX // 2:
        raise ConfigurationError(
            f"{size} bytes of later entries in {copy.path}: more than one write may have"
        )
    journal = copy.directory.journal
    journal.append(PersistSeq(journal.written + 1), records)
    journal.sync()


def _record(copy: Copy, viewstamp: Viewstamp, digest: str) -> None:
    if any((one.viewstamp, one.digest) == (str(viewstamp), digest) for one in copy.content.skipped):
        return
    when = datetime.now(UTC).isoformat(timespec="seconds")  # noqa: TID251  a date for people
    skipped = SkippedEntry(str(viewstamp), digest, when, _user())
    content = msgspec.structs.replace(copy.content, skipped=(*copy.content.skipped, skipped))
    write_identity(_FILES, copy.path, content)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name
        return "unknown"


def _nodes(nodes: Sequence[NodeId]) -> str:
    return ("node " if len(nodes) == 1 else "nodes ") + ", ".join(str(node) for node in sorted(nodes))
