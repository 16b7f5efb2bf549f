"""Primary-backup: one server orders, the others follow (CS6650 assignment 3; PacificA, Lin et al. 2008).

Two protocols share this package. `DEFINITION`, the protocol `primary_backup`, is fenced: the operator
promotes a server, a majority grants it an epoch, and an older primary is refused. `COURSE`, the protocol
`primary_backup_course`, is the assignment's and stands in `course`: the server that is given a write is
primary. When the network is cut in two, the course's form has two primaries; the fenced one does not.

Reading order of the fenced form:

1. `messages` and `journal`: what is sent, what is on disk. `journal.SyncRecord` is the heart of it.
2. `state`: positions, promises, `ROLE_TRANSITIONS`.
3. `epoch`: how a node becomes primary.
4. `synchronous_set` and `leader`: what a commit needs, and how a primary brings its backups up.
5. `follower`, `bootstrap`, `admin`, `status`.
6. `core`: which part handles what. Then `protocols.replication`: the log and its transport, as in Raft.

Skip `judge` at first: it checks the protocol from outside. Where each piece of PacificA stands:

- 2.1, a request is prepared: `leader.Leader.propose`, `follower.Follower.on_append`
- 2.1, a request is committed: `leader.Leader.count`, later at backups: `follower.Follower.on_append`
- 2.2, the configuration, recorded by a manager (here by a majority): `journal.SyncRecord`
- 2.2, only a newer configuration replaces one: `state.State.adopt`, `synchronous_set.SynchronousSet.evaluate`
- 2.3, leases (here rounds of heartbeats): `leader.Leader.has_lost_quorum`, `leader.Leader.has_confirmed`
- 2.4, removal of a failed backup: `leader.Leader.revise`
- 2.4, change of primary: `admin.AdminRequests.transfer`, `epoch.EpochCampaign.begin`, `epoch.answer_fence`
- 2.4, reconciliation: `leader.Leader.begin`, `follower.Follower.on_append`
- 2.4, addition of a backup: `leader.Leader._caught_up`, `synchronous_set.SynchronousSet.propose`
- not in the paper, wiped disks: `bootstrap.Bootstrap`, `synchronous_set.SynchronousSet.to_send`
"""

from typing import Final

from viewstamp.core.protocol import Guarantees, ProtocolDefinition
from viewstamp.protocols.primary_backup.core import PrimaryBackupCore
from viewstamp.protocols.primary_backup.course.core import CourseCore
from viewstamp.protocols.primary_backup.course.messages import CourseMessage
from viewstamp.protocols.primary_backup.course.oracle import CourseOracle
from viewstamp.protocols.primary_backup.judge.oracle import PrimaryBackupOracle
from viewstamp.protocols.primary_backup.messages import FencedMessage
from viewstamp.protocols.primary_backup.options import CourseOptions, PrimaryBackupOptions

DEFINITION: Final = ProtocolDefinition(
    name="primary_backup",
    guarantees=Guarantees(
        commits_when="every synchronous member, a majority at least, has it on disk",
        tolerates="minority",
        safe_under_partition=True,
        survives_full_restart=True,
        reads="linearizable",
        dynamic_membership=False,
        changes_members=True,
    ),
    options_type=PrimaryBackupOptions,
    message_type=FencedMessage,
    make_core=PrimaryBackupCore,
    make_oracle=PrimaryBackupOracle,
    decided_by="operator",
)

COURSE: Final = ProtocolDefinition(
    name="primary_backup_course",
    guarantees=Guarantees(
        commits_when="every live server has it",
        tolerates="all_but_one",
        safe_under_partition=False,
        survives_full_restart=False,
        reads="one_behind",
        dynamic_membership=False,
    ),
    options_type=CourseOptions,
    message_type=CourseMessage,
    make_core=CourseCore,
    make_oracle=CourseOracle,
    write_routing="any",
    decided_by="clients",
    dials="on_demand",
)

__all__ = ["COURSE", "DEFINITION", "CourseCore", "CourseOptions", "PrimaryBackupCore", "PrimaryBackupOptions"]
