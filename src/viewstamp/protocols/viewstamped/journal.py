"""What a member writes to its journal. The tags are an on-disk format: fields may be appended, never moved.

`Promised`, `Accepted` and `Decided` are lab 6's `propseen`, `accepted` and `done`; a driver that keeps
the course's `paxos-<id>.log` decodes them out of each `Persist`.

The journal read back: what a member knows when it starts, and what it would know if it crashed now.

One class serves recovery and the simulator's oracle, so that both read a disk in the same way.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, assert_never

import msgspec

from viewstamp.core.errors import MOVE_AWAY, ConfigurationError, JournalCorrupt
from viewstamp.core.ids import ORIGIN, Incarnation, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.messages import UNREADABLE
from viewstamp.core.protocol import Recovered
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.replication.log import EntryRecord, Log
from viewstamp.protocols.replication.recovery import Survivor, carried_over
from viewstamp.protocols.replication.stored_log import Seed, StoredLog, stored_log
from viewstamp.protocols.viewstamped.membership import Member, Membership, first_view_of, successor
from viewstamp.protocols.viewstamped.messages import LOWEST, Ballot
from viewstamp.protocols.viewstamped.paxos import Acceptor


class Promised(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """n_h of the acceptor rose."""

    instance: View
    ballot: Ballot


class AcceptedValue(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """n_a and v_a of the acceptor; n_h is at least n_a."""

    instance: View
    ballot: Ballot
    value: Membership


class Decided(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The next view is known. What was promised for its instance is over."""

    membership: Membership


