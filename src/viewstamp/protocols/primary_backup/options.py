"""The options of primary-backup that an operator may set, in each of its two modes. Checked when made."""

from typing import Literal

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import MICROSECONDS_PER_MS
from viewstamp.protocols.replication.node_state import ReplicationOptions, check_positive


class PrimaryBackupOptions(ReplicationOptions, frozen=True, forbid_unknown_fields=True):
    """Equal at every member; durations in milliseconds, everything that can grow with a maximum.

    The options of the log and its transport are in `ReplicationOptions`.

    Raises:
        ConfigurationError: a value is out of range, or two of them do not fit together.
    """

    mode: Literal["fenced"] = "fenced"
    """The course's form is a protocol of its own, `primary_backup_course`: its guarantees differ."""
    heartbeat_ms: int = 100
    """A primary sends a heartbeat this often."""
    silence_ms: int = 500
    """A backup silent for this long is dropped from the synchronous set; a primary silent for this long is no
    longer named to clients. A primary without a majority for twice as long steps down."""
    promotion_timeout_ms: int = 3_000
    """A promotion that has not succeeded after this long is reported as refused."""
    introduce_ms: int = 100
    """How often a node without a log, or with a wiped disk, introduces itself."""

    def __post_init__(self) -> None:
        check_positive(self, "primary_backup")
        if self.silence_ms < 2 * self.heartbeat_ms:
            raise ConfigurationError(
                f"primary_backup option silence_ms is {self.silence_ms}: it must be at least twice "
                f"heartbeat_ms ({self.heartbeat_ms}), or one lost heartbeat drops a backup"
            )

    @property
    def heartbeat_us(self) -> int:
        """`heartbeat_ms` in microseconds."""
        return self.heartbeat_ms * MICROSECONDS_PER_MS

    @property
    def silence_us(self) -> int:
        """`silence_ms` in microseconds."""
        return self.silence_ms * MICROSECONDS_PER_MS

    @property
    def promotion_timeout_us(self) -> int:
        """`promotion_timeout_ms` in microseconds."""
        return self.promotion_timeout_ms * MICROSECONDS_PER_MS

    @property
    def introduce_us(self) -> int:
        """`introduce_ms` in microseconds."""
        return self.introduce_ms * MICROSECONDS_PER_MS


class CourseOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options of the course's form.

    Raises:
        ConfigurationError: a value is out of range.
    """

    mode: Literal["course"] = "course"
    reply_timeout_ms: int = 5_000
    """A backup that leaves a message unanswered for this long counts as failed."""
    catch_up_window: int = 32
    """Entries in flight, each in a message of its own, to a server that is being repaired."""
    applies_per_step_max: int = 1_024
    """Entries applied in one step."""

    def __post_init__(self) -> None:
        check_positive(self, "primary_backup")

    @property
    def reply_timeout_us(self) -> int:
        """`reply_timeout_ms` in microseconds."""
        return self.reply_timeout_ms * MICROSECONDS_PER_MS
