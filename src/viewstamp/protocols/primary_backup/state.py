"""The state that the parts of one fenced node share: its promises, its record, its role.

Ordering, which `judge/invariants.py` checks: the record's epoch <= the epoch promised.
"""

from enum import Enum
from typing import Final

from viewstamp.core.ids import Instant, NodeId, PersistSeq, Viewstamp
from viewstamp.core.outbox import Outbox
from viewstamp.core.protocol import CoreSetup
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.primary_backup.journal import Adopted, Base, Promise, SyncRecord
from viewstamp.protocols.primary_backup.messages import AppendResponse
from viewstamp.protocols.primary_backup.options import PrimaryBackupOptions
from viewstamp.protocols.replication.log import encode_record
from viewstamp.protocols.replication.node_state import NEVER, NodeState


class Role(Enum):
    """The role of a node in its epoch."""

    BACKUP = "backup"
    CANDIDATE = "candidate"
    """It has promised an epoch to itself and asks the others for it."""
    PRIMARY = "primary"


ROLE_TRANSITIONS: Final = {
    Role.BACKUP: (Role.BACKUP, Role.CANDIDATE, Role.PRIMARY),
    Role.CANDIDATE: (Role.BACKUP, Role.CANDIDATE, Role.PRIMARY),
    Role.PRIMARY: (Role.BACKUP,),
}
"""How roles follow one another; the reasons are in docs/design/primary-backup.md.

A backup becomes primary without being a candidate in one case, the bootstrap. A primary never becomes a
candidate: it would continue to send as primary, in an epoch that is not granted to it.
"""


class State(NodeState):
    """The part of a node that more than one of its parts reads or writes."""

    __slots__ = (
        "candidate",
        "epoch",
        "granted",
        "joining",
        "record",
        "record_write",
        "resume_at",
        "role",
        "seen_epoch",
    )
    options: PrimaryBackupOptions

    def __init__(self, setup: CoreSetup, options: PrimaryBackupOptions, outbox: Outbox) -> None:
        super().__init__(setup, options, outbox, leader_silence_us=options.silence_us)
        self.joining = setup.joining
        """This node was to be added to a cluster that exists: it never bootstraps one."""
        self.role = Role.BACKUP
        self.epoch = 0
        """Every smaller epoch is refused. `promise_write` holds it and the candidate."""
        self.candidate: NodeId | None = None
        """The node that this one granted `epoch`, or heard of as its primary."""
        self.granted = False
        """Whether this node granted it the epoch, rather than heard that it has it."""
        self.seen_epoch = 0
        """The highest epoch heard of: the next one asked for must be higher."""
        self.record: SyncRecord | None = None
        """The newest record of the synchronous set that this node knows; None: it has received none."""
        self.record_write = PersistSeq(0)
        """The journal write that holds `record`."""
        self.resume_at = NEVER
        """When to ask for the next epoch, if the newest record names this node as the primary."""

    @property
    def follows(self) -> bool:
        """Whether this node accepts what a primary sends."""
        return self.role is Role.BACKUP

    @property
    def primary(self) -> NodeId | None:
        """The primary of this epoch, heard or not; None: it has none, as far as this node knows."""
        if self.leader is not None:
            return self.leader
        known = self.record
        return known.primary if known is not None and known.epoch == self.epoch else None

    @property
    def counts(self) -> bool:
        """Whether the promises of this incarnation count: a wiped disk may have held others."""
        return self.record is not None and self.record.lists(self.node, self.incarnation)

    @property
    def is_listed(self) -> bool:
        """Whether the newest record known here lists this incarnation, as a voter or as a learner."""
        return self.record is not None and self.record.configuration.lists(self.node, self.incarnation)

    @property
    def others(self) -> frozenset[NodeId]:
        """The other members: by the newest record known here, and by the cluster file where there is none."""
        if self.record is None:
            return self.peers
        return frozenset(self.record.configuration.members) - {self.node}

    @property
    def silence_at(self) -> Instant:
        """When to stop naming a primary that is silent."""
        if self.leader is None or self.role is Role.PRIMARY:
            return NEVER
        return Instant(self.heard_leader_at + self.leader_silence_us)

    def enter(self, epoch: int, candidate: NodeId, *, granted: bool) -> None:
        """Refuse every older epoch from now on. Epochs never go back, and each has one primary."""
        assert epoch > self.epoch, (epoch, self.epoch)
        # The next primary may cut off entries whose acknowledgement still waits for the disk.
        self.outbox.withdraw(lambda message: isinstance(message, AppendResponse))
        self.epoch, self.candidate, self.granted = epoch, candidate, granted
        self.seen_epoch = max(self.seen_epoch, epoch)
        self.promise_write = self.outbox.persist(encode_record(Promise(epoch, candidate, granted)))

    def become(self, role: Role) -> None:
        """Change the role; all changes of role pass here. Only a primary knows its leader by that."""
        assert role in ROLE_TRANSITIONS[self.role], (self.node, self.role, role)
        assert role is not Role.PRIMARY or self.candidate == self.node, (self.node, self.candidate)
        self.role = role
        self.leader = self.node if role is Role.PRIMARY else None
        if role is Role.PRIMARY:
            self.suspected = False

    def adopt(self, record: SyncRecord) -> None:
        """Write a newer record of the synchronous set."""
        assert self.record is None or record.age > self.record.age, (record, self.record)
        self.record = record
        self.record_write = self.outbox.persist(encode_record(Adopted(record)))

    def write_base(self, base: Viewstamp, *, kept: int) -> PersistSeq:
        """Write the log's new base, and again what the release of older writes would lose."""
        records = [encode_record(Promise(self.epoch, self.candidate, self.granted))]
        if self.record is not None:
            records.append(encode_record(Adopted(self.record)))
        records.append(encode_record(Base(base.view, base.seqno, kept)))
        self.non_entry_bytes = sum(map(len, records))
        self.promise_write = self.record_write = write = self.outbox.persist(*records)
        return write

    def snapshot_header(self) -> bytes:
        """Return an empty header: a snapshot holds nothing but the machine."""
        return b""

    def is_header(self, header: bytes) -> bool:
        """Return whether a snapshot could have this header: only an empty one."""
        return not header

    def move_base(self, base: Viewstamp) -> PersistSeq:
        """Write that the log begins after `base`, which it holds."""
        return self.write_base(base, kept=self.log.last_seqno)

    def install(self, meta: SnapshotMeta, *, kept: int) -> PersistSeq:
        """Write that the log begins after this snapshot."""
        return self.write_base(meta.viewstamp, kept=kept)

    def resume_later(self) -> None:
        """Draw when to ask for the next epoch, from now."""
        silence = self.options.silence_us
        self.resume_at = Instant(self.now + silence + self.rng.randrange(silence))
