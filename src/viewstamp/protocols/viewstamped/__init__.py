"""Viewstamped replication: Paxos agrees on views; in a view every member has each entry on its disk."""

from viewstamp.core.guarantees import Guarantees
from viewstamp.core.protocol import ProtocolDefinition
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
        agreed_views=True,
    ),
    options_type=ViewstampedOptions,
    message_type=Message,
    make_core=ViewstampedCore,
    make_oracle=ViewstampedOracle,
)

__all__ = ["DEFINITION", "Failpoints", "Point", "ViewstampedCore"]
