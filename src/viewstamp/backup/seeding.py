"""A new cluster that goes on from a state: positions jump ahead, sessions end, directories are bootstrapped.

Rules of this file:

- Every position of the new cluster is higher than any that the old one can have used, so that no fencing
  token, revision or session number is used twice. What else was restored from the same backup before is
  older as well: the leap grows with the time since the backup, faster than any log does.
- All sessions end, and the machine is told: no client of the old cluster is taken for one of the new.
- All members get the same snapshot, and one configuration with the incarnations of all. The incarnations
  come from one number, the *life*, drawn once for each restored cluster.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import msgspec

from viewstamp.backup.execution import Execution
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import SEQNO_MAX, Incarnation, NodeId, PersistSeq, Seqno, Viewstamp
from viewstamp.core.snapshots import NOTHING
from viewstamp.machine.schema import schema_of
from viewstamp.protocols.registry import journal_of
from viewstamp.protocols.replication.stored_log import Seed
from viewstamp.replica import snapshot_body
from viewstamp.storage.directory import open_data_directory
from viewstamp.storage.files import FileSystem, explained
from viewstamp.storage.identity import Service
from viewstamp.storage.segments import SEGMENT_BYTES

ADVANCE: Final = 1 << 30
"""Positions between the state and the new cluster's first, at least."""
ENTRIES_PER_S: Final = 1 << 13
"""Positions for each second since the backup: more entries than a log gets in a second, for as long as it
may last. So they last for 34 years from the first backup to the last restore."""
_MOMENT_BITS: Final = 30
"""Of a life, behind the second in which it was drawn."""
_CLOCK_SKEW_S: Final = 600
"""By which the clocks of the machine that made the backup and of this one may differ."""
LIFE_MAX: Final = (1 << 63) - 1
_PERSON: Final = b"viewstamp life"


class NewCluster(msgspec.Struct, frozen=True):
    """What the restored cluster is."""

    cluster_id: str
    protocol: str
    members: tuple[NodeId, ...]
    life: int
    """Drawn at random once for all its members."""

    def incarnation(self, node: NodeId) -> Incarnation:
        """Return the incarnation of a member's first data directory."""
        text = f"{self.life}:{self.cluster_id}:{node}".encode()
        digest = blake2b(text, digest_size=8, person=_PERSON).digest()
        return Incarnation(int.from_bytes(digest, "big") >> 1)

    def seed(self, viewstamp: Viewstamp) -> Seed:
        """Return what each member's directory begins with."""
        members = {node: self.incarnation(node) for node in self.members}
        seed: Seed = journal_of(self.protocol).seed(viewstamp, members)
        return seed


def draw_life(random: int, now_s: int) -> int:
    """Return the number of a new life, of random bits, that says when it was drawn (seconds since 1970)."""
    return (now_s << _MOMENT_BITS | random & (1 << _MOMENT_BITS) - 1) & LIFE_MAX


def leap(life: int, backup_s: int) -> int:
    """Return how far a life's positions are ahead of a backup that was taken at this time.

    A life that was not drawn by `draw_life` after the backup says no time: it is `ADVANCE` ahead.

    Raises:
        ConfigurationError: it was drawn before the backup was taken: a clock is wrong.
    """
    drawn_s = life >> _MOMENT_BITS
    if not drawn_s:
        return ADVANCE
    if drawn_s < backup_s - _CLOCK_SKEW_S:
        raise ConfigurationError(
            f"the backup was taken {backup_s - drawn_s} s after the time that this machine's clock showed: "
            "set the clock, or say with --advance how many positions to leave out; nothing was written"
        )
    return ADVANCE + max(0, drawn_s - backup_s) * ENTRIES_PER_S


def check_new(cluster: NewCluster, old_cluster_id: str) -> None:
    """Raise `ConfigurationError` where the new cluster could be taken for the old one."""
    if cluster.cluster_id == old_cluster_id:
        raise ConfigurationError(
            f"the new cluster is called {old_cluster_id!r} like the old one: give it another cluster_id in "
            "its file, so that the members and clients of one never talk to the other; nothing was written"
        )


def begin_new_life(execution: Execution, *, advance: int = ADVANCE) -> Viewstamp:
    """End all sessions and move the state to a position that is `advance` entries ahead; return it.

    Raises:
        ConfigurationError: no position is left; nothing was changed.
    """
    state = execution.state
    if advance < 1:
        raise ConfigurationError(f"--advance {advance}: positions must move ahead by 1 at least")
    seqno = state.applied.seqno + advance
    if seqno > SEQNO_MAX - ADVANCE:
        raise ConfigurationError(
            f"--advance {advance}: entry {seqno} leaves too few of the {SEQNO_MAX} positions that fencing "
            "tokens can count; nothing was written"
        )
    viewstamp = Viewstamp(state.applied.view, Seqno(seqno))
    state.begin_new_life(viewstamp)
    return viewstamp


def write_directory(
    files: FileSystem,
    path: str,
    cluster: NewCluster,
    node: NodeId,
    execution: Execution,
    *,
    segment_bytes: int = SEGMENT_BYTES,
) -> None:
    """Make the data directory of one member, which goes on from the state of the execution.

    Raises:
        ConfigurationError: there is something already.
        StorageError: the disk refused. What was written does not start as a member: remove it.
    """
    require_empty(files, path)
    state, machine = execution.state, execution.definition.cls
    seed = cluster.seed(state.applied)
    directory = open_data_directory(
        files,
        path,
        cluster_id=cluster.cluster_id,
        node=node,
        incarnation=cluster.incarnation(node),
        segment_bytes=segment_bytes,
        service=Service(cluster.protocol, machine.__name__, schema_of(machine)),
    )
    try:
        parts: Iterable[bytes] = snapshot_body.capture(state)
        directory.snapshots.save(seed.viewstamp, seed.header, parts, state.versions or NOTHING)
        directory.journal.append(PersistSeq(1), seed.records)
        directory.journal.sync()
        directory.confirm_service()
    finally:
        directory.close()


def require_empty(files: FileSystem, path: str) -> None:
    """Raise `ConfigurationError` where there is something already."""
    with explained("look into", path):
        found = files.status(path)
        if found is not None and (found.kind != "directory" or files.listdir(path)):
            raise ConfigurationError(
                f"{path} is not empty: a restore never overwrites anything; name a directory that does not "
                "exist yet"
            )
