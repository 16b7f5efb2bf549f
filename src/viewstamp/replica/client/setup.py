"""What a client is made of."""

from random import Random
from typing import Literal

import msgspec

from viewstamp.core.ids import Instant, NodeId
from viewstamp.replica.options import ClientOptions


class ClientSetup(msgspec.Struct, frozen=True):
    """Everything that a client is made of."""

    servers: tuple[NodeId, ...]
    secret: bytes
    """`SECRET_BYTES` random bytes, drawn for each client ever made: never reuse them (docs/faults.md#k20).

    A program that knows them may speak for this client: they go to its servers and nowhere else.
    """
    rng: Random
    now: Instant
    options: ClientOptions = ClientOptions()
    exactly_once: bool = True
    """Whether commands run under a session. Without one a call is sent once, and may end in "unknown"."""
    write_routing: Literal["leader", "any"] = "leader"
