"""`viewstamp recover`: a cluster whose majority is lost for good, and what may be lost with it.

`plan` reads the directories that are left and changes nothing. `apply` is given the plan and one of them. Out
of the one that the plan takes it makes a new directory, of a new cluster with one member; the others it
marks, so that they never start again. What was read is left as it is.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
import xxhash
from cyclopts import Parameter

from viewstamp.cli.failures import DONE
from viewstamp.cli.output import printable, show_json
from viewstamp.core.errors import ConfigurationError, NodeRemoved
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq
from viewstamp.core.messages import UNREADABLE
from viewstamp.protocols.registry import PROTOCOL_NAMES, journal_of
from viewstamp.protocols.replication.recovery import Survivor, find
from viewstamp.runtime.last_heard import LastHeard, read_last_heard
from viewstamp.runtime.removal import remember_removal, removal_of
from viewstamp.storage.directory import DataDirectory, open_data_directory
from viewstamp.storage.files import OsFileSystem, read_named
from viewstamp.storage.inspect import inspect_identity

_FILES: Final = OsFileSystem()
_PLAN_BYTES_MAX: Final = 1 << 20
_PIECE_BYTES: Final = 1 << 20
_ADVANCE: Final = 65_536
_ADVANCE_MAX: Final = 1 << 24
_RECOVERED: Final = "the cluster was recovered as"


class Directory(msgspec.Struct, frozen=True):
    """One directory as the plan saw it."""

    path: str
    node: int
    fingerprint: str
    """Of its log: `apply` refuses a directory that has changed since."""
    last: str
    committed: int
    heard: LastHeard | None


class Plan(msgspec.Struct, frozen=True):
    """What is to be done, and what it costs."""

    protocol: str
    cluster_id: str
    new_cluster_id: str
    taken: int
    certain: int
    last: str
    complete: bool
    """Nothing acknowledged is lost, unless the dead formed a later view."""
    lost_since: str | None
    """When the directory that is taken last heard of a leader; None: it never wrote it down."""
    dead: list[int]
    directories: list[Directory]
    statement: list[str]


def plan(
    *data: Annotated[Path, Parameter(help="The data directories that are left; none of them runs.")],
    json: Annotated[bool, Parameter(negative="", help="Print the plan as JSON, for `apply`.")] = False,
) -> int:
    """Say what is kept, what perhaps, and what may be lost, if these directories are all that is left."""
    made = make_plan([str(path) for path in data])
    if json:
        show_json(made)
    else:
        for line in made.statement:
            print(printable(line))
        print("nothing was changed: print the plan with --json, keep it, and give it to `recover apply`")
    return DONE


def apply(
    plan: Annotated[Path, Parameter(help="What `recover plan --json` printed.")],
    directory: Annotated[Path, Parameter(help="One of the directories that it names.")],
    /,
    *,
    advance: Annotated[int, Parameter(help="Positions that are left out, so that no token comes twice.")] = (
        _ADVANCE
    ),
    accept_loss: Annotated[
        bool, Parameter(negative="", help="Go on from a directory that may lack acknowledged entries.")
    ] = False,
) -> int:
    """Do what a plan says to one directory, which must be as the plan saw it."""
    if not 1 <= advance <= _ADVANCE_MAX:
        raise ConfigurationError(
            f"--advance {advance}: positions must move ahead by 1 at least, and by {_ADVANCE_MAX} at most, "
            "since each is written; nothing was changed"
        )
    decided = _read_plan(plan)
    if decided.protocol == "primary_backup_course":
        raise ConfigurationError("the course's form keeps no promise that a new cluster could go on from")
    if decided.protocol != "raft" and not decided.complete and not accept_loss:
        raise ConfigurationError(
            f"node {decided.taken} was not a synchronised member, so acknowledged entries may be lost: "
            "nothing was changed; look for one that was, or say --accept-loss"
        )
    path = str(directory)
    with _opened(path) as opened:
        node = int(opened.identity.node)
        seen = next((each for each in decided.directories if each.node == node), None)
        if seen is None or opened.identity.cluster_id != decided.cluster_id:
            raise ConfigurationError(f"{path} is not one of the plan's directories; nothing was changed")
        if fingerprint_of(opened, decided.protocol) != seen.fingerprint:
            raise ConfigurationError(
                f"{path} has changed since the plan was made: nothing was done; plan again"
            )
        if node == decided.taken:
            made = _found(path, opened, decided, advance)
            print(f"{made} is a member of the new cluster {decided.new_cluster_id!r}, alone, as node {node}")
            print("start it with a cluster file that names this cluster and lists this node, then add others")
    why = f"{_RECOVERED} {decided.new_cluster_id!r}: node {node} must not start from here"
    remember_removal(path, NodeRemoved(why))
    print(f"{path} is kept, and will never start again")
    return DONE


def make_plan(paths: list[str]) -> Plan:
    """Read the directories and decide; they are locked meanwhile.

    Raises:
        ConfigurationError: they are not of one cluster, two are of one node, or one cannot be read.
    """
    survivors: list[Survivor] = []
    directories: list[Directory] = []
    names: set[tuple[str, str]] = set()
    for path in paths:
        with _opened(path) as opened:
            protocol = _protocol_of(path)
            names.add((opened.identity.cluster_id, protocol))
            heard = read_last_heard(path)
            survivor = _survivor(opened, protocol, 0 if heard is None else heard.committed)
            survivors.append(survivor)
            directories.append(
                Directory(
                    path,
                    int(survivor.node),
                    fingerprint_of(opened, protocol),
                    str(survivor.last),
                    int(survivor.committed.seqno),
                    heard,
                )
            )
    if len(names) > 1 or len({survivor.node for survivor in survivors}) < len(survivors):
        raise ConfigurationError("the directories are not those of different members of one cluster")
    found = find(survivors)
    ((cluster_id, protocol),) = names
    taken = next(each for each in directories if each.node == found.taken)
    members = {int(node) for survivor in survivors for node in survivor.members}
    made = Plan(
        protocol=protocol,
        cluster_id=cluster_id,
        new_cluster_id=f"{cluster_id[:50]}-{secrets.token_hex(4)}",
        taken=int(found.taken),
        certain=found.certain,
        last=str(found.last),
        complete=found.complete,
        lost_since=None if taken.heard is None else taken.heard.at,
        dead=sorted(members - {each.node for each in directories}),
        directories=directories,
        statement=[],
    )
    return msgspec.structs.replace(made, statement=[*_removals(paths), *statement_of(made)])


def _removals(paths: list[str]) -> Iterator[str]:
    """Yield a line for each directory whose node was removed: its cluster may have gone on without it."""
    for path in paths:
        reason = removal_of(path)
        if reason is not None and reason.startswith(_RECOVERED):
            yield f"caution: {path} was recovered before, do not do it again: {reason}"
        elif reason is not None:
            yield f"caution: {path} lacks whatever its cluster did after this: {reason}"


def statement_of(made: Plan) -> list[str]:
    """Return what the plan costs, a line each."""
    since = made.lost_since or "a moment that it did not write down"
    if made.complete:
        lost = (
            f"nothing that was acknowledged is lost, unless the dead formed a later view after {since}: node "
            f"{made.taken} was a synchronised member, and those have everything"
        )
    else:
        lost = (
            f"what the others acknowledged after entry {made.last} may be lost: node {made.taken} last heard "
            f"of a leader at {since}"
        )
    dead = ", ".join(map(str, made.dead)) or "none"
    end = int(made.last.partition(".")[2])
    perhaps = "nothing" if end <= made.certain else f"entries {made.certain + 1} to {end}"
    return [
        f"node {made.taken} is taken: of those that are left its log goes furthest, to entry {made.last}",
        f"kept for certain: everything up to entry {made.certain}",
        f"kept, perhaps never acknowledged: {perhaps}",
        lost,
        f"nodes that must never start again from their old directories: {dead}",
        f"the new cluster is {made.new_cluster_id!r}; sessions and locks are those of entry {made.last}",
    ]


def fingerprint_of(opened: DataDirectory, protocol: str) -> str:
    """Return a digest of what a directory holds, as far as its log goes."""
    survivor = _survivor(opened, protocol, 0)
    written = opened.recovered.written
    meaning = (survivor.node, survivor.incarnation, str(survivor.last), str(survivor.committed), written)
    return xxhash.xxh3_64_hexdigest(msgspec.json.encode(meaning))


def _survivor(opened: DataDirectory, protocol: str, known: int) -> Survivor:
    identity = opened.identity
    read = journal_of(protocol).read_survivor
    found: Survivor = read(opened.recovered, identity.node, identity.incarnation, known)
    return found


def _protocol_of(path: str) -> str:
    service = inspect_identity(_FILES, path).service
    if service is None or service.protocol not in PROTOCOL_NAMES:
        raise ConfigurationError(f"{path} does not say which protocol wrote it: no server has run on it")
    return service.protocol


@contextmanager
def _opened(path: str) -> Iterator[DataDirectory]:
    identity = inspect_identity(_FILES, path).identity
    opened = open_data_directory(
        _FILES, path, cluster_id=identity.cluster_id, node=identity.node, incarnation=Incarnation(0)
    )
    try:
        yield opened
    finally:
        opened.close()


def _read_plan(path: Path) -> Plan:
    try:
        return msgspec.json.decode(read_named(path, bytes_max=_PLAN_BYTES_MAX), type=Plan)
    except UNREADABLE as error:
        raise ConfigurationError(f"{path} is not a plan: {error}; nothing was changed") from error


def _found(path: str, opened: DataDirectory, decided: Plan, advance: int) -> str:
    """Make the directory of the new cluster beside the old one, and return where it is."""
    target = f"{path.rstrip('/')}-recovered"
    if Path(target).exists():
        raise ConfigurationError(f"{target} exists already: nothing was changed; move it away to do it again")
    node, incarnation = opened.identity.node, Incarnation(secrets.randbits(63))
    made = open_data_directory(
        _FILES, target, cluster_id=decided.new_cluster_id, node=NodeId(node), incarnation=incarnation
    )
    try:
        snapshot = opened.recovered.snapshot
        if snapshot is not None:
            meta = snapshot.meta
            places = range(0, max(1, meta.size_bytes), _PIECE_BYTES)
            parts = (snapshot.read(offset, _PIECE_BYTES) for offset in places)
            made.snapshots.save(meta.viewstamp, meta.header, parts, meta.versions)
        writes = journal_of(decided.protocol).writes_of_recovery(
            opened.recovered, (node, incarnation), advance
        )
        for number, records in enumerate(writes, start=1):
            made.journal.append(PersistSeq(number), records)
        made.journal.sync()
    finally:
        made.close()
    return target
