"""What an operator may set about Raft. Every field has a default and is checked when the options are made."""

from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import MICROSECONDS_PER_MS

_KIBIBYTE: Final = 1024
_MEBIBYTE: Final = 1024 * _KIBIBYTE


class RaftOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Equal at every member; durations in milliseconds, everything that can grow with a maximum.

    Raises:
        ConfigurationError: a value is out of range, or two of them do not fit together.
    """

    heartbeat_ms: int = 100
    """A leader is heard of this often. With 3 members: 20 requests and 20 answers a second when idle."""
    election_timeout_ms: int = 300
    """T: a follower campaigns after [T, 2T) of silence; a leader retires after 2T without a majority."""
    introduce_ms: int = 100
    """How often a node that belongs to no configuration yet introduces itself."""
    log_bytes_max: int | None = 64 * _MEBIBYTE
    """Compaction starts at half of it, so that the log stays within (6.5840: maxraftstate). None: never."""
    message_entries_max: int = 256
    message_bytes_max: int = _MEBIBYTE
    """Of entries in one message; a larger entry travels alone."""
    inflight_messages_max: int = 64
    """Unanswered messages with entries under way to one follower."""
    inflight_bytes_max: int = 8 * _MEBIBYTE
    uncommitted_entries_max: int = 256
    """A leader with so many entries that are not committed yet is not `accepting`."""
    uncommitted_bytes_max: int = 16 * _MEBIBYTE
    snapshot_chunk_bytes: int = 64 * _KIBIBYTE
    snapshot_window_chunks: int = 4
    """Unanswered chunks under way to one follower; heartbeats and entries pass between them."""
    reads_max: int = 65_536
    """Reads waiting at one node; more are refused."""
    applies_per_step_max: int = 1_024
    """Entries applied in one step, so that a long log does not hold up heartbeats."""
    apply_bytes_per_step_max: int = 64 * _KIBIBYTE
    """Bytes of them, unless a single one is larger: about 10 ms of small commands."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"raft option {name} is {value}: it must be at least 1")
        if self.election_timeout_ms < 2 * self.heartbeat_ms:
            raise ConfigurationError(
                f"raft option election_timeout_ms is {self.election_timeout_ms}: it must be at least twice "
                f"heartbeat_ms ({self.heartbeat_ms}), or one lost heartbeat makes an election"
            )

    @property
    def heartbeat_us(self) -> int:
        """`heartbeat_ms` in microseconds."""
        return self.heartbeat_ms * MICROSECONDS_PER_MS

    @property
    def election_timeout_us(self) -> int:
        """`election_timeout_ms` in microseconds."""
        return self.election_timeout_ms * MICROSECONDS_PER_MS

    @property
    def introduce_us(self) -> int:
        """`introduce_ms` in microseconds."""
        return self.introduce_ms * MICROSECONDS_PER_MS
