"""Primary-backup: one server orders, the others follow (CS6650 assignment 3; PacificA).

Two protocols share this package. `DEFINITION`, the protocol `primary_backup`, is fenced: the operator
promotes a server, a majority grants it an epoch, and an older primary is refused. `COURSE`, the protocol
`primary_backup_course`, is the assignment's: whoever is given a write is primary. Cut in two, it has two.
"""

from typing import Final

from viewstamp.core.guarantees import Guarantees
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.protocols.primary_backup.core import PrimaryBackupCore
from viewstamp.protocols.primary_backup.course.core import CourseCore
from viewstamp.protocols.primary_backup.course.oracle import CourseOracle
from viewstamp.protocols.primary_backup.judge.oracle import PrimaryBackupOracle
from viewstamp.protocols.primary_backup.messages import CourseMessage, FencedMessage
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
