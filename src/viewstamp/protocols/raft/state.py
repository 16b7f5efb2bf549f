"""The state that the parts of one Raft node share: its term and vote, its role, its membership."""

from enum import Enum

from viewstamp.core.ids import Instant, NodeId, PersistSeq, Viewstamp
from viewstamp.core.outbox import Outbox
from viewstamp.core.protocol import CoreSetup
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.raft.journal import HardState, Marker
from viewstamp.protocols.raft.membership import Membership
from viewstamp.protocols.raft.messages import AppendResponse
from viewstamp.protocols.raft.options import RaftOptions
from viewstamp.protocols.replication.configuration import (
    Configuration,
    decode_configuration,
    encode_configuration,
)
from viewstamp.protocols.replication.log import encode_record
from viewstamp.protocols.replication.node_state import NEVER, NodeState


class Role(Enum):
    """What a node is doing. A node without a log and a learner are followers that never campaign."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class State(NodeState):
    """The part of a node that more than one of its parts reads or writes."""

    __slots__ = ("election_at", "election_timeout_drawn_us", "membership", "role", "term", "vote")
    options: RaftOptions

    def __init__(self, setup: CoreSetup, options: RaftOptions, outbox: Outbox) -> None:
        # The shortest election timeout: a node that has heard the leader within it refuses to elect another.
        super().__init__(setup, options, outbox, leader_silence_us=options.election_timeout_us)
        self.membership = Membership(Configuration(), 0)
        self.role = Role.FOLLOWER
        self.term = 0
        """The current term. `promise_write` holds it and the vote."""
        self.vote: NodeId | None = None
        self.election_timeout_drawn_us = 2 * options.election_timeout_us
        """The election timeout last drawn; valid until it passes or the term changes."""
        self.election_at = NEVER
        """When to campaign, unless the leader is heard before."""

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

    def await_leader(self) -> None:
        """Draw a new election timeout, from now."""
        timeout = self.options.election_timeout_us
        self.election_timeout_drawn_us = timeout + self.rng.randrange(timeout)
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
        self.promise_write = self.outbox.persist(record)
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
        """Return whether these bytes are a configuration."""
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
