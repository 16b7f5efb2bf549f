"""What a Raft node writes to its journal. The tags and the order of fields are the format on disk.

One step's records are one atomic write: a conflict is cut off and replaced in the same write, a snapshot is
installed in the same write that drops what it replaces, term and vote are never apart.

Reading a journal back: from records to term, vote, log and configuration.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, assert_never

import msgspec

from viewstamp.core.errors import JournalCorrupt
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.messages import UNREADABLE
from viewstamp.core.protocol import Recovered
from viewstamp.protocols.raft.membership import Membership
from viewstamp.protocols.replication.configuration import (
    Configuration,
    decode_configuration,
    encode_configuration,
    first_configuration,
)
from viewstamp.protocols.replication.journal import RebuiltLog
from viewstamp.protocols.replication.log import EntryRecord, Log, Truncation, encode_record
from viewstamp.protocols.replication.messages import Member
from viewstamp.protocols.replication.recovery import Survivor, carried_over
from viewstamp.protocols.replication.stored_log import Seed, StoredLog, stored_log

CONFIGURATION: Final = 2
"""Kind of an entry whose data is an encoded `Configuration`, effective from the moment it is in a log."""


class HardState(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The current term and the vote in it."""

    term: int
    vote: NodeId | None


class Marker(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The log begins after this viewstamp; a snapshot holds what came before. At 0.0: the bootstrap."""

    view: int
    seqno: int
    kept: int
    """The last entry that stays in the log; `seqno` where none does."""
    configuration: Configuration
    """The one in force at this viewstamp."""


Record: TypeAlias = HardState | EntryRecord | Truncation | Marker

_DECODER: Final = msgspec.msgpack.Decoder(Record)


def decode_record(record: bytes) -> Record:
    """Decode a record of the journal.

    Raises:
        JournalCorrupt: the bytes passed the journal's checksum and are still not a record of this protocol.
    """
    try:
        decoded: Record = _DECODER.decode(record)
    except UNREADABLE as error:
        raise JournalCorrupt(f"a journal record is not one of raft's: {error}") from error
    return decoded


class Replay:
    """What the writes so far amount to."""

    __slots__ = ("membership", "rebuilt", "term", "vote")

    def __init__(self) -> None:
        self.term = 0
        self.vote: NodeId | None = None
        self.rebuilt = RebuiltLog()
        self.membership = Membership(Configuration(), 0)

    @property
    def log(self) -> Log:
        """The log as of the writes so far."""
        return self.rebuilt.log

    @property
    def view(self) -> View:
        """The current term."""
        return View(self.term)

    @property
    def promises(self) -> Mapping[str, Any]:
        """The vote."""
        return {"vote": self.vote}

    def write(self, seq: PersistSeq, records: Sequence[bytes]) -> None:
        """Take in one atomic write.

        Raises:
            JournalCorrupt: a record is not one of raft's, or does not follow those before it.
        """
        for encoded in records:
            record = decode_record(encoded)
            if type(record) is EntryRecord:
                self._append(record, encoded, seq)
            elif type(record) is HardState:
                self.term, self.vote = record.term, record.vote
            elif type(record) is Truncation:
                self._truncate(record.after)
            elif type(record) is Marker:
                self._move_base(record, seq)
            else:
                assert_never(record)  # type: ignore[arg-type]  # `type() is` does not narrow a union

    def _append(self, entry: EntryRecord, encoded: bytes, seq: PersistSeq) -> None:
        self.rebuilt.append(entry, encoded, seq)
        if entry.kind == CONFIGURATION:
            configuration = decode_configuration(entry.data)
            if configuration is None:
                raise JournalCorrupt(f"entry {entry.view}.{entry.seqno} holds an unreadable configuration")
            self.membership.append(entry.seqno, configuration)

    def _truncate(self, after: int) -> None:
        self.rebuilt.truncate(after)
        self.membership.truncate(after)

    def _move_base(self, marker: Marker, seq: PersistSeq) -> None:
        base = Viewstamp(View(marker.view), Seqno(marker.seqno))
        move = self.rebuilt.move_base(base, marker.kept, seq)
        self.membership.truncate(marker.kept)
        if move == "emptied":
            self.membership.reset(marker.configuration, marker.seqno)
        elif move == "shortened":
            self.membership.rebase(marker.configuration, marker.seqno)

    def finish(self, recovered: Recovered) -> bool:
        """Make the log ready to go on from. Return whether the snapshot is newer than the journal knows.

        Raises:
            JournalCorrupt: something between the snapshot and the end of the log is missing.
        """
        if not self.rebuilt.finish(recovered):
            return False
        assert recovered.snapshot is not None
        meta = recovered.snapshot.meta
        configuration = decode_configuration(meta.header)
        if configuration is None:
            raise JournalCorrupt(f"the snapshot of {meta.viewstamp} has an unreadable header")
        self.membership.reset(configuration, meta.viewstamp.seqno)
        if meta.viewstamp.view > self.term:
            # It was sent in that term or later. This node saved it while the write of the term was under way,
            # so it has promised nothing in it.
            self.term, self.vote = meta.viewstamp.view, None
        return True


def replay(recovered: Recovered) -> tuple[Replay, bool]:
    """Read a journal back; see `Replay.finish` for the second result and for what is raised."""
    state = Replay()
    for seq, records in recovered.writes:
        state.write(seq, records)
    return state, state.finish(recovered)


def read_stored_log(recovered: Recovered) -> StoredLog:
    """Return the log on a disk; raises as `replay` does."""
    return stored_log(replay(recovered)[0].log)


def read_survivor(recovered: Recovered, node: NodeId, incarnation: Incarnation, known: int) -> Survivor:
    """Return what a data directory holds; `known` is a seqno that it heard to be committed, 0 if it did not.

    Raises as `replay` does.
    """
    state, _ = replay(recovered)
    log = state.log
    covered = log.base if recovered.snapshot is None else max(log.base, recovered.snapshot.meta.viewstamp)
    committed = min(max(known, covered.seqno), log.last_seqno)
    members = tuple(sorted(state.membership.incarnations))
    return Survivor(
        node=node,
        incarnation=incarnation,
        last=log.last,
        committed=covered if committed <= covered.seqno else log.viewstamp_at(committed),
        view=(state.term, 0),
        has_everything=False,
        members=members,
        holds=lambda viewstamp: viewstamp.seqno < log.base_seqno or log.holds(viewstamp),
    )


def writes_of_recovery(recovered: Recovered, me: Member, advance: int) -> Iterator[tuple[bytes, ...]]:
    """Yield the writes of a new directory: this log, then empty entries, then a configuration of `me` alone.

    The empty entries push seqnos forward, so that no fencing token is given a second time. All of it is
    committed when the node starts, for it is the only voter.
    """
    state, _ = replay(recovered)
    log, term = state.log, state.term + 1
    base = log.base
    in_force = state.membership.at(base.seqno)
    yield (
        encode_record(HardState(term, None)),
        encode_record(Marker(base.view, base.seqno, base.seqno, in_force)),
    )
    yield from carried_over(log, term, advance)
    at = Viewstamp(View(term), Seqno(log.last_seqno + 1 + advance))
    gone = (member for member in state.membership.incarnations.items() if member != me)
    alone = Configuration(voters=(me,)).remembering(gone, at)
    yield (encode_record(EntryRecord(term, at.seqno, CONFIGURATION, encode_configuration(alone))),)


def seed(viewstamp: Viewstamp, members: Mapping[NodeId, Incarnation]) -> Seed:
    """Return what the directories of a cluster begin with whose log begins after this entry."""
    configuration = first_configuration(members)
    view, seqno = viewstamp.view, viewstamp.seqno
    records = HardState(view, None), Marker(view, seqno, seqno, configuration)
    return Seed(viewstamp, encode_configuration(configuration), tuple(map(encode_record, records)))
