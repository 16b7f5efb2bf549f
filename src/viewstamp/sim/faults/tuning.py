"""Turns the drawn sizes into the options of a protocol and of a replica, whatever fields those have.

A protocol is not known here: of the fields below those are set that its options have. A field that an options
class does not have is left out, so a new protocol is tuned by using the same words for the same things.
"""

from typing import Any, TypeVar

import msgspec

from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.replica.options import ClientOptions, ReplicaOptions
from viewstamp.sim.faults.options import TuningOptions

_T = TypeVar("_T")

_ENTRY_BYTES = 200
"""About what an entry of the workloads takes in a journal."""


def with_known_fields(options: _T, values: dict[str, Any]) -> _T:
    """Return the options with those of the values whose fields they have."""
    known = {name: value for name, value in values.items() if name in options.__struct_fields__}  # type: ignore[attr-defined]
    return msgspec.structs.replace(options, **known)  # type: ignore[type-var]


def protocol_options(definition: ProtocolDefinition, tuning: TuningOptions) -> Any:
    """Return a protocol's options with the drawn sizes."""
    return with_known_fields(
        definition.options_type(),
        {
            "log_bytes_max": 2 * tuning.snapshot_entries * _ENTRY_BYTES,
            "message_entries_max": min(
                tuning.entries_in_flight_max, max(1, tuning.page_bytes // _ENTRY_BYTES)
            ),
            "message_bytes_max": tuning.page_bytes,
            "inflight_messages_max": tuning.entries_in_flight_max,
            "uncommitted_entries_max": tuning.entries_in_flight_max,
            "snapshot_chunk_bytes": tuning.chunk_bytes,
            "applies_per_step_max": tuning.applies_per_step,
            "reads_max": tuning.waiting_max,
        },
    )


def replica_options(tuning: TuningOptions) -> ReplicaOptions:
    """Return a replica's options with the drawn sizes."""
    options = with_known_fields(
        ReplicaOptions(),
        {
            "batch_commands_max": tuning.batch_max,
            "gathered_commands_max": max(tuning.waiting_max, tuning.batch_max),
            "reads_max": tuning.waiting_max,
        },
    )
    sessions = with_known_fields(
        options.sessions,
        {
            "time_to_live_ms": tuning.session_seconds * 1_000,
            "sessions_max": tuning.sessions_max,
            "results_per_session_max": tuning.results_max,
        },
    )
    return msgspec.structs.replace(options, sessions=sessions)


def client_options(tuning: TuningOptions) -> ClientOptions:
    """Return a client's options that fit those of the replicas."""
    return with_known_fields(
        ClientOptions(), {"message_calls_max": tuning.batch_max, "window": tuning.results_max // 2}
    )
