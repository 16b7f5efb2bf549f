"""What an operator may set about viewstamped replication. Every field has a default and is checked."""

from typing import Final, Literal

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import MICROSECONDS_PER_MS, NodeId
from viewstamp.protocols.replication.node_state import ReplicationOptions

_KIBIBYTE: Final = 1024
_MAY_BE_ZERO: Final = frozenset({"commit_announce_ms", "contact"})


class ViewstampedOptions(ReplicationOptions, frozen=True, forbid_unknown_fields=True):
    """Durations in milliseconds, everything that can grow with a maximum.

    What concerns the log and its transport stands in `ReplicationOptions`; a follower is a backup here.

    Raises:
        ConfigurationError: a value is out of range, or two of them do not fit together.
    """

    snapshot_chunk_bytes: int = 128 * _KIBIBYTE
    snapshot_window_chunks: int = 8
    apply_bytes_per_step_max: int = 16 * _KIBIBYTE
    """Less than elsewhere, about 2 ms of small commands: a backup's promises go first."""
    heartbeat_ms: int = 100
    """The lowest member pings all others this often."""
    heartbeat_misses_max: int = 4
    """A member that answers none of N heartbeats in a row counts as dead."""
    paxos_timeout_ms: int = 250
    """Unanswered prepares and accepts are sent again after this; a rejected proposer waits up to as long."""
    join_retry_ms: int = 200
    """How often a node outside the view asks to join."""
    bootstrap: Literal["together", "alone", "join"] = "together"
    """How a node that knows no view begins. `together`: the lowest configured member makes view 1
    after all others said that they know none; they join it. `alone`: make view 1 at once. `join`: only
    ever join."""
    contact: NodeId | None = None
    """A node to ask for admission besides the configured members."""
    members_min: int | None = None
    """A view of fewer members does not serve: whatever is acknowledged is on at least N disks. None: a
    majority of the configured members where they bootstrap together, else 1 as in the course."""
    commit_announce_ms: int = 10
    """An idle primary tells its backups after this what is committed; a busy one with the next entry or
    heartbeat."""
    joiners_max: int = 64
    """Nodes waiting at the primary to join; more must ask again."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            least = 0 if name in _MAY_BE_ZERO else 1
            if isinstance(value, int) and value < least:
                raise ConfigurationError(f"viewstamped option {name} is {value}: it must be at least {least}")
        if self.bootstrap == "join" and self.contact is None:
            raise ConfigurationError("viewstamped option bootstrap is join: then contact must name a node")

    @property
    def heartbeat_us(self) -> int:
        """`heartbeat_ms` in microseconds."""
        return self.heartbeat_ms * MICROSECONDS_PER_MS

    @property
    def paxos_timeout_us(self) -> int:
        """`paxos_timeout_ms` in microseconds."""
        return self.paxos_timeout_ms * MICROSECONDS_PER_MS

    @property
    def join_retry_us(self) -> int:
        """`join_retry_ms` in microseconds."""
        return self.join_retry_ms * MICROSECONDS_PER_MS

    @property
    def commit_announce_us(self) -> int:
        """`commit_announce_ms` in microseconds."""
        return self.commit_announce_ms * MICROSECONDS_PER_MS