class Synchronised(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Every member of this view held the primary's log: each of them may lead the next one."""

    view: View


class LogStart(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Entries up to this one are in a durable snapshot; they may be missing from what is replayed."""

    base: Viewstamp


class LogReset(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """The log is empty and begins after this entry: a snapshot was received."""

    base: Viewstamp


class History(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """All decided views from view 1, written again so that the journal may forget what is older."""

    memberships: tuple[Membership, ...]


Record: TypeAlias = (
    Promised | AcceptedValue | Decided | EntryRecord | Synchronised | LogStart | LogReset | History
)


class SnapshotHeader(msgspec.Struct, frozen=True, array_like=True):
    """The protocol's part of a snapshot: the view in which it was taken. The history is in the journal."""

    membership: Membership | None


ENCODER: Final = msgspec.msgpack.Encoder()
RECORDS: Final = msgspec.msgpack.Decoder(Record)


def decode_record(record: bytes) -> Record:
    """Decode a record of the journal.

    Raises:
        JournalCorrupt: the bytes passed the journal's checksum and are still not a record of this protocol.
    """
    try:
        decoded: Record = RECORDS.decode(record)
    except UNREADABLE as error:
        raise JournalCorrupt(f"a journal record is not one of viewstamped's: {error}") from error
    return decoded


_NO_VIEW = View(0)


class Replay:
    """A member's durable state. It satisfies `core.invariants.DurableImage`."""

    __slots__ = ("_acceptance", "_promise", "_snapshot", "history", "log", "synchronised")

    def __init__(self) -> None:
        self.history: list[Membership] = []
        """Decided views from view 1 without a gap, view v at place v - 1."""
        self.log = Log()
        self.synchronised = _NO_VIEW
        """The highest view known to have completed its synchronisation."""
        self._promise: tuple[View, Ballot] = (_NO_VIEW, LOWEST)
        self._acceptance: tuple[View, Ballot, Membership] | None = None
        self._snapshot = ORIGIN

    @property
    def view(self) -> View:
        """The highest decided view."""
        return View(len(self.history))

    @property
    def base(self) -> Viewstamp:
        """The last entry that only the snapshot holds."""
        return self._snapshot if self._beyond_log else self.log.base

    @property
    def last(self) -> Viewstamp:
        """The last entry of the log, `base` where it is empty."""
        return self._snapshot if self._beyond_log else self.log.last

    @property
    def promises(self) -> Mapping[str, Any]:
        """None that stays the same in a view: n_h, n_a and v_a may rise, and the oracle judges them."""
        return {}

    @property
    def _beyond_log(self) -> bool:
        return not self.log.holds(self._snapshot) and self._snapshot.seqno >= self.log.base_seqno

    def acceptor(self) -> Acceptor:
        """Return the acceptor of the instance after `view` with what it promised."""
        instance = View(self.view + 1)
        acceptor = Acceptor(instance)
        if self._acceptance is not None and self._acceptance[0] == instance:
            _, acceptor.accepted, acceptor.value = self._acceptance
            acceptor.promised = acceptor.accepted
        if self._promise[0] == instance:
            acceptor.promised = max(acceptor.promised, self._promise[1])
        return acceptor

    def holds(self, viewstamp: Viewstamp) -> bool:
        """Return whether the entry at this viewstamp is in the log or covered by the snapshot."""
        if self._beyond_log or viewstamp.seqno < self.log.base_seqno:
            return viewstamp <= self.base
        return self.log.holds(viewstamp)

    def data(self, seqno: Seqno) -> bytes | None:
        """Return the data of the entry at `seqno`; None where the log does not hold it."""
        if self._beyond_log or not self.log.base_seqno < seqno <= self.log.last_seqno:
            return None
        return self.log.entry(seqno).data

    def snapshot(self, meta: SnapshotMeta) -> None:
        """A snapshot became durable."""
        self._snapshot = max(self._snapshot, meta.viewstamp)

    def write(self, seq: PersistSeq, records: Sequence[bytes]) -> None:
        """Read one atomic write."""
        for encoded in records:
            record = decode_record(encoded)
            match record:
                case EntryRecord():
                    self._replay_entry(seq, encoded, record)
                case Promised(instance, ballot):
                    self._promise = (instance, ballot)
                case AcceptedValue(instance, ballot, value):
                    self._acceptance = (instance, ballot, value)
                case Decided(membership):
                    self._replay_view(membership)
                case Synchronised(view):
                    self.synchronised = max(self.synchronised, view)
                case LogStart(base):
                    self._replay_start(seq, base)
                case LogReset(base):
                    self.log.reset(base, seq)
                case History(memberships):
                    self.history = list(memberships)
                case _:
                    assert_never(record)

    def _replay_entry(self, seq: PersistSeq, encoded: bytes, record: EntryRecord) -> None:
        log = self.log
        before = record.seqno - 1
        released_before = before < log.base_seqno or (log.base == ORIGIN == log.last)
        if released_before and before != log.base_seqno:
            log.reset(Viewstamp(_NO_VIEW, Seqno(before)), seq)
        if before > log.last_seqno:
            raise JournalCorrupt(
                f"the journal has no entry {log.last_seqno + 1}: restore it from another copy"
            )
        # An entry replaces the one in its place and all that follow it.
        log.truncate(before)
        if record.view < log.last_view:
            raise JournalCorrupt(
                f"entry {record.seqno} is of view {record.view}, the one before it of view {log.last_view}: "
                "restore the journal from another copy"
            )
        log.append(record, encoded, seq)

    def _replay_view(self, membership: Membership) -> None:
        # A gap is possible before the first `History` only: what is between was released.
        if membership.view == len(self.history) + 1:
            self.history.append(membership)

    def _replay_start(self, seq: PersistSeq, base: Viewstamp) -> None:
        if self.log.base_seqno <= base.seqno <= self.log.last_seqno:
            self.log.compact(base)
        elif base.seqno > self.log.last_seqno:
            self.log.reset(base, seq)


def replay_journal(recovered: Recovered) -> Replay:
    """Return what the writes of a recovery hold.

    Raises:
        JournalCorrupt: records are missing, cannot be decoded, or the snapshot before the log is lost.
    """
    replay = Replay()
    for seq, records in recovered.writes:
        replay.write(seq, records)
    replay.log.persisted(recovered.written)
    covered = recovered.snapshot.meta.viewstamp if recovered.snapshot is not None else ORIGIN
    if covered.seqno < replay.log.base_seqno:
        raise JournalCorrupt(
            f"the log begins after entry {replay.log.base}, and the newest snapshot covers {covered} only: "
            f"nothing was changed: {MOVE_AWAY}"
        )
    return replay


def read_stored_log(recovered: Recovered) -> StoredLog:
    """Return the log on a disk; raises as `replay_journal` does."""
    return stored_log(replay_journal(recovered).log, cuts=False)


def read_survivor(recovered: Recovered, node: NodeId, incarnation: Incarnation, known: int) -> Survivor:
    """Return what a data directory holds; `known` is a seqno that it heard to be committed, 0 if it did not.

    A member that was in its newest view when that was synchronised, or may lead it, had all that was
    acknowledged. Raises as `replay_journal` does.
    """
    state = replay_journal(recovered)
    newest = state.history[-1] if state.history else None
    listed = newest is not None and any(
        (member.node, member.incarnation) == (node, incarnation) for member in newest.members
    )
    trusted = newest is not None and (state.synchronised == newest.view or node in newest.eligible)
    committed = min(max(known, state.base.seqno), state.last.seqno)
    return Survivor(
        node=node,
        incarnation=incarnation,
        last=state.last,
        committed=state.base if committed <= state.base.seqno else state.log.viewstamp_at(committed),
        view=(state.view, 0),
        has_everything=listed and trusted,
        members=() if newest is None else tuple(sorted(newest.nodes)),
        holds=state.holds,
    )


def writes_of_recovery(
    recovered: Recovered, me: tuple[NodeId, Incarnation], advance: int
) -> Iterator[tuple[bytes, ...]]:
    """Yield the writes of a new directory: views of `me` alone, this log, then empty entries.

    The empty entries push seqnos forward, so that no fencing token is given a second time. All of it is
    committed when the node starts, for it is the only member. Raises as `replay_journal` does.

    Raises:
        ConfigurationError: the history of views would be too long.
    """
    state = replay_journal(recovered)
    log, member = state.log, Member(*me)
    if state.base != log.base:
        log = Log()
        log.reset(state.base, recovered.written)
    view = View(max(state.view, log.last_view) + 1)
    history = _views_of(view, lambda _: (member,), member)
    first: tuple[Record, ...] = History(tuple(history)), Synchronised(view), LogReset(log.base)
    yield tuple(map(ENCODER.encode, first))
    yield from carried_over(log, view, advance)


def _views_of(last: int, members_of: Callable[[int], tuple[Member, ...]], first: Member) -> list[Membership]:
    """Return a history of this many views, the members of each by the number of those before it.

    Raises:
        ConfigurationError: there would be too many.
    """
    if last > VIEWS_MAX:
        raise ConfigurationError(
            f"the entry is of view {last}, and viewstamped keeps a history of all views, {VIEWS_MAX} of a "
            "restored cluster at most: choose another protocol"
        )
    history = [first_view_of(first)]
    while len(history) < last:
        following = successor(history[-1], members_of(len(history)), synchronised=True)
        assert following is not None
        history.append(following)
    return history


VIEWS_MAX: Final = 100_000
"""Of the history that a cluster is seeded with."""


def seed(viewstamp: Viewstamp, members: Mapping[NodeId, Incarnation]) -> Seed:
    """Return what the directories of a cluster begin with whose log begins after this entry.

    The members join one by one, as in any history, then views without a change follow up to that of the
    entry. In the last one every member holds everything: each has the snapshot.

    Raises:
        ConfigurationError: the entry's view is too high for a history of all views.
    """
    last = max(viewstamp.view, len(members) + 1)
    joining = [Member(node, members[node]) for node in sorted(members)]
    history = _views_of(last, lambda before: tuple(joining[: before + 1]), joining[0])
    base = Viewstamp(View(last), viewstamp.seqno)
    records: tuple[Record, ...] = History(tuple(history)), Synchronised(View(last)), LogReset(base)
    return Seed(base, ENCODER.encode(SnapshotHeader(history[-1])), tuple(map(ENCODER.encode, records)))
