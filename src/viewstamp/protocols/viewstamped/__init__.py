"""Viewstamped replication: Paxos agrees on views; in a view every member has each entry on its disk.

Read in this order:

1. `membership`: what a view is, who may lead it, and why nothing acknowledged is lost between two views;
2. `messages`, `journal`: what members send, and what they write;
3. `paxos`: what acceptor and proposer remember of the next view;
4. `views`, `proposer`: decided views, and both halves of Paxos with lab 6's lines at the code;
5. `heartbeats`, `joining`: which members are alive, and how a node gets into a view;
6. `log_positions`: which entries are durable, committed, applied; the log itself, applying, compaction and
   read rounds are those of `protocols.replication`;
7. `role`, `primary`, `backup`, `reads`, `state_transfer`: one view at work (lab 7);
8. `core`: where events come in; `leadership_transfer`, `changes`: what operators ask for, above all layers
   (a change asks both the role and the proposer); `options`, `status`: what operators see.

`judge` is the simulator's and may be skipped.

Lab 6 (6.824, 2012), pseudocode to code. The lab's instance is the number of the view to agree on, n is a
`messages.Ballot`, v a `membership.Membership`; n_h, n_a and v_a are `paxos.Acceptor.promised`, `accepted`
and `value`; instance_h is `views.DecidedViews.view`.

- choose n, unique and higher than any n seen so far: `proposer.Proposer._start`, `paxos.Proposal.saw`;
- send prepare(instance, n) to all servers: `proposer.Proposer._send_prepares`;
- oldinstance(instance, instance_value): `proposer.Proposer._at_my_instance`, `views.DecidedViews.on_views`;
- prepare_ok(n_a, v_a) from majority in current view:
  `proposer.Proposer.on_prepared`, `paxos.Proposal.may_propose`;
- v' = v_a with highest n_a; choose own v otherwise:
  `proposer.Proposer._propose_if_promised`, `paxos.Proposal.promised_by`;
- send accept(instance, n, v') to all: `proposer.Proposer._send_accepts`;
- accept_ok(n) from majority: `proposer.Proposer.on_accepted`, `paxos.Proposal.has_chosen`;
- send decided(instance, v') to all:
  `proposer.Proposer._decide_if_accepted`, `views.DecidedViews.send_views`;
- acceptor prepare(instance, n) handler: `proposer.Proposer.on_prepare`, `paxos.Acceptor.prepare`;
- acceptor accept(instance, n, v) handler: `proposer.Proposer.on_accept`, `paxos.Acceptor.accept`;
- acceptor decide(instance, v) handler: `views.DecidedViews.decide`;
- config: heartbeat the others, remove who is silent:
  `views.DecidedViews.tick`, `heartbeats.Heartbeats.removable`;
- rsm: join: `joining.Joining.tick`, `proposer.Proposer.on_join`;

Lab 7 (rsm), replication to code:

- client_invoke: the primary numbers the request:
  `primary.Primary.propose`, `log_positions.LogPositions.append_own`;
- invoke at the slaves, in the order of viewstamps: `backup.Backup.on_append`;
- the primary answers when all slaves have it: `primary.Primary.advance`, `primary.Primary.on_appended`;
- transferreq: bring a slave up to date:
  `backup.Backup.tick`, `primary.Primary.on_position`, `state_transfer.agreement`;
- marshal_state, unmarshal_state: `primary.Primary.on_chunk_received`, `backup.Backup.on_chunk`;
- sync_with_backups, sync_with_primary:
  `primary.Primary.is_synchronised`, `views.DecidedViews.mark_synchronised`;
- commit_change: a new view: `role.Role.enter_newest_view`;
"""

from viewstamp.core.protocol import Guarantees, ProtocolDefinition
from viewstamp.protocols.viewstamped.core import ViewstampedCore
from viewstamp.protocols.viewstamped.judge.oracle import ViewstampedOracle
from viewstamp.protocols.viewstamped.messages import Message
from viewstamp.protocols.viewstamped.options import ViewstampedOptions
from viewstamp.protocols.viewstamped.state import Failpoints, Point

DEFINITION = ProtocolDefinition(
    name="viewstamped",
    guarantees=Guarantees(
        commits_when="every member of the current view has it on disk",
        tolerates="minority",
        safe_under_partition=True,
        survives_full_restart=True,
        reads="linearizable",
        dynamic_membership=True,
        changes_members=True,
        agreed_views=True,
    ),
    options_type=ViewstampedOptions,
    message_type=Message,
    make_core=ViewstampedCore,
    make_oracle=ViewstampedOracle,
)

__all__ = ["DEFINITION", "Failpoints", "Point", "ViewstampedCore"]
