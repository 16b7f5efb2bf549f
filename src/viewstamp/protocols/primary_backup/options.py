"""What an operator may set about primary-backup, in each of its two modes. Checked when made."""

from typing import Any, Final, Literal

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import MICROSECONDS_PER_MS

_KIBIBYTE: Final = 1024
_MEBIBYTE: Final = 1024 * _KIBIBYTE


def _check_positive(options: Any) -> None:
    for name in options.__struct_fields__:
        value = getattr(options, name)
        if isinstance(value, int) and value < 1:
            raise ConfigurationError(f"primary_backup option {name} is {value}: it must be at least 1")


class PrimaryBackupOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Equal at every member; durations in milliseconds, everything that can grow with a maximum.

    Raises:
        ConfigurationError: a value is out of range, or two of them do not fit together.
    """

    mode: Literal["fenced"] = "fenced"
    """The course's form is a protocol of its own, `primary_backup_course`: what it promises differs."""
    heartbeat_ms: int = 100
    """A primary is heard of this often."""
    silence_ms: int = 500
    """A backup silent for so long is dropped from the synchronous set; a primary silent for so long is not
    named to clients any more. A primary without a majority for twice as long stops to lead."""
    promotion_timeout_ms: int = 3_000
    """A promotion that has not succeeded after so long is refused to the operator who asked for it."""
    introduce_ms: int = 100
    """How often a node that belongs to no cluster yet, or has forgotten its promises, introduces itself."""
    log_bytes_max: int | None = 64 * _MEBIBYTE
    """Compaction starts at half of it, so that the log stays within. None: never."""
    message_entries_max: int = 256
    message_bytes_max: int = _MEBIBYTE
    """Of entries in one message; a larger entry travels alone."""
    inflight_messages_max: int = 64
    """Unanswered messages with entries under way to one backup."""
    inflight_bytes_max: int = 8 * _MEBIBYTE
    uncommitted_entries_max: int = 256
    """A primary with so many entries that are not committed yet is not `accepting`."""
    uncommitted_bytes_max: int = 16 * _MEBIBYTE
    snapshot_chunk_bytes: int = 64 * _KIBIBYTE
    snapshot_window_chunks: int = 4
    """Unanswered chunks under way to one backup; heartbeats and entries pass between them."""
    reads_max: int = 65_536
    """Reads waiting at the primary; more are refused."""
    applies_per_step_max: int = 1_024
    """Entries applied in one step, so that a long log does not hold up heartbeats."""
    apply_bytes_per_step_max: int = 64 * _KIBIBYTE
    """Bytes of them, unless a single one is larger."""

    def __post_init__(self) -> None:
        _check_positive(self)
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
    """Of the course's form.

    Raises:
        ConfigurationError: a value is out of range.
    """

    mode: Literal["course"] = "course"
    reply_timeout_ms: int = 5_000
    """A backup that owes an answer for so long counts as failed: its host is gone without a word."""
    catch_up_window: int = 32
    """Entries, each in a message of its own, that may be under way to a server that is being repaired."""
    applies_per_step_max: int = 1_024
    """Entries applied in one step."""

    def __post_init__(self) -> None:
        _check_positive(self)

    @property
    def reply_timeout_us(self) -> int:
        """`reply_timeout_ms` in microseconds."""
        return self.reply_timeout_ms * MICROSECONDS_PER_MS
