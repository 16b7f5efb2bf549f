"""Turns the drawn sizes into the options of a protocol and of a replica.

The words are the same for every protocol. A field that a protocol's options lack must be listed for it in
`NOT_APPLICABLE`, with the reason; any other unknown field is an error. So no protocol is left out by a name
that differs, and no size is drawn that nobody reads.
"""

from typing import Any, Final, TypeVar

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.replica.options import ClientOptions, ReplicaOptions
from viewstamp.sim.world.options import TuningOptions

_T = TypeVar("_T")

_OWN_SESSION_S: Final = 5
"""What a client asks for that has a session of its own length."""
_ENTRY_BYTES: Final = 200
"""About what an entry of the workloads takes in a journal."""


NOT_APPLICABLE: Final[dict[str, frozenset[str]]] = {
    # A server copies its whole log to a new backup: no snapshots, no batches of entries, no waiting reads.
    "primary_backup_course": frozenset(
        {
            "inflight_messages_max",
            "log_bytes_max",
            "message_bytes_max",
            "message_entries_max",
            "reads_max",
            "snapshot_chunk_bytes",
            "snapshot_window_chunks",
            "uncommitted_entries_max",
        }
    ),
}
"""For each protocol the common fields that its options do not have."""


def with_fields(options: _T, values: dict[str, Any], *, lacking: frozenset[str] = frozenset()) -> _T:
    """Return the options with these values.

    Args:
        options: any `msgspec.Struct`.
        values: by the name of the field.
        lacking: names that are left out where the options do not have them.

    Raises:
        ConfigurationError: the options lack a field that is not among `lacking`.
    """
    fields = frozenset(options.__struct_fields__)  # type: ignore[attr-defined]
    unknown = sorted(values.keys() - fields - lacking)
    if unknown:
        raise ConfigurationError(f"{type(options).__name__} has no field {', '.join(unknown)}")
    known = {name: value for name, value in values.items() if name in fields}
    return msgspec.structs.replace(options, **known)  # type: ignore[type-var]


def options_with(definition: ProtocolDefinition, values: dict[str, Any]) -> Any:
    """Return a protocol's default options with these values, without those that do not apply to it.

    Raises:
        ConfigurationError: no such field is known for this protocol.
    """
    lacking = NOT_APPLICABLE.get(definition.name, frozenset())
    return with_fields(definition.options_type(), values, lacking=lacking)


def drawn_sizes(tuning: TuningOptions) -> dict[str, int]:
    """Return the drawn sizes by the names that protocols give them."""
    return {
        "log_bytes_max": 2 * tuning.snapshot_entries * _ENTRY_BYTES,
        "message_entries_max": min(tuning.entries_in_flight_max, max(1, tuning.page_bytes // _ENTRY_BYTES)),
        "message_bytes_max": tuning.page_bytes,
        "inflight_messages_max": tuning.entries_in_flight_max,
        "uncommitted_entries_max": tuning.entries_in_flight_max,
        "snapshot_chunk_bytes": tuning.chunk_bytes,
        "applies_per_step_max": tuning.applies_per_step,
        "reads_max": tuning.waiting_max,
    }


def protocol_options(definition: ProtocolDefinition, tuning: TuningOptions) -> Any:
    """Return a protocol's options with the drawn sizes."""
    return options_with(definition, drawn_sizes(tuning))


def replica_options(tuning: TuningOptions) -> ReplicaOptions:
    """Return a replica's options with the drawn sizes."""
    options = with_fields(
        ReplicaOptions(),
        {
            "batch_commands_max": tuning.batch_max,
            "gathered_commands_max": max(tuning.waiting_max, tuning.batch_max),
            "reads_max": tuning.waiting_max,
        },
    )
    sessions = with_fields(
        options.sessions,
        {
            "time_to_live_ms": tuning.session_seconds * 1_000,
            "sessions_max": tuning.sessions_max,
            "results_per_session_max": tuning.results_max,
        },
    )
    return msgspec.structs.replace(options, sessions=sessions)


def client_options(tuning: TuningOptions, client: int) -> ClientOptions:
    """Return the options of the client with this number; they fit those of the replicas.

    One client in three asks for a session of its own length: shorter than the cluster's or longer.
    """
    wanted_ms = 0 if client % 3 else 1_000 * (_OWN_SESSION_S if client % 2 else 2 * tuning.session_seconds)
    return with_fields(
        ClientOptions(),
        {
            "message_calls_max": tuning.batch_max,
            "window": tuning.results_max // 2,
            "session_time_to_live_ms": wanted_ms,
        },
    )
