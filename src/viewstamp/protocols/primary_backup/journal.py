"""What a node of this protocol writes to its journal, in both modes. Tags and fields are the format on disk.

One step's records are one atomic write, so a conflict is cut off and replaced at once, and a snapshot takes
the place of what it covers.

Reading a journal back: from records to promise, record of the synchronous set, and log.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, assert_never

import msgspec

from viewstamp.core.errors import JournalCorrupt
from viewstamp.core.ids import ORIGIN, Incarnation, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.messages import UNREADABLE
from viewstamp.core.protocol import Recovered
from viewstamp.protocols.replication.configuration import Changed, Configuration
from viewstamp.protocols.replication.journal import RebuiltLog
from viewstamp.protocols.replication.log import EntryRecord, Log, Truncation, encode_record
from viewstamp.protocols.replication.messages import Member
from viewstamp.protocols.replication.recovery import Survivor, carried_over
from viewstamp.protocols.replication.stored_log import Seed, StoredLog, stored_log


class SyncRecord(msgspec.Struct, frozen=True, array_like=True):
    """The members that have everything: what a primary acknowledges is on each one's disk (PacificA 2.2).

    Records are ordered by (epoch, version); a node keeps the newest that a primary sent it.
    """

    epoch: int
    version: int
    """Counts the records of one epoch from 1."""
    primary: NodeId
    members: tuple[NodeId, ...]
    """The synchronous set, the primary in it, ascending, a majority of the cluster at least."""
    roster: tuple[Member, ...]
    """The incarnation in which each member of the cluster counts: another one's promises do not."""
    changed: Changed | None = None
    """The voters, learners and removed incarnations; None: all of the roster vote."""

    @property
    def age(self) -> tuple[int, int]:
        """What records are ordered by."""
        return self.epoch, self.version

    @property
    def configuration(self) -> Configuration:
        """Its voters, learners and removed incarnations."""
        return Configuration(voters=self.roster) if self.changed is None else self.changed.configuration

    @property
    def changed_at(self) -> Viewstamp:
        """The entry of the last change of the members; 0.0: there was none."""
        return ORIGIN if self.changed is None else self.changed.at

    def lists(self, node: NodeId, incarnation: Incarnation) -> bool:
        """Return whether the promises of this incarnation of this node count."""
        return (node, incarnation) in self.roster


