"""What a protocol promises, as data: the simulator picks faults by it, the README prints it."""

from typing import Literal

import msgspec


class Guarantees(msgspec.Struct, frozen=True):
    """The promises of one protocol."""

    commits_when: str
    """In a few words: what makes an acknowledgement possible."""
    tolerates: Literal["minority", "all_but_one"]
    """How many members may be down while the service goes on."""
    safe_under_partition: bool
    """Whether a cut network can never make two answers disagree."""
    survives_full_restart: bool
    """Whether all members may crash at once and lose nothing acknowledged."""
    reads: Literal["linearizable", "one_behind"]
    """What a read at default settings may return."""
    dynamic_membership: bool
    """Whether members change while the service runs."""
    agreed_views: bool = False
    """Whether each view has members of its own that were agreed on before it began; its oracle is then a
    `core.invariants.ViewOracle`."""
