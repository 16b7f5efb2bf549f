"""What an operator may set about viewstamped replication. Every field has a default and is checked."""

from typing import Final, Literal

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import MICROSECONDS_PER_MS, NodeId

_KIBIBYTE: Final = 1024
_MEBIBYTE: Final = 1024 * _KIBIBYTE
_DEFAULT_KEEP: Final = 16 * _MEBIBYTE
_MAY_BE_ZERO: Final = frozenset({"commit_announce_ms", "contact"})


class ViewstampedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Durations in milliseconds, everything that can grow with a maximum.

    Raises:
        ConfigurationError: a value is out of range, or two of them do not fit together.
    """

    heartbeat_ms: int = 100
    """The lowest member pings all others this often."""
    heartbeat_misses_max: int = 4
    """So many heartbeats in a row without a sign of life, and a member is taken for dead."""
    paxos_timeout_ms: int = 250
    """Unanswered prepares and accepts are sent again after this; a beaten proposer waits up to as long."""
    join_retry_ms: int = 200
    """How often a node outside the view asks to be let in."""
    founding: Literal["together", "alone", "join"] = "together"
    """How a node that knows of no view begins. `together`: the lowest configured member founds view 1
    once all others said that they know of none; they join it. `alone`: found view 1 at once. `join`: only
    ever join."""
    contact: NodeId | None = None
    """A node to ask for admission besides the configured members."""
    members_min: int | None = None
    """A view of fewer members does not serve: so many disks hold whatever is acknowledged. None: a majority
    of the configured members where they found together, else 1 as in the course."""
    message_bytes_max: int = _MEBIBYTE
    """Of entries in one message; a larger entry travels alone."""
    inflight_messages_max: int = 64
    """Unacknowledged messages with entries under way to one backup."""
    uncommitted_entries_max: int = 256
    """A primary with so many entries that are not committed yet is not `accepting`."""
    uncommitted_bytes_max: int = 16 * _MEBIBYTE
    """The same in bytes; also the bound of unacknowledged entries under way to one backup."""
    snapshot_chunk_bytes: int = 128 * _KIBIBYTE
    """Of a snapshot in one message: small, so that heartbeats pass between chunks."""
    snapshot_window_chunks: int = 8
    """Unacknowledged chunks under way to one backup."""
    log_bytes_max: int | None = 64 * _MEBIBYTE
    """A snapshot is taken when the log has grown to this. None: never."""
    log_keep_bytes: int | None = None
    """Of the log before a snapshot that are kept, so that a late backup needs the missing suffix only.
    None: a quarter of `log_bytes_max`."""
    commit_announce_ms: int = 10
    """An idle primary tells its backups after this what is committed; a busy one with the next entry or
    heartbeat."""
    reads_max: int = 65_536
    """Reads waiting at the primary; more are refused."""
    joiners_max: int = 64
    """Nodes waiting at the primary to be let in; more must ask again."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            least = 0 if name in _MAY_BE_ZERO else 1
            if isinstance(value, int) and value < least:
                raise ConfigurationError(f"viewstamped option {name} is {value}: it must be at least {least}")
        if self.founding == "join" and self.contact is None:
            raise ConfigurationError("viewstamped option founding is join: then contact must name a node")
        if self.log_bytes_max is not None and self.kept_bytes >= self.log_bytes_max:
            raise ConfigurationError(
                f"viewstamped option log_keep_bytes is {self.log_keep_bytes}: it must be less than "
                f"log_bytes_max ({self.log_bytes_max})"
            )

    @property
    def kept_bytes(self) -> int:
        """Of the log that stays when a snapshot covers it."""
        if self.log_keep_bytes is not None:
            return self.log_keep_bytes
        return (self.log_bytes_max or 4 * _DEFAULT_KEEP) // 4

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
