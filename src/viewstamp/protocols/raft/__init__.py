"""Raft (Ongaro and Ousterhout 2014; Ongaro's thesis) as in 6.5840, with what it needs outside a laboratory.

`DEFINITION` is all that others need. Reading order:

1. `messages` and `journal`: what is sent, what is on disk.
2. `state`: positions, term and vote. `roles`: how a node changes its role.
3. `election`: RequestVote, both sides. Figure 2 is quoted beside the `if` that it becomes.
4. `follower` and `leader`: AppendEntries, both sides. How entries travel is in `protocols.replication`.
5. `core`: which part handles what, and the rules about terms that hold for every message.
6. `follower_reads`, `leadership_transfer`, `bootstrap`, `options`, `status`.
7. `membership`, `changes`: who the members are, and how they change; the rules are `protocols.replication`'s.

Skip `judge` at first: it checks the protocol from outside. Where each line of figure 2 stands:

- State, on stable storage: `journal.HardState`, `state.State.enter`, `journal.Replay.write`
- State, volatile on leaders, nextIndex and matchIndex: `leader.Leader.progress`
- AppendEntries, receiver 1 (old term): `follower.Follower.accepts_leader`
- AppendEntries, receiver 2 to 5: `follower.Follower.on_append_entries`
- RequestVote, receiver 1 and 2: `election.Election.on_request_vote`, `election.Election._may_grant`
- All servers, apply up to commitIndex: `core.RaftCore._apply`
- All servers, later term: `core.RaftCore._is_of_this_term`, `roles.Roles.become_follower`
- Followers, election timeout: `election.Election.campaign`
- Candidates, start an election: `roles.Roles.become_candidate`, `election.Election._seek_votes`
- Candidates, majority: `election.Election.count`, `roles.Roles.become_leader`
- Leaders, heartbeats: `leader.Leader.begin`, `leader.Leader.tick`
- Leaders, append a command: `leader.Leader.propose`
- Leaders, AppendEntries succeeds: `leader.Leader.on_append_response`
- Leaders, AppendEntries fails: `leader.Leader.on_append_rejected`
- Leaders, commitIndex (5.4.2, figure 8): `leader.Leader.count`
- Figure 13, InstallSnapshot: `core.RaftCore._receive`, `state.State.install`
- Thesis 3.10, leadership transfer: `leadership_transfer.LeadershipTransfer.proceed`
- Section 6, joint consensus: `membership.Membership.has_quorum`, `replication.changes.MemberChanges.proceed`
- Thesis 4.1, one change at a time: `replication.changes.MemberChanges.proceed`
- Thesis 4.2.1, catching up new servers: `replication.rounds.CatchUpRounds.is_short`
- Thesis 4.2.3, disruptive servers: `election.Election.on_request_vote`
- Thesis 6.2, a leader without a majority: `leader.Leader.has_lost_quorum`
- Thesis 6.4, reads: `leader.Leader.has_confirmed`, `follower_reads.FollowerReads.ask`
- Thesis 9.6, pre-vote: `election.Election._seek_pre_votes`, `roles.Roles.become_pre_candidate`
- not in the paper, wiped disks: `bootstrap.Bootstrap`
- and with a log: `replication.configuration.Configuration.without_promises`
"""

from typing import Final

from viewstamp.core.protocol import Guarantees, ProtocolDefinition
from viewstamp.protocols.raft.core import RaftCore
from viewstamp.protocols.raft.judge.oracle import RaftOracle
from viewstamp.protocols.raft.messages import RaftMessage
from viewstamp.protocols.raft.options import RaftOptions

DEFINITION: Final = ProtocolDefinition(
    name="raft",
    guarantees=Guarantees(
        commits_when="a majority of the voters has it on disk",
        tolerates="minority",
        safe_under_partition=True,
        survives_full_restart=True,
        reads="linearizable",
        dynamic_membership=False,
        changes_members=True,
    ),
    options_type=RaftOptions,
    message_type=RaftMessage,
    make_core=RaftCore,
    make_oracle=RaftOracle,
)

__all__ = ["DEFINITION", "RaftCore", "RaftMessage", "RaftOptions", "RaftOracle"]
