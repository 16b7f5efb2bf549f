"""Raft as in 6.5840, with what it needs outside a laboratory. `DEFINITION` is all that others need."""

from typing import Final

from viewstamp.core.guarantees import Guarantees
from viewstamp.core.protocol import ProtocolDefinition
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
    ),
    options_type=RaftOptions,
    message_type=RaftMessage,
    make_core=RaftCore,
    make_oracle=RaftOracle,
)

__all__ = ["DEFINITION", "RaftCore", "RaftMessage", "RaftOptions", "RaftOracle"]
