"""What the parts of one Raft node share: its positions, its log, its outbox.

Orderings, which `invariants.py` checks: base <= snapshot <= applied <= committed <= last, durable <= last.
"""

from collections import Counter
from enum import Enum
from typing import Final

from viewstamp.core.ids import Instant, NodeId, PersistSeq, Viewstamp
from viewstamp.core.outbox import Outbox
from viewstamp.core.protocol import CoreSetup
from viewstamp.core.snapshots import Snapshot, SnapshotMeta
from viewstamp.protocols.raft.journal import HardState, Marker
from viewstamp.protocols.raft.membership import (
    Configuration,
    Membership,
    decode_configuration,
    encode_configuration,
)
from viewstamp.protocols.raft.messages import AppendResponse, RaftMessage
from viewstamp.protocols.raft.options import RaftOptions
from viewstamp.protocols.replication.log import Log, encode_record

NEVER: Final = Instant(1 << 62)


class Role(Enum):
    """What a node is doing. Unfounded nodes and learners are followers that never campaign."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class State:
    """The part of a node that more than one of its parts reads or writes."""

    __slots__ = (
        "applied",
        "bootstrapped",
        "committed",
        "counters",
        "election_at",
        "election_timeout_drawn_us",
        "hard_state_write",
        "heard_leader_at",
        "incarnation",
        "leader",
        "log",
        "members",
        "membership",
        "node",
        "non_entry_bytes",
        "now",
        "options",
        "outbox",
        "peers",
        "rng",
        "role",
        "snapshot",
        "suspected",
        "term",
        "vote",
    )

    def __init__(self, setup: CoreSetup, options: RaftOptions, outbox: Outbox) -> None:
        self.node = setup.node
        self.members = setup.members
        self.peers = frozenset(setup.members) - {setup.node}
        self.incarnation = setup.incarnation
        self.options = options
        self.rng = setup.rng
        self.outbox = outbox
        self.now = setup.now
        self.counters: Counter[str] = Counter()
        """What was dropped and why, for the operator: nothing depends on it."""
        self.log = Log()
        self.membership = Membership(Configuration(), 0)
        self.bootstrapped = False
        """Whether this node has a log, and with it the right to promise anything. Never goes back."""
        self.role = Role.FOLLOWER
        self.term = 0
        self.vote: NodeId | None = None
        self.leader: NodeId | None = None
        """The leader of `term`, if known."""
        self.hard_state_write = PersistSeq(0)
        """The journal write that holds `term` and `vote`."""
        self.committed = 0
        self.applied = 0
        self.snapshot: Snapshot | None = None
        """The newest durable snapshot."""
        self.non_entry_bytes = 0
        """Bytes of the live records that are not entries."""
        self.heard_leader_at = setup.now
        """When the leader was last heard."""
        self.suspected = False
        """The connection to the leader broke since it was last heard."""
        self.election_timeout_drawn_us = 2 * options.election_timeout_us
        """The election timeout last drawn; good until it passes or the term changes."""
        self.election_at = NEVER
        """When to campaign, unless the leader is heard of before."""

    @property
    def snapshot_seqno(self) -> int:
        """Position of the newest durable snapshot, 0 where there is none."""
        return self.snapshot.meta.viewstamp.seqno if self.snapshot else 0

    @property
    def follows(self) -> bool:
        """Whether this node takes what a leader sends."""
        return self.role is Role.FOLLOWER

    @property
    def is_voter(self) -> bool:
        """Whether the configuration in force lets this incarnation of this node vote and lead."""
        return self.membership.current.is_voter(self.node, self.incarnation)

    @property
    def is_listed(self) -> bool:
        """Whether the configuration in force knows this incarnation of this node."""
        return self.membership.incarnations.get(self.node) == self.incarnation

    @property
    def has_live_leader(self) -> bool:
        """Whether a leader has a claim not to be disturbed: heard within the shortest election timeout."""
        return (
            self.leader is not None
            and not self.suspected
            and (
                self.role is Role.LEADER or self.now - self.heard_leader_at < self.options.election_timeout_us
            )
        )

    def await_leader(self) -> None:
        """Draw a new election timeout, from now."""
        timeout = self.options.election_timeout_us
        self.election_timeout_drawn_us = timeout + self.rng.randrange(timeout)
        self.election_at = Instant(self.now + self.election_timeout_drawn_us)

    def hear_leader(self) -> None:
        """The leader gave a sign of life."""
        self.heard_leader_at = self.now
        self.suspected = False
        self.election_at = Instant(self.now + self.election_timeout_drawn_us)

    def enter(self, term: int, vote: NodeId | None) -> None:
        """Take on a term and a vote, in one write. Terms never go back, votes never change within one."""
        assert term > self.term or (term == self.term and self.vote is None), (term, self.term, self.vote)
        if term > self.term:
            # The next leader may cut off what an acknowledgement that still waits for the disk speaks of.
            self.outbox.withdraw(lambda message: isinstance(message, AppendResponse))
        self.term, self.vote = term, vote
        self.write_hard_state()

    def write_hard_state(self) -> int:
        """Write term and vote; return the record's length."""
        record = encode_record(HardState(self.term, self.vote))
        self.hard_state_write = self.outbox.persist(record)
        return len(record)

    def write_base(self, base: Viewstamp, configuration: Configuration, *, kept: int) -> PersistSeq:
        """Write the log's new base, and with it again what a release of older writes would lose."""
        size_bytes = self.write_hard_state()
        record = encode_record(Marker(base.view, base.seqno, kept, configuration))
        self.non_entry_bytes = size_bytes + len(record)
        return self.outbox.persist(record)

    def snapshot_header(self) -> bytes:
        """Return the configuration in force where a snapshot of what is applied now ends."""
        return encode_configuration(self.membership.at(self.applied))

    def is_header(self, header: bytes) -> bool:
        """Tell whether these bytes are a configuration."""
        return decode_configuration(header) is not None

    def move_base(self, base: Viewstamp) -> PersistSeq:
        """Write that the log begins after `base`, which it holds."""
        write = self.write_base(base, self.membership.at(base.seqno), kept=self.log.last_seqno)
        self.membership.compact(base.seqno)
        return write

    def install(self, meta: SnapshotMeta, *, kept: int) -> PersistSeq:
        """Write that the log begins after this snapshot, with the snapshot's configuration (figure 13)."""
        base = meta.viewstamp
        configuration = decode_configuration(meta.header)
        assert configuration is not None, base  # it was checked before the first piece was staged
        if kept > base.seqno:
            self.membership.rebase(configuration, base.seqno)
        else:
            self.membership.reset(configuration, base.seqno)
        return self.write_base(base, configuration, kept=kept)

    def reply(self, to: NodeId, message: RaftMessage) -> None:
        """Send what promises nothing but the current term: as soon as the term is on disk.

        It does not wait for entries that are being written: a slow disk must not look like a dead node.
        """
        if self.hard_state_write <= self.outbox.durable:
            self.outbox.send_early(to, message)  # the term is durable, and nothing else is promised
        else:
            self.outbox.send(to, message)

    def drop(self, reason: str) -> None:
        """Count a message, or a part of one, that is ignored."""
        self.counters[reason] += 1
