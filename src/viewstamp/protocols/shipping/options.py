"""What an operator may set about a log and its transport: a part of each protocol's options."""

from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError

_KIBIBYTE: Final = 1024
_MEBIBYTE: Final = 1024 * _KIBIBYTE


class ShippingOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Equal at every member. A protocol's options add its own to these, and check them all when made."""

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


def check_positive(options: msgspec.Struct, protocol: str) -> None:
    """Check that every number among a protocol's options is at least 1.

    Raises:
        ConfigurationError: one is not.
    """
    for name in options.__struct_fields__:
        value = getattr(options, name)
        if isinstance(value, int) and value < 1:
            raise ConfigurationError(f"{protocol} option {name} is {value}: it must be at least 1")