class Promise(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The promise to refuse every epoch below this one, and who asked for it."""

    epoch: int
    candidate: NodeId | None
    granted: bool = False
    """Whether this node granted the epoch; False: it only heard that the candidate is its primary."""


class Base(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The log begins after this viewstamp; a snapshot holds what came before. At 0.0: the bootstrap."""

    view: int
    seqno: int
    kept: int
    """The last entry that stays in the log; `seqno` where none does."""


class Adopted(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """The newest record of the synchronous set that this node knows of."""

    record: SyncRecord


Record: TypeAlias = Promise | EntryRecord | Truncation | Base | Adopted

_DECODER: Final = msgspec.msgpack.Decoder(Record)


def decode_record(record: bytes) -> Record:
    """Decode a record of the journal.

    Raises:
        JournalCorrupt: the bytes passed the journal's checksum and are still not a record of this protocol.
    """
    try:
        decoded: Record = _DECODER.decode(record)
    except UNREADABLE as error:
        raise JournalCorrupt(f"a journal record is not one of primary_backup's: {error}") from error
    return decoded


class Replay:
    """The state that the writes so far amount to."""

    __slots__ = ("candidate", "epoch", "granted", "rebuilt", "record")

    def __init__(self) -> None:
        self.epoch = 0
        """The highest epoch promised; in the course's form the number of the last takeover heard of."""
        self.candidate: NodeId | None = None
        """The primary of that epoch, or the candidate for it."""
        self.granted = False
        """Whether this node granted it the epoch."""
        self.record: SyncRecord | None = None
        self.rebuilt = RebuiltLog()

    @property
    def log(self) -> Log:
        """The log as of the writes so far."""
        return self.rebuilt.log

    @property
    def view(self) -> View:
        """The epoch promised."""
        return View(self.epoch)

    @property
    def promises(self) -> Mapping[str, Any]:
        """The candidate that this node granted that epoch."""
        return {"epoch granted to": self.candidate if self.granted else None}

    def write(self, seq: PersistSeq, records: Sequence[bytes]) -> None:
        """Take in one atomic write.

        Raises:
            JournalCorrupt: a record is not one of this protocol's, or does not follow those before it.
        """
        for encoded in records:
            record = decode_record(encoded)
            if type(record) is EntryRecord:
                self.rebuilt.append(record, encoded, seq)
            elif type(record) is Promise:
                self.epoch, self.candidate = record.epoch, record.candidate
                self.granted = record.granted
            elif type(record) is Truncation:
                self.rebuilt.truncate(record.after)
            elif type(record) is Base:
                base = Viewstamp(View(record.view), Seqno(record.seqno))
                self.rebuilt.move_base(base, record.kept, seq)
            elif type(record) is Adopted:
                self.record = record.record
            else:
                assert_never(record)  # type: ignore[arg-type]  # `type() is` does not narrow a union


def replay(recovered: Recovered) -> tuple[Replay, bool]:
    """Read a fenced journal back; see `RebuiltLog.finish` for the second result and for what is raised."""
    state = Replay()
    for seq, records in recovered.writes:
        state.write(seq, records)
    gave_way = state.rebuilt.finish(recovered)
    if gave_way and state.log.base.view > state.epoch:
        # The snapshot was sent in that epoch or later. This node saved it while the write of the epoch was
        # under way, so it has granted it to nobody.
        state.epoch, state.candidate, state.granted = state.log.base.view, None, False
    return state, gave_way


def read_stored_log(recovered: Recovered) -> StoredLog:
    """Return the log on a disk; raises as `replay` does."""
    return stored_log(replay(recovered)[0].log)


def read_survivor(recovered: Recovered, node: NodeId, incarnation: Incarnation, known: int) -> Survivor:
    """Return what a data directory holds; `known` is a seqno that it heard to be committed, 0 if it did not.

    A member of the newest recorded set has all that was acknowledged in it. Raises as `replay` does.
    """
    state, _ = replay(recovered)
    log, record = state.log, state.record
    covered = log.base if recovered.snapshot is None else max(log.base, recovered.snapshot.meta.viewstamp)
    committed = min(max(known, covered.seqno), log.last_seqno)
    return Survivor(
        node=node,
        incarnation=incarnation,
        last=log.last,
        committed=covered if committed <= covered.seqno else log.viewstamp_at(committed),
        view=(0, 0) if record is None else record.age,
        has_everything=record is not None and node in record.members and record.lists(node, incarnation),
        members=() if record is None else tuple(sorted(record.configuration.members)),
        holds=lambda viewstamp: viewstamp.seqno < log.base_seqno or log.holds(viewstamp),
    )


def writes_of_recovery(recovered: Recovered, me: Member, advance: int) -> Iterator[tuple[bytes, ...]]:
    """Yield the writes of a new directory: this log, then empty entries, and a record of `me` alone.

    The empty entries push seqnos forward, so that no fencing token is given a second time. All of it is
    committed when the node starts, for it alone is synchronous. Raises as `replay` does.
    """
    state, _ = replay(recovered)
    log, epoch = state.log, state.epoch + 1
    end = Viewstamp(View(epoch), Seqno(log.last_seqno + advance))
    known = () if state.record is None else state.record.configuration.members.items()
    alone = Configuration(voters=(me,)).remembering((member for member in known if member != me), end)
    node = me[0]
    record = SyncRecord(epoch, 1, node, members=(node,), roster=(me,), changed=Changed(alone, end))
    base = Base(log.base.view, log.base_seqno, log.base_seqno)
    yield tuple(map(encode_record, (Promise(epoch, node, granted=True), Adopted(record), base)))
    yield from carried_over(log, epoch, advance)


def seed(viewstamp: Viewstamp, members: Mapping[NodeId, Incarnation]) -> Seed:
    """Return what the directories of a cluster begin with whose log begins after this entry.

    The lowest member is the primary of the view, and all are synchronous: each has the snapshot.
    """
    view = View(max(1, viewstamp.view))
    lowest, nodes = min(members), tuple(sorted(members))
    roster = tuple((node, members[node]) for node in nodes)
    records = (
        Promise(view, lowest, granted=True),
        Adopted(SyncRecord(epoch=view, version=1, primary=lowest, members=nodes, roster=roster)),
        Base(view, viewstamp.seqno, viewstamp.seqno),
    )
    return Seed(Viewstamp(view, viewstamp.seqno), b"", tuple(map(encode_record, records)))
