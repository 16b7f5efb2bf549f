"""What an operator may set about Raft. Every field has a default and is checked when the options are made."""

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import MICROSECONDS_PER_MS
from viewstamp.protocols.replication.node_state import ReplicationOptions, check_positive


class RaftOptions(ReplicationOptions, frozen=True, forbid_unknown_fields=True):
    """Equal at every member; durations in milliseconds, everything that can grow with a maximum.

    What concerns the log and its transport stands in `ReplicationOptions`.

    Raises:
        ConfigurationError: a value is out of range, or two of them do not fit together.
    """

    heartbeat_ms: int = 100
    """How often a leader sends heartbeats. With 3 members: 20 requests and 20 answers a second."""
    election_timeout_ms: int = 300
    """T: a follower campaigns after [T, 2T) of silence; a leader steps down after 2T without a majority."""
    introduce_ms: int = 100
    """How often a node that belongs to no configuration yet introduces itself."""

    def __post_init__(self) -> None:
        check_positive(self, "raft")
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
